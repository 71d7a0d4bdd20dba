/* SPDX-License-Identifier: Apache-2.0 */
#include "tunnel/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* 1: loopback, 0: another address, -EINVAL: a name. */
static int is_loopback(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return -EINVAL;
}

/* HOST, HOST:PORT, [HOST]:PORT of authority; its parts to host and, if it is there, *ret_port
 * (borrowed).
 */
static int split(const char *authority, char *host, size_t size, const char **ret_port)
{
	const char *end = authority + strcspn(authority, ":");
	const char *begin = authority;

	if (*authority == '[') {
		begin++;
		end = strchr(authority, ']');
	}
	if (!end || end == begin || (size_t)(end - begin) >= size)
		return -EINVAL;
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = 0;
	end += *end == ']';
	if (*end == ':')
		*ret_port = end + 1;
	return *end && *end != ':' ? -EINVAL : 0;
}

/* rest: what follows the scheme. */
static int parse_http(const char *rest, const struct tunnel_url_opts *opts, struct tunnel_url *url)
{
	const char *port = url->tls ? "443" : "80";
	char address[sizeof(url->addr.host)] = "", text[sizeof(address) + 32];
	size_t len = strcspn(rest, "/");
	int r;

	/* A path would be a mistake: the methods have theirs. */
	if (len >= sizeof(url->authority) || (rest[len] && rest[len + 1]))
		return -EINVAL;
	memcpy(url->authority, rest, len);
	url->authority[len] = 0;
	if (split(url->authority, url->host, sizeof(url->host), &port) < 0)
		return -EINVAL;
	r = is_loopback(url->host);
	if (strcmp(url->host, "localhost") == 0)
		snprintf(address, sizeof(address), "127.0.0.1");
	else if (r >= 0)
		snprintf(address, sizeof(address), "%.*s", (int)sizeof(address) - 1, url->host);
	else if (!opts || (!opts->resolve && !opts->later))
		return -ENXIO;
	else if (!opts->resolve)
		url->named = true;
	else if (opts->resolve(url->host, address, sizeof(address)) < 0)
		return -EHOSTUNREACH;
	url->exposed = !url->tls && (url->named || is_loopback(address) != 1);
	snprintf(text, sizeof(text), "tcp:%s:%s", url->named ? "0.0.0.0" : address, port);
	return addr_parse(text, &url->addr, NULL);
}

int tunnel_url_parse(const char *text, const struct tunnel_url_opts *opts,
	struct tunnel_url *ret_url, struct err *err)
{
	struct tunnel_url url = { .authority = "localhost" };
	int r = -EINVAL;

	url.tls = strncmp(text, "https://", 8) == 0;
	if (url.tls && (!opts || !opts->tls))
		return err_set(err, EPROTONOSUPPORT,
			"'%s' needs TLS, which this agent was built without", text);
	if (strncmp(text, "unix:", 5) == 0)
		r = addr_parse(text, &url.addr, NULL);
	else if (url.tls || strncmp(text, "http://", 7) == 0)
		r = parse_http(text + (url.tls ? 8 : 7), opts, &url);
	if (r == -ENXIO)
		return err_set(err, EINVAL,
			"the name in '%s' cannot be looked up by this agent: give an address",
			text);
	if (r == -EHOSTUNREACH)
		return err_set(err, EHOSTUNREACH, "the name in '%s' is not known", text);
	if (r < 0)
		return err_set(err, EINVAL, "'%s' is no server: give unix:///PATH or %s", text,
			opts && opts->tls ? "https://HOST:PORT" : "http://IP:PORT");
	*ret_url = url;
	return 0;
}
