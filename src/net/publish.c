/* SPDX-License-Identifier: Apache-2.0 */
#include "net/publish.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/parse.h"

#define TABLE_MAX (16 * MIB) /* of /proc/net/tcp */

static bool address_valid(const char *ip)
{
	struct in6_addr any;

	return inet_pton(AF_INET, ip, &any) == 1 || inet_pton(AF_INET6, ip, &any) == 1;
}

static int parse_port(const char *text, unsigned least, uint16_t *ret_port)
{
	unsigned value;
	int r = parse_uint(text, least, 65535, &value);

	if (r == 0)
		*ret_port = (uint16_t)value;
	return r;
}

/* Cuts the address off text, if there is one. Returns where the ports begin, NULL if it is none. */
static char *cut_address(char *text, struct net_port *port)
{
	char *ports, *ip = text;

	if (*text == '[') {
		ports = strstr(text, "]:");
		if (!ports)
			return NULL;
		ip++;
		*ports = 0;
		ports += 2;
	} else {
		ports = strchr(text, ':');
		if (!ports || !strchr(ports + 1, ':'))
			return text;
		*ports++ = 0;
	}
	if (strlen(ip) >= sizeof(port->host_ip) || !address_valid(ip))
		return NULL;
	snprintf(port->host_ip, sizeof(port->host_ip), "%s", ip);
	return ports;
}

int publish_parse(const char *text, struct net_port *ret_port, struct err *err)
{
	auto_free char *copy = strdup(text);
	struct net_port port = { 0 };
	char *ports, *guest, *proto;

	if (!copy)
		return err_errno(err, ENOMEM, "cannot read a port");
	proto = strchr(copy, '/');
	if (proto)
		*proto++ = 0;
	ports = cut_address(copy, &port);
	guest = ports ? strchr(ports, ':') : NULL;
	if (guest)
		*guest++ = 0;
	if (!guest || parse_port(ports, 0, &port.host) < 0 ||
		parse_port(guest, 1, &port.guest) < 0 ||
		(proto && strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0))
		return err_set(
			err, EINVAL, "'%s' is no published port ([IP:]HOST:GUEST[/udp])", text);
	port.udp = proto && *proto == 'u';
	*ret_port = port;
	return 0;
}

void publish_format(const struct net_port *p, char *out)
{
	const char *open = strchr(p->host_ip, ':') ? "[" : "", *close = *open ? "]" : "";

	snprintf(out, PUBLISH_TEXT, "%s%s%s%s%u:%u%s", open, p->host_ip, close,
		p->host_ip[0] ? ":" : "", p->host, p->guest, p->udp ? "/udp" : "");
}

/* The inode of a socket that is bound to the port (proc(5): /proc/net/tcp), 0 if none is found. */
static uint64_t socket_on_port(const char *table, const struct net_port *port)
{
	auto_free char *text = NULL;
	char *rest = NULL;

	if (fs_read_file(AT_FDCWD, table, TABLE_MAX, &text, NULL) < 0)
		return 0;
	strtok_r(text, "\n", &rest);
	for (char *line = strtok_r(NULL, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		unsigned local, state;
		unsigned long long inode;

		if (sscanf(line,
			    "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %llu",
			    &local, &state, &inode) == 3 &&
			local == port->host && (port->udp || state == 10 /* TCP_LISTEN */))
			return inode;
	}
	return 0;
}

static bool holds(const char *pid, const char *socket)
{
	auto_closedir DIR *dir = NULL;
	char path[300], target[64];
	struct dirent *de;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		n = readlinkat(dirfd(dir), de->d_name, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = 0;
		if (strcmp(target, socket) == 0)
			return true;
	}
	return false;
}

/* " (held by NAME, pid N)" if the process may be looked at, else "". */
static void find_holder(const struct net_port *port, char *out, size_t size)
{
	static const char *const tables[2][2] = {
		{ "/proc/net/tcp", "/proc/net/tcp6" },
		{ "/proc/net/udp", "/proc/net/udp6" },
	};
	auto_closedir DIR *proc = opendir("/proc");
	uint64_t inode = socket_on_port(tables[port->udp][0], port);
	char socket[64], path[64];
	struct dirent *de;

	*out = 0;
	if (!inode)
		inode = socket_on_port(tables[port->udp][1], port);
	if (!inode)
		return;
	snprintf(socket, sizeof(socket), "socket:[%llu]", (unsigned long long)inode);
	while (proc && (de = readdir(proc))) {
		auto_free char *name = NULL;

		if (de->d_name[0] < '1' || de->d_name[0] > '9' || !holds(de->d_name, socket))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", de->d_name);
		if (fs_read_file(AT_FDCWD, path, 256, &name, NULL) < 0)
			break;
		name[strcspn(name, "\n")] = 0;
		snprintf(out, size, " (held by %.20s, pid %.20s)", name, de->d_name);
		break;
	}
}

int publish_error(const struct net_port *port, int code, struct err *err)
{
	const char *proto = port->udp ? "UDP" : "TCP",
		   *ip = port->host_ip[0] ? port->host_ip : "all addresses";
	char holder[80];

	if (code == EADDRINUSE) {
		find_holder(port, holder, sizeof(holder));
		return err_set(err, code,
			"%s port %u on %s is already in use%s: choose another with -p", proto,
			port->host, ip, holder);
	}
	if (code == EACCES)
		return err_set(err, code,
			"%s port %u needs root: choose one from 1024 on, or sudo sysctl "
			"net.ipv4.ip_unprivileged_port_start=%u",
			proto, port->host, port->host);
	if (code == EADDRNOTAVAIL)
		return err_set(err, code,
			"cannot publish %s port %u: %s is no address of this host", proto,
			port->host, ip);
	return err_errno(err, code, "cannot publish %s port %u on %s", proto, port->host, ip);
}
