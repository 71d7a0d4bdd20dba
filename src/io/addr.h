/* SPDX-License-Identifier: Apache-2.0 */
/* Listening and dialling: unix:PATH, vsock:CID:PORT, tcp:HOST:PORT with a numeric host. */
#pragma once

#include "base/err.h"

enum addr_kind { ADDR_UNIX, ADDR_VSOCK, ADDR_TCP, ADDR_MAX };

struct addr {
	enum addr_kind kind;
	char text[256]; /* as given, for errors: unix:/path */
	char path[256]; /* ADDR_UNIX */
	unsigned cid, port;
	char host[64]; /* ADDR_TCP: numeric IPv4 or IPv6, without brackets */
};

/* "unix:PATH" (or "unix://PATH"), "vsock:CID:PORT" (CID may be "any"), "tcp:127.0.0.1:80",
 * "tcp:[::1]:80". 0 or -EINVAL with err. */
int addr_parse(const char *text, struct addr *ret_addr, struct err *err);

/*
 * A listening socket, CLOEXEC and non-blocking, or -errno with err. A unix path longer than
 * sockaddr_un holds is reached through /proc/self/fd of its folder; a stale socket file is
 * replaced, a live one is -EADDRINUSE. mode: of the socket file.
 */
int addr_listen(const struct addr *addr, unsigned mode, struct err *err);

/* A connected socket, CLOEXEC, or -errno with err. Blocks until connected or deadline
 * (CLOCK_MONOTONIC ns). */
int addr_dial(const struct addr *addr, int64_t deadline, struct err *err);

/* The same without waiting: it may be connecting still, and what becomes of that the first read or
 * write tells. Does not block. */
int addr_connect(const struct addr *addr, struct err *err);

/*
 * TCP_NODELAY (tcp(7)) for a socket of TCP: whoever writes here has put together what belongs
 * together, and the end of it is not held back until the peer's delayed acknowledgement, 40 ms
 * later. The connections that are made and accepted here have it.
 */
void addr_send_at_once(int fd);

/* Accepts one connection, CLOEXEC and non-blocking. fd or -errno (-EAGAIN: none waiting). */
int addr_accept(int listen_fd);
