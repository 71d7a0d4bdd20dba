/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server over any number of byte streams. Adding an RPC is: the .proto, one row in the
 * service's method table, one function. Every server also answers grpc.health.v1.Health and
 * grpc.reflection.v1 and v1alpha by itself.
 */
#pragma once

#include "io/stream.h"
#include "rpc/call.h"

struct rpc_server;
struct rpc_conn;

/*
 * One method. Unary and server-streaming: `request` is called with the one decoded request; it
 * answers now or later with rpc_call_reply() / rpc_call_send() + rpc_call_finish(). It may set ops
 * (for writable, done). Client-streaming and bidirectional: `open` is called at the start; it sets
 * ops. A method whose `in` is NULL gets raw messages; it has `open`.
 */
struct rpc_method {
	const char *name; /* "CreateContainer" */
	const ProtobufCMessageDescriptor *in, *out;
	bool client_streams, server_streams;
	void (*request)(struct rpc_call *call, const ProtobufCMessage *req, void *service_arg);
	void (*open)(struct rpc_call *call, void *service_arg);
};

struct rpc_service {
	const char *name; /* "micropod.agent.v1.Agent" */
	const struct rpc_method *methods;
	size_t n_methods;
};

/* A serialized google.protobuf.FileDescriptorSet with all files a service needs, for reflection. */
struct rpc_descriptors {
	const uint8_t *data;
	size_t len;
};

struct rpc_server_opts {
	/* Called for each finished call, for logs: no payload. Optional. */
	void (*on_call)(const struct rpc_call *call, const struct rpc_status *status,
		int64_t duration_ns, void *arg);
	/* A call to a method in no table (raw messages): sets ops and returns true, or false for
	 * UNIMPLEMENTED. Optional. */
	bool (*fallback)(struct rpc_call *call, void *arg);
	/* Whether a call may go on; else it finishes the call itself and returns false. Optional:
	 * authorisation. */
	bool (*admit)(struct rpc_call *call, struct rpc_conn *conn, void *arg);
	/* A connection has ended (peer left, error, drained). Optional. */
	void (*on_conn_closed)(struct rpc_conn *conn, const char *why, void *arg);
	/* What is spoken on an accepted connection below HTTP/2: takes plain over, also on failure.
	 * 0 or -errno. Optional. */
	int (*wrap)(struct io_stream *plain, struct io_stream **ret_stream, void *arg);
	void *arg;
	int64_t keepalive_interval, keepalive_timeout; /* ns; 0: no PINGs */
	unsigned max_streams;			       /* 0: LIMIT_RPC_STREAMS */
	size_t max_connections;			       /* 0: LIMIT_RPC_CONNECTIONS */
	size_t max_message;			       /* 0: LIMIT_RPC_MESSAGE */
};

/* opts is copied. 0 or -ENOMEM. */
int rpc_server_new(
	struct loop *loop, const struct rpc_server_opts *opts, struct rpc_server **ret_server);
/* Ends all connections at once; their calls get done(UNAVAILABLE). Returns NULL. */
struct rpc_server *rpc_server_free(struct rpc_server *server);

/* Adds a service under its name, or under alias if not NULL (the same methods once more). The table
 * is borrowed. 0, -ENOMEM, -EINVAL (a method has not exactly one of request and open). */
int rpc_server_add_service(struct rpc_server *server, const struct rpc_service *service,
	const char *alias, void *service_arg);
int rpc_server_add_descriptors(struct rpc_server *server, const struct rpc_descriptors *set);

/* Serves one connection; takes over stream also on failure. 0 or -errno. */
int rpc_server_add_stream(
	struct rpc_server *server, struct io_stream *stream, struct rpc_conn **ret_conn);
/* Ends one connection now. on_conn_closed is not called for it. */
void rpc_conn_close(struct rpc_conn *conn);

/* Accepts on a listening socket and serves each connection; takes over listen_fd. 0 or -errno. */
int rpc_server_listen(struct rpc_server *server, int listen_fd);

/* GOAWAY on all connections, no new calls; `drained` (optional) is called once the last call is
 * done. */
void rpc_server_drain(struct rpc_server *server, void (*drained)(void *arg), void *arg);

/* For grpc.health.v1: the state of a service, "" the server's own (SERVING from the start). 0 or
 * -ENOMEM. */
int rpc_server_set_health(struct rpc_server *server, const char *service, bool serving);
