/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: each look-up has a channel of its own. c-ares tells which sockets it waits for and
 * how; the loop watches them and has it go on. What it has found is handed over from the loop,
 * where the channel can be freed: in c-ares' own callback it cannot.
 */
#include "agent/names.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define SOCKETS 16 /* c-ares has one or two a name server */
#define TRY_MS	2000
#define TRIES	2

struct names_socket {
	struct loop_fd src;
	struct names *names;
};

struct names {
	struct loop *loop;
	ares_channel channel; /* NULL: nothing is looked up */
	struct names_socket sockets[SOCKETS];
	struct loop_timer timer;
	struct loop_defer over;
	char address[INET6_ADDRSTRLEN];
	int result;
	void (*found)(void *arg, int r, const char *address);
	void *arg;
};

static void on_timer(struct loop_timer *timer);

static void arm(struct names *n)
{
	struct timeval most = { .tv_sec = TRY_MS / 1000 }, time;
	const struct timeval *t = ares_timeout(n->channel, &most, &time);
	int64_t wait = t->tv_sec * NSEC_PER_SEC + t->tv_usec * (NSEC_PER_SEC / 1000000);

	loop_timer_arm(n->loop, &n->timer, deadline_in(wait), on_timer);
}

static void on_timer(struct loop_timer *timer)
{
	struct names *n = container_of(timer, struct names, timer);

	ares_process_fd(n->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm(n);
}

static void on_ready(struct loop_fd *src, uint32_t events)
{
	struct names *n = container_of(src, struct names_socket, src)->names;
	int fd = src->fd;

	ares_process_fd(n->channel, events & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
		events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	arm(n);
}

/* c-ares waits for this of the socket from now on; for nothing: before it closes it. */
static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct names *n = arg;
	uint32_t events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
	struct names_socket *unused = NULL;

	for (size_t i = 0; i < SOCKETS; i++) {
		struct names_socket *s = &n->sockets[i];

		if (!s->src.loop) {
			unused = s;
		} else if (s->src.fd == fd) {
			if (events)
				loop_fd_set(&s->src, events);
			else
				loop_fd_remove(&s->src);
			return;
		}
	}
	/* Without one it ends by its time. */
	if (events && unused) {
		unused->names = n;
		loop_fd_add(n->loop, &unused->src, fd, events, on_ready);
	}
}

static void on_over(struct loop_defer *defer)
{
	struct names *n = container_of(defer, struct names, over);
	void (*found)(void *arg, int r, const char *address) = n->found;

	names_cancel(n);
	found(n->arg, n->result, n->address);
}

static int first_address(const struct ares_addrinfo *info, char *out, socklen_t size)
{
	for (const struct ares_addrinfo_node *a = info->nodes; a; a = a->ai_next) {
		const void *sa = a->ai_addr;
		const void *bytes =
			a->ai_family == AF_INET6
				? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr
				: (const void *)&((const struct sockaddr_in *)sa)->sin_addr;

		if ((a->ai_family == AF_INET || a->ai_family == AF_INET6) &&
			inet_ntop(a->ai_family, bytes, out, size))
			return 0;
	}
	return -ENOENT;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct names *n = arg;

	if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED)
		return;
	if (status == ARES_SUCCESS)
		n->result = first_address(info, n->address, sizeof(n->address));
	else if (status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME)
		n->result = -ENOENT;
	else if (status == ARES_ETIMEOUT)
		n->result = -ETIMEDOUT;
	else
		n->result = status == ARES_ENOMEM ? -ENOMEM : -EIO;
	ares_freeaddrinfo(info);
	loop_defer_queue(n->loop, &n->over, on_over);
}

int names_new(struct loop *loop, struct names **ret_names)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->loop = loop;
	*ret_names = n;
	return 0;
}

struct names *names_free(struct names *n)
{
	if (n) {
		names_cancel(n);
		free(n);
	}
	return NULL;
}

int names_lookup(struct names *n, const char *name,
	void (*found)(void *arg, int r, const char *address), void *arg)
{
	struct ares_options options = { .timeout = TRY_MS,
		.tries = TRIES,
		.sock_state_cb = on_socket,
		.sock_state_cb_data = n };
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };

	names_cancel(n);
	if (ares_init_options(&n->channel, &options,
		    ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB) != ARES_SUCCESS) {
		n->channel = NULL;
		return -ENOMEM;
	}
	n->found = found;
	n->arg = arg;
	ares_getaddrinfo(n->channel, name, NULL, &hints, on_answer, n);
	arm(n);
	return 0;
}

void names_cancel(struct names *n)
{
	loop_defer_cancel(&n->over);
	loop_timer_disarm(&n->timer);
	if (n->channel)
		ares_destroy(n->channel);
	n->channel = NULL;
}
