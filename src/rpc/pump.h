/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between a connected stream socket and a call, both ways, with flow control from end to end:
 * the socket is not read while the call cannot send, and the call's messages wait while the socket
 * does not take what they held. Each direction ends on its own, as TCP's do.
 *
 * The owner embeds it, packs what was read into its messages, and hands over what messages hold.
 * Nothing blocks.
 */
#pragma once

#include <stdbool.h>

#include "base/strbuf.h"
#include "io/loop.h"
#include "rpc/call.h"

struct rpc_pump;

struct rpc_pump_ops {
	/* Bytes came from the socket: sends them. len 0: the socket's end of file. */
	void (*send)(struct rpc_pump *pump, const void *data, size_t len);
	/*
	 * Both directions have ended (error 0), or the socket failed (a positive errno value). Once
	 * and last, perhaps from within rpc_pump_write(), _end() or _writable(); may free the pump.
	 */
	void (*over)(struct rpc_pump *pump, int error);
};

struct rpc_pump {
	struct loop *loop;
	int fd;		       /* owned, -1 once over */
	struct rpc_call *call; /* borrowed; the owner must deinit before it goes */
	const struct rpc_pump_ops *ops;
	struct loop_fd src;
	struct strbuf queue; /* for the socket; at most one message */
	size_t written;	     /* bytes of it */
	bool held;	     /* the call is paused by us */
	bool read_ended, write_ended;
};

/* Takes over fd, a connected, non-blocking stream socket, and begins. 0 or -errno (fd closed then
 * too). */
int rpc_pump_init(struct rpc_pump *pump, struct loop *loop, int fd, struct rpc_call *call,
	const struct rpc_pump_ops *ops);
/* Closes the socket; over does not come any more. No-op on a zeroed or deinitialised one. */
void rpc_pump_deinit(struct rpc_pump *pump);
/* The same, and the socket's peer sees a reset in place of an end of file: what it got is not all.
 */
void rpc_pump_reset(struct rpc_pump *pump);

/* What a message held, copied as far as the socket does not take it at once. From `message`. */
void rpc_pump_write(struct rpc_pump *pump, const void *data, size_t len);
/* No more of it: the socket's writing end is shut down. From `end`, or for a message that says so.
 */
void rpc_pump_end(struct rpc_pump *pump);
/* From `writable`. */
void rpc_pump_writable(struct rpc_pump *pump);
