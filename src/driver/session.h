/* SPDX-License-Identifier: Apache-2.0 */
/* Joining the agent: the greeting on a serial port's socket, or a vsock connection, by the kernel
 * or by a unix socket that leads there. */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "io/stream.h"

struct session;

/* The stream is the callee's; NULL with err. Comes once, from the loop; the session is gone by
 * then. */
typedef void (*session_done)(struct io_stream *stream, const struct err *err, void *arg);

/*
 * Greets over fd (a connected socket; consumed) as io/greeting.h says; flush: zero bytes first,
 * because an earlier session may be cut mid-frame. 0 or -errno.
 */
int session_greet(struct loop *loop, int fd, bool flush, int64_t deadline, session_done done,
	void *arg, struct session **ret_session);

/* Dials vsock cid:port until someone accepts. 0 or -errno. */
int session_dial_vsock(struct loop *loop, unsigned cid, unsigned port, int64_t deadline,
	session_done done, void *arg, struct session **ret_session);

/*
 * Dials a unix socket that leads to the guest's ports: "CONNECT <port>\n", and the session begins
 * behind the answer "OK <its own port>\n" (Firecracker's docs/vsock.md). Until the guest listens
 * there, again and again. path is copied. 0 or -errno.
 */
int session_dial_hybrid(struct loop *loop, const char *path, unsigned port, int64_t deadline,
	session_done done, void *arg, struct session **ret_session);

/* done comes now, with the error. NULL is fine. */
void session_fail(struct session *session, const struct err *err);

/* Without a call. Returns NULL. */
struct session *session_free(struct session *session);

/*
 * Claims a guest CID no other VM on this host has: *ret_fd is an open /dev/vhost-vsock that holds
 * it, for QEMU. 0, or -errno with err where this host has no kernel vsock for us.
 */
int session_claim_cid(int *ret_fd, unsigned *ret_cid, struct err *err);
