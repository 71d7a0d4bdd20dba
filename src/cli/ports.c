/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"

#define SPEC_MAX 128

struct range {
	unsigned from, to;
};

static int parse_range(char *s, unsigned min, struct range *ret)
{
	char *dash = strchr(s, '-');

	if (dash)
		*dash = 0;
	if (parse_uint(s, min, 65535, &ret->from) < 0)
		return -EINVAL;
	ret->to = ret->from;
	if (dash && parse_uint(dash + 1, min, 65535, &ret->to) < 0)
		return -EINVAL;
	return ret->to < ret->from ? -EINVAL : 0;
}

int ports_take_ip(char **s, char out[static 46])
{
	char *end, *rest, ip[SPEC_MAX];
	unsigned char addr[16];

	out[0] = 0;
	if (**s == '[') {
		end = strchr(*s, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		rest = end + 2;
		snprintf(ip, sizeof(ip), "%.*s", (int)(end - *s - 1), *s + 1);
		if (inet_pton(AF_INET6, ip, addr) != 1)
			return -EINVAL;
	} else {
		end = strchr(*s, ':');
		if (!end || !strchr(end + 1, ':'))
			return 0;
		rest = end + 1;
		snprintf(ip, sizeof(ip), "%.*s", (int)(end - *s), *s);
		if (*ip && inet_pton(AF_INET, ip, addr) != 1)
			return -EINVAL;
	}
	snprintf(out, 46, "%.45s", ip);
	*s = rest;
	return 0;
}

static int parse(char *s, struct sandbox_port *ret_port, struct range *host, struct range *guest)
{
	char *slash = strrchr(s, '/'), *colon;

	if (slash) {
		*slash = 0;
		ret_port->udp = strcmp(slash + 1, "udp") == 0;
		if (!ret_port->udp && strcmp(slash + 1, "tcp") != 0)
			return -EINVAL;
	}
	if (ports_take_ip(&s, ret_port->host_ip) < 0)
		return -EINVAL;
	colon = strchr(s, ':');
	*host = (struct range){ 0, 0 };
	if (colon) {
		*colon = 0;
		if (*s && parse_range(s, 0, host) < 0)
			return -EINVAL;
		s = colon + 1;
	}
	return parse_range(s, 1, guest);
}

int ports_parse(const char *spec, struct port_list *list, struct err *err)
{
	struct sandbox_port port = { 0 };
	struct range host, guest;
	char copy[SPEC_MAX];
	unsigned n;

	if (strlen(spec) >= sizeof(copy))
		return err_set(err, EINVAL,
			"option '--publish' is '%.40s...': that is too long for a port", spec);
	memcpy(copy, spec, strlen(spec) + 1);
	if (parse(copy, &port, &host, &guest) < 0)
		return err_set(err, EINVAL,
			"option '--publish' is '%s': give [IP:][HOST:]CONTAINER[/tcp|udp], such as "
			"8080:80",
			spec);
	n = guest.to - guest.from + 1;
	if (host.from && host.to - host.from + 1 != n)
		return err_set(err, EINVAL,
			"option '--publish' is '%s': both ranges must be of the same length", spec);
	if (list->n + n > LIMIT_PORTS)
		return err_set(err, E2BIG,
			"option '--publish' is '%s': a sandbox has %d published ports at most",
			spec, LIMIT_PORTS);
	if (!list->v)
		list->v = calloc(LIMIT_PORTS, sizeof(*list->v));
	if (!list->v)
		return err_errno(err, ENOMEM, "cannot keep the ports");
	for (unsigned i = 0; i < n; i++) {
		port.host = (uint16_t)(host.from ? host.from + i : 0);
		port.guest = (uint16_t)(guest.from + i);
		list->v[list->n++] = port;
	}
	return 0;
}
