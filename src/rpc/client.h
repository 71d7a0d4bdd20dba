/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC client: a channel dials when a call needs it, keeps one connection, and dials anew when
 * that is lost. Calls that cannot have run (no connection, refused stream, GOAWAY beyond their id)
 * are retried by the channel with backoff inside their deadline; with RPC_RETRY_IDEMPOTENT also on
 * UNAVAILABLE, as long as no message has been handed over.
 */
#pragma once

#include "io/stream.h"
#include "rpc/call.h"

struct rpc_channel;

struct rpc_header {
	const char *key, *value; /* as for rpc_call_add_metadata(): text */
};

struct rpc_channel_opts {
	/* Gives a fresh connected stream, or -errno: it must not block long (a local connect). */
	int (*dial)(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err);
	void *arg;
	const char *authority;		  /* ":authority"; NULL: "localhost" */
	const struct rpc_header *headers; /* metadata of each call, borrowed */
	size_t n_headers;
	bool no_redial; /* one connection only: when it is lost every call fails UNAVAILABLE */
	/* The connection ended. Optional. */
	void (*on_disconnect)(struct rpc_channel *channel, const char *why, void *arg);
	int64_t keepalive_interval, keepalive_timeout; /* ns; 0: no PINGs */
	size_t max_message;			       /* received; 0: LIMIT_RPC_MESSAGE */
};

enum rpc_retry {
	RPC_RETRY_UNSENT,     /* only what cannot have run */
	RPC_RETRY_IDEMPOTENT, /* also UNAVAILABLE */
	RPC_RETRY_NEVER
};

struct rpc_call_opts {
	int64_t deadline;     /* CLOCK_MONOTONIC ns, DEADLINE_NONE; 0 means DEADLINE_NONE too */
	enum rpc_retry retry; /* streaming calls are never retried once a message was received */
	bool gzip;	      /* compress messages sent */
};

/* opts copied; what it points to borrowed. 0 or -ENOMEM. Does not dial yet. */
int rpc_channel_new(
	struct loop *loop, const struct rpc_channel_opts *opts, struct rpc_channel **ret_channel);
/* A channel that dials an address of io/addr.h. */
int rpc_channel_new_addr(
	struct loop *loop, const char *address, struct rpc_channel **ret_channel, struct err *err);
/* Calls still open get done(UNAVAILABLE) first. Returns NULL. */
struct rpc_channel *rpc_channel_free(struct rpc_channel *channel);

/*
 * Makes a call to "/package.Service/Method"; out is the type of the answers, NULL for raw messages.
 * Nothing is sent before rpc_call_start(); metadata is added in between. On success done will come,
 * also if no connection can be had. 0 or -ENOMEM. The caller gets no reference of its own: see
 * rpc_call_ref().
 */
int rpc_channel_call(struct rpc_channel *channel, const char *path,
	const ProtobufCMessageDescriptor *out, const struct rpc_call_opts *opts,
	const struct rpc_call_ops *ops, void *arg, struct rpc_call **ret_call);
void rpc_call_start(struct rpc_call *call);

/*
 * One unary call that runs the loop until it is done (other sources of the loop are served
 * meanwhile): for a command line, never inside a callback. *ret_answer (may be NULL) is freed by
 * the caller with protobuf_c_message_free_unpacked(). 0, or -errno with err from the status.
 * status, if not NULL, is filled in either case (rpc_status_deinit()).
 */
int rpc_channel_unary(struct rpc_channel *channel, const char *path,
	const ProtobufCMessage *request, const ProtobufCMessageDescriptor *out,
	const struct rpc_call_opts *opts, ProtobufCMessage **ret_answer, struct rpc_status *status,
	struct err *err);
