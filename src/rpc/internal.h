/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: connection and call.
 *
 * How it works. nghttp2's callbacks (conn.c) only record: header fields, bytes, ends, into the call
 * they belong to, and queue the call's deferred work. All application callbacks run from that
 * deferred work (call.c), outside nghttp2, so that they may do anything: send, finish, cancel, free
 * the server. What they submit goes out in one write from the connection's own deferred work, which
 * runs behind theirs.
 *
 * A call is attached to a connection while it has a stream there; the attachment holds a reference.
 * It is `over` once its status is known; `done` is delivered when nothing is left to hand over
 * before it.
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/limits.h"
#include "io/stream.h"
#include "rpc/buf.h"
#include "rpc/call.h"
#include "rpc/client.h"
#include "rpc/message.h"
#include "rpc/meta.h"
#include "rpc/server.h"

/* What a server or a channel does with what arrives on its connections. */
struct rpc_role {
	/* Server: a stream has opened. The call it makes (with a reference for the attachment), or
	 * NULL to refuse. */
	struct rpc_call *(*open)(struct rpc_conn *conn);
	/* One field of a header block. Not NUL-terminated. */
	void (*field)(struct rpc_call *call, const uint8_t *name, size_t name_len,
		const uint8_t *value, size_t len);
	/* The header block is complete. */
	void (*headers)(struct rpc_call *call, bool end_stream);
	/* The call has been detached: its stream closed with error_code, or the connection is lost
	 * (why). */
	void (*closed)(struct rpc_call *call, uint32_t error_code, const char *lost);
	/* From deferred work: new things to hand over. */
	void (*dispatch)(struct rpc_call *call);
	/* done has been delivered. */
	void (*done)(struct rpc_call *call);
	/* The peer takes no new streams on this connection, or it has no calls any more. */
	void (*draining)(struct rpc_conn *conn);
	/* The connection has ended; all its calls have been told. The connection's last reference
	 * may go. */
	void (*gone)(struct rpc_conn *conn, const char *why);
};

struct rpc_conn {
	unsigned refs;
	const struct rpc_role *role;
	void *owner; /* struct rpc_server, struct rpc_channel; NULL once it let go */
	struct list link;
	struct loop *loop;
	struct io_stream *stream; /* NULL once ended */
	nghttp2_session *session;
	struct rpc_buf out;
	struct loop_defer flush;
	struct list calls;
	unsigned n_calls;
	bool is_server;
	bool draining; /* no new calls */
	bool final_goaway;
	bool blocked; /* the last write did not take everything */
	bool ended;
	char why[LIMIT_ERR_MESSAGE]; /* it must end; set once */
	size_t max_message;
	/* receive budgets */
	size_t windows, assembling;
	struct list assembly_queue; /* calls that wait for room */
	/* keepalive */
	int64_t keepalive_interval, keepalive_timeout;
	int64_t last_received, ping_sent; /* ping_sent: 0 when none is out */
	struct loop_timer keepalive;
	struct loop_timer drain_timer;
	/* counted in the second that began at rate_start */
	int64_t rate_start;
	unsigned resets, control_frames;
};

struct rpc_conn_opts {
	bool is_server;
	const struct rpc_role *role;
	void *owner;
	unsigned max_streams;
	size_t max_message;
	int64_t keepalive_interval, keepalive_timeout;
};

/* Takes over stream also on failure. The caller gets the reference. 0 or -errno. */
int rpc_conn_new(struct loop *loop, struct io_stream *stream, const struct rpc_conn_opts *opts,
	struct rpc_conn **ret_conn);
struct rpc_conn *rpc_conn_ref(struct rpc_conn *conn);
struct rpc_conn *rpc_conn_unref(struct rpc_conn *conn);
/* From now: no more I/O; its calls are over with UNAVAILABLE and have their done. role->gone is not
 * called. */
void rpc_conn_end(struct rpc_conn *conn, const char *why);
/* Something was submitted. */
void rpc_conn_flush_soon(struct rpc_conn *conn);
/* The connection must end; it does so from deferred work, and role->gone is told. */
void rpc_conn_fail(struct rpc_conn *conn, const char *fmt, ...) PRINTF(2, 3);
/* GOAWAY that lets calls underway finish; ends the connection behind the last. */
void rpc_conn_drain(struct rpc_conn *conn);
/* Binds call to a stream: the connection holds a reference until it is detached. */
void rpc_conn_attach(struct rpc_conn *conn, struct rpc_call *call, int32_t stream_id);
/* RST_STREAM; the call stays attached until nghttp2 has closed the stream. */
void rpc_conn_reset(struct rpc_call *call, uint32_t error_code);
/* Whether the connection's session can take a request. */
bool rpc_conn_usable(const struct rpc_conn *conn);
/* The data of call->tx as the body of its stream. */
nghttp2_data_provider rpc_conn_provider(struct rpc_call *call);
/* The body may go on. */
void rpc_conn_resume(struct rpc_call *call);
/* Gives the peer what credit the stream is due (flow.c). */
void rpc_flow_update(struct rpc_call *call);
/* Bytes of it have come. */
void rpc_flow_received(struct rpc_call *call);
/* The first message is being received no longer, n bytes of the stream have been handed over. */
void rpc_flow_consumed(struct rpc_call *call, size_t n);
void rpc_flow_forget(struct rpc_call *call);

enum rpc_encoding {
	RPC_ENCODING_IDENTITY,
	RPC_ENCODING_GZIP, /* or deflate: zlib tells them apart */
	RPC_ENCODING_UNKNOWN
};

struct rpc_call {
	unsigned refs;
	const struct rpc_role *role;
	void *owner; /* server or channel; NULL once it let go */
	struct list owner_link;
	struct loop *loop;
	uint64_t id;
	const struct rpc_call_ops *ops;
	void *arg;
	struct loop_defer defer;
	struct loop_timer timer; /* deadline; for a client also the retry */
	int64_t deadline;
	int64_t started;
	char *path;
	bool is_server;

	/* the stream */
	struct rpc_conn *conn; /* attached */
	struct list conn_link;
	int32_t stream_id;

	/* state, in the order it can come */
	bool begun;	   /* server: handed to its handler; client: started */
	bool headers_sent; /* server */
	bool tx_end;	   /* client: half-closed; server: finished, nothing will be added to tx */
	bool tx_deferred;  /* nghttp2 waits for rpc_conn_resume() */
	bool tx_full;	   /* the application was told to wait */
	bool writable_due;
	bool headers_received, metadata_delivered; /* client */
	bool peer_ended, end_delivered;
	bool finished; /* server: its status is set */
	bool over;     /* the status is set */
	bool drop;     /* hand over nothing more but done */
	bool done_delivered;
	bool paused;
	bool wait_whole; /* server: its one request is taken when the client has sent all */
	bool dispatching;
	bool refused; /* client: cannot have run */

	/* what is received */
	const ProtobufCMessageDescriptor *rx_type; /* NULL: raw */
	struct rpc_buf rx;
	size_t max_message;
	enum rpc_encoding rx_encoding;
	bool rx_compressed; /* the message being handed over was */
	bool rx_any;	    /* a message has been handed over */
	size_t window, drained, window_grown, assembling;
	bool lay_here; /* most of a window did at once, since one was last drained */
	struct list assembly_link;
	size_t header_bytes;
	bool header_overflow;

	/* what is sent */
	struct rpc_buf tx;
	size_t tx_sent; /* bytes at the front that were sent and are kept for a retry */
	bool tx_keep;
	bool gzip;	  /* messages from now on are compressed, if the header says so */
	bool gzip_header; /* grpc-encoding: gzip is or will be announced */
	bool peer_gzip;	  /* the peer takes gzip */

	struct rpc_meta meta, trailers;		  /* to send */
	struct rpc_meta peer_meta, peer_trailers; /* received */
	struct rpc_status status;

	union {
		struct {
			const struct rpc_method *method;
			void *service_arg;
			bool post, content_type_ok, bad_timeout, bad_metadata;
			bool http_only; /* answered with an HTTP status alone */
		} server;
		struct {
			enum rpc_retry retry;
			struct loop_timer retry_timer;
			unsigned attempts;
			unsigned http_status;
			bool content_type_ok, has_status, bad_metadata;
			bool request_sent; /* HEADERS have left nghttp2 */
			bool again;	   /* to be retried once its stream has closed */
			enum rpc_code code;
		} client;
	};
};

/* A call with one reference, which its owner's list holds until done. Out of memory: NULL. */
struct rpc_call *rpc_call_new(
	struct loop *loop, const struct rpc_role *role, void *owner, struct list *owner_list);
/* Sets the status unless it is set. drop: what was received and not handed over is lost. */
void rpc_call_over(struct rpc_call *call, bool drop, enum rpc_code code, const char *fmt, ...)
	PRINTF(4, 5);
/* Queues the deferred work, or does it now (unless it is being done). */
void rpc_call_wake(struct rpc_call *call);
void rpc_call_dispatch(struct rpc_call *call);
/* Hands over what is there while it may; the shared part of role->dispatch. */
void rpc_call_deliver(struct rpc_call *call);
/*
 * The first message in rx, decompressed if need be (into *plain). 1: *ret_data and *ret_len are
 * set, *ret_used is what to consume; 0: incomplete; < 0: the call has failed.
 */
int rpc_call_next_message(struct rpc_call *call, struct rpc_buf *plain, const uint8_t **ret_data,
	size_t *ret_len, size_t *ret_used);
/* Decodes as type or fails the call: 0 or < 0. */
int rpc_call_decode(struct rpc_call *call, const ProtobufCMessageDescriptor *type,
	const uint8_t *data, size_t len, struct rpc_arena *arena, ProtobufCMessage **ret_msg);
/* What arrived breaks the protocol: a server finishes with it, a client cancels. */
void rpc_call_fail(struct rpc_call *call, enum rpc_code code, const char *fmt, ...) PRINTF(3, 4);
/* Bytes of the front message that have not come yet, 0 if it is complete (or too large); its size
 * in *ret_size. */
size_t rpc_call_missing(const struct rpc_call *call, size_t *ret_size);

/* server.c, called from call.c */
void rpc_server_send_headers(struct rpc_call *call);
int rpc_server_submit_trailers(struct rpc_call *call);
/* Sends call->status. */
void rpc_server_finish(struct rpc_call *call);

/* Header fields for nghttp2, without copies of what is constant. */
struct rpc_fields {
	nghttp2_nv nv[LIMIT_RPC_HEADER_COUNT + 16];
	size_t n;
};
#define RPC_FIELD(name_, value_)                                                      \
	((nghttp2_nv){ (uint8_t *)(uintptr_t)(name_), (uint8_t *)(uintptr_t)(value_), \
		sizeof(name_) - 1, sizeof(value_) - 1,                                \
		NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE })

void rpc_fields_add(struct rpc_fields *fields, const char *name, const char *value, size_t len);
void rpc_fields_add_meta(struct rpc_fields *fields, const struct rpc_meta *meta);
bool rpc_field_is(const uint8_t *name, size_t len, const char *word);
