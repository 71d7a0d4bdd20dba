/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying a process' output to a call, in the order of time, from given offsets, and its exit
 * last. */
#pragma once

#include "agent/process.h"
#include "rpc/call.h"

struct attach;

struct attach_opts {
	uint64_t offset[STREAMS_MAX];
	bool from_end;	/* instead of the offsets */
	bool no_follow; /* end after what is there */
	/* Sends one message; false: the call is over. One of them for each kind of call. */
	bool (*send_output)(void *arg, enum streams_id stream, const struct ring_piece *piece);
	bool (*send_exit)(void *arg, const struct process_exit *exit);
	/* Everything is sent (the exit too, with follow); the caller ends the call. The attach is
	 * gone. */
	void (*finished)(void *arg);
	void *arg;
	struct rpc_call *call; /* asked whether it is writable; borrowed */
	bool by_mark;	       /* a piece has one time (logs) */
	int64_t until;	       /* CLOCK_REALTIME ns; pieces after it are not sent; 0: no end */
};

/* 0, -ENOSPC (LIMIT_ATTACH_READERS) or -ENOMEM. Nothing is sent from within the call. */
int attach_new(struct process *p, const struct attach_opts *opts, struct attach **ret_attach);
/* finished does not come. Returns NULL. */
struct attach *attach_free(struct attach *attach);

/* The call can be written to again. */
void attach_writable(struct attach *attach);
