/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream over one call whose messages are frames (tunnel.proto, Serve). Both ends of the
 * call make one, and HTTP/2 runs on it as on a socket. It sends and expects a sign of life, and
 * ends when there is none.
 */
#pragma once

#include "base/list.h"
#include "rpc/buf.h"
#include "io/stream.h"
#include "rpc/call.h"

#define TUNNEL_HEARTBEAT (15 * NSEC_PER_SEC)
#define TUNNEL_SILENCE	 (30 * NSEC_PER_SEC)

struct tunnel_link {
	struct io_stream stream;
	struct list member; /* the owner's, who takes it out; removed at the end of the call too */
	struct loop *loop;
	struct rpc_call *call; /* a reference; NULL once it is over */
	bool dialled;	       /* we are the call's client */
	uint32_t wanted;
	struct loop_defer wake;
	struct loop_timer life;
	int64_t heard; /* when the peer was last heard of */
	struct rpc_buf in;
	bool paused;	 /* the call is, since in is full */
	bool peer_ended; /* nothing comes behind what is in it */
	int error;	 /* with which it has ended, -errno; 0: orderly */
	bool orphan;	 /* freed by its user, and waits for the end of the call */
};

/*
 * Takes its own reference of call, whose callbacks are the link's from now. Its stream's on_event
 * comes for the end also when nothing is wanted. Freeing the stream ends our side behind what was
 * written. 0 or -ENOMEM (call untouched).
 */
int tunnel_link_new(
	struct loop *loop, struct rpc_call *call, bool dialled, struct tunnel_link **ret_link);

/* Ends it now: its user reads -error. */
void tunnel_link_cut(struct tunnel_link *link, int error);
