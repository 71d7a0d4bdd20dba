/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One gRPC call, the same object on both ends. Nothing blocks; everything comes by callbacks on the
 * connection's loop.
 *
 * Order of callbacks: metadata (client only, at most once), message (any number), end (the peer
 * will send no more messages; a server sees it at half-close, a client with the trailers just
 * before done), done (exactly once, the last). done also comes for a server's own finish, for
 * cancellation by either side, a deadline, a lost connection. After done the library drops its
 * reference; whoever keeps a call pointer longer holds its own with rpc_call_ref().
 *
 * Flow control: bytes of a message count against the stream's window until the message has been
 * handed to `message`; while a call is paused nothing is handed over and so the sender stops (RFC
 * 9113 section 5.2). Sending: rpc_call_send() queues; when rpc_call_writable() is false the caller
 * should stop until `writable`. Beyond LIMIT_RPC_SEND_BUFFER plus one message rpc_call_send() fails
 * with -ENOBUFS.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "rpc/status.h"

struct rpc_call;
struct rpc_method;

struct rpc_call_ops {
	/* Client: the peer's initial metadata has arrived (rpc_call_peer_metadata()). Optional. */
	void (*metadata)(struct rpc_call *call, void *arg);
	/*
	 * A message. For calls with types msg is decoded (borrowed until return) and raw is its
	 * bytes; for raw calls msg is NULL. Optional only where no message can come.
	 */
	void (*message)(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
		size_t len, void *arg);
	void (*end)(struct rpc_call *call, void *arg);	    /* optional */
	void (*writable)(struct rpc_call *call, void *arg); /* optional: may send again */
	/* The call is over. status: borrowed; a server that finished the call itself gets its own
	 * status. */
	void (*done)(struct rpc_call *call, const struct rpc_status *status, void *arg);
};

/* Who handles the call; ops and arg may be set anew in any callback (borrowed for the call's life).
 * NULL: nobody any more. */
void rpc_call_set_ops(struct rpc_call *call, const struct rpc_call_ops *ops, void *arg);
void *rpc_call_arg(struct rpc_call *call);

struct rpc_call *rpc_call_ref(struct rpc_call *call);
struct rpc_call *rpc_call_unref(struct rpc_call *call); /* returns NULL */

/* Either side: queue one message, packed at once. 0, -ENOBUFS, -EPIPE (the call is over or
 * half-closed), -EMSGSIZE, -ENOMEM. */
int rpc_call_send(struct rpc_call *call, const ProtobufCMessage *msg);
int rpc_call_send_raw(struct rpc_call *call, const void *data, size_t len);
bool rpc_call_writable(const struct rpc_call *call);

/*
 * Either side: whether messages sent from now on are gzip, if the peer takes it (server: asked for
 * before the first message; client: only with rpc_call_opts.gzip). Off at a server until asked for.
 * And whether the message being handed over was compressed.
 */
void rpc_call_set_gzip(struct rpc_call *call, bool on);
bool rpc_call_message_compressed(const struct rpc_call *call);

/* Either side: stop or go on handing over messages. Counts do not nest. */
void rpc_call_pause(struct rpc_call *call);
void rpc_call_resume(struct rpc_call *call);

/* Client: no more messages from here (END_STREAM). */
void rpc_call_half_close(struct rpc_call *call);

/* Server: the initial metadata now, not with the first message. */
void rpc_call_send_headers(struct rpc_call *call);

/* Server: ends the call after what is queued; status is copied. Twice is ignored. */
void rpc_call_finish(struct rpc_call *call, const struct rpc_status *status);
void rpc_call_finish_code(struct rpc_call *call, enum rpc_code code, const char *fmt, ...)
	PRINTF(3, 4);
void rpc_call_finish_err(struct rpc_call *call, const struct err *err);
/* Server: send msg and finish with OK: the answer of a unary call. */
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *msg);

/* Either side: give up now (RST_STREAM CANCEL); done comes with CANCELLED, from a later turn of the
 * loop. */
void rpc_call_cancel(struct rpc_call *call);

/* The path "/package.Service/Method", borrowed. */
const char *rpc_call_path(const struct rpc_call *call);
/* Absolute deadline (CLOCK_MONOTONIC ns) or DEADLINE_NONE. */
int64_t rpc_call_deadline(const struct rpc_call *call);
/* A number that names the call in logs; unique in this process. */
uint64_t rpc_call_id(const struct rpc_call *call);

/*
 * Custom metadata. Keys are lower case; a key that ends in -bin has any bytes as value (base64 on
 * the wire), others printable ASCII. add: before the first send (client: before start; server:
 * before the first message or finish; trailing: before finish). Reserved names (grpc-*, :*) are
 * refused. 0, -EINVAL, -ENOBUFS, -ENOMEM.
 */
int rpc_call_add_metadata(struct rpc_call *call, const char *key, const void *value, size_t len);
int rpc_call_add_trailer(struct rpc_call *call, const char *key, const void *value, size_t len);
/* The nth value the peer sent under key in its headers (or, client after end, trailers). NULL when
 * there is none. */
const void *rpc_call_peer_metadata(
	const struct rpc_call *call, const char *key, size_t n, size_t *ret_len);
const void *rpc_call_peer_trailer(
	const struct rpc_call *call, const char *key, size_t n, size_t *ret_len);
