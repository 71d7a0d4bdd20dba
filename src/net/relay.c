/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a connection is two pumps, one each way, each with a buffer of one size that is
 * either being filled or emptied; the end of one side is passed on as a half-close once the buffer
 * is empty. Each pass over the list gives poll(2) the descriptors in the same order in which the
 * next pass reads the answers.
 */
#include "net/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "io/addr.h"

#define BUFFER	16384
#define BACKLOG 128

struct pump {
	char buf[BUFFER];
	size_t from, to;  /* what is in it */
	bool ended, done; /* its source has, its end was passed on */
};

struct connection {
	struct list link;
	int fds[2]; /* the client's, ours to 127.0.0.1 */
	struct pump pumps[2];
};

struct listener {
	int fd;
	uint16_t to;
};

struct relay {
	struct listener listeners[LIMIT_PORTS];
	unsigned n_listeners, n_connections;
	struct list connections;
};

int relay_new(struct relay **ret_relay)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	list_init(&r->connections);
	*ret_relay = r;
	return 0;
}

static void drop(struct relay *r, struct connection *c)
{
	list_remove(&c->link);
	safe_close(c->fds[0]);
	safe_close(c->fds[1]);
	free(c);
	r->n_connections--;
}

struct relay *relay_free(struct relay *r)
{
	struct connection *c, *tmp;

	if (!r)
		return NULL;
	list_foreach_safe (c, tmp, &r->connections, link)
		drop(r, c);
	for (unsigned i = 0; i < r->n_listeners; i++)
		safe_close(r->listeners[i].fd);
	free(r);
	return NULL;
}

int relay_listen(struct relay *r, const char *host_ip, uint16_t port, uint16_t to)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (r->n_listeners >= LIMIT_PORTS)
		return -ENOSPC;
	if (inet_pton(AF_INET6, host_ip, &sin6.sin6_addr) != 1)
		return -EINVAL;
	if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	r->listeners[r->n_listeners++] = (struct listener){ take_fd(&fd), to };
	return 0;
}

static void join(struct relay *r, int client, uint16_t to)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(to),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_close int near = client;
	auto_close int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct connection *c;

	addr_send_at_once(near);
	addr_send_at_once(far);
	if (far < 0 ||
		(connect(far, (struct sockaddr *)&sin, sizeof(sin)) < 0 && errno != EINPROGRESS))
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->fds[0] = take_fd(&near);
	c->fds[1] = take_fd(&far);
	list_add_tail(&r->connections, &c->link);
	r->n_connections++;
}

/* What fd side (0 or 1) is to be polled for: room to read into its pump, or bytes in the other's.
 */
static short wanted(const struct connection *c, int side)
{
	const struct pump *in = &c->pumps[side], *out = &c->pumps[!side];

	return (short)((!in->ended && in->from == in->to ? POLLIN : 0) |
		       (out->from < out->to ? POLLOUT : 0));
}

unsigned relay_fill(struct relay *r, struct pollfd *fds)
{
	struct connection *c;
	unsigned n = 0;

	for (unsigned i = 0; i < r->n_listeners; i++)
		fds[n++] = (struct pollfd){
			.fd = r->n_connections < LIMIT_NET_RELAYS ? r->listeners[i].fd : -1,
			.events = POLLIN
		};
	list_foreach (c, &r->connections, link)
		for (int side = 0; side < 2; side++) {
			short events = wanted(c, side);

			/* With nothing wanted a hangup would wake us for ever. */
			fds[n++] = (struct pollfd){ .fd = events ? c->fds[side] : -1,
				.events = events };
		}
	return n;
}

/* Moves what can be moved from side to the other. False: the connection is broken. */
static bool pump(struct connection *c, int side)
{
	struct pump *p = &c->pumps[side];
	ssize_t n;

	if (!p->ended && p->from == p->to) {
		n = recv(c->fds[side], p->buf, sizeof(p->buf), MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
		p->ended = n == 0;
		p->from = 0;
		p->to = (size_t)n;
	}
	if (p->from < p->to) {
		n = send(c->fds[!side], p->buf + p->from, p->to - p->from,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		p->from += (size_t)n;
	}
	if (p->ended && p->from == p->to && !p->done) {
		shutdown(c->fds[!side], SHUT_WR);
		p->done = true;
	}
	return true;
}

void relay_turn(struct relay *r, const struct pollfd *fds, unsigned n)
{
	struct connection *c, *tmp;
	unsigned i = r->n_listeners;

	/* Those that were polled come first; what is accepted below stands behind them and waits
	 * for the next turn. */
	list_foreach_safe (c, tmp, &r->connections, link) {
		short came;

		if (i + 1 >= n)
			break;
		came = fds[i].revents | fds[i + 1].revents;
		i += 2;
		if (came && (!pump(c, 0) || !pump(c, 1) || (c->pumps[0].done && c->pumps[1].done)))
			drop(r, c);
	}
	for (i = 0; i < r->n_listeners; i++) {
		int fd = fds[i].revents ? accept4(r->listeners[i].fd, NULL, NULL,
						  SOCK_CLOEXEC | SOCK_NONBLOCK)
					: -1;

		if (fd >= 0)
			join(r, fd, r->listeners[i].to);
	}
}
