/* SPDX-License-Identifier: Apache-2.0 */
/* The server's end of calls: request headers to a method, answers and statuses back (gRPC
 * PROTOCOL-HTTP2.md). */
#include "rpc/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/addr.h"
#include "rpc/server-internal.h"
#include "rpc/wire.h"

#define ACCEPT_PAUSE (100 * NSEC_PER_MSEC) /* when descriptors or memory are used up */

struct listener {
	struct list link;
	struct rpc_server *server;
	struct loop_fd src;
	struct loop_timer pause;
	int fd;
};

/* Answers */

static const nghttp2_nv status_200 = RPC_FIELD(":status", "200");
static const nghttp2_nv content_type = RPC_FIELD("content-type", "application/grpc");
static const nghttp2_nv encoding_gzip = RPC_FIELD("grpc-encoding", "gzip");
static const nghttp2_nv accept_gzip = RPC_FIELD("grpc-accept-encoding", "identity,deflate,gzip");

static void response_fields(const struct rpc_call *call, struct rpc_fields *fields)
{
	fields->nv[fields->n++] = status_200;
	fields->nv[fields->n++] = content_type;
	if (call->gzip_header)
		fields->nv[fields->n++] = encoding_gzip;
	if (call->rx_encoding != RPC_ENCODING_IDENTITY)
		fields->nv[fields->n++] = accept_gzip;
	rpc_fields_add_meta(fields, &call->meta);
}

struct status_text {
	char code[4];
	struct strbuf message, details;
};

static int status_fields(
	const struct rpc_call *call, struct rpc_fields *fields, struct status_text *text)
{
	int n = snprintf(text->code, sizeof(text->code), "%d", call->status.code);

	rpc_fields_add(fields, "grpc-status", text->code, (size_t)n);
	if (call->status.message[0]) {
		wire_percent_encode(&text->message, call->status.message);
		if (strbuf_error(&text->message) < 0)
			return -ENOMEM;
		rpc_fields_add(fields, "grpc-message", text->message.data, text->message.len);
	}
	if (call->status.details_len) {
		wire_base64_encode(&text->details, call->status.details, call->status.details_len);
		if (strbuf_error(&text->details) < 0)
			return -ENOMEM;
		rpc_fields_add(
			fields, "grpc-status-details-bin", text->details.data, text->details.len);
	}
	rpc_fields_add_meta(fields, &call->trailers);
	return 0;
}

static void status_text_deinit(struct status_text *text)
{
	strbuf_deinit(&text->message);
	strbuf_deinit(&text->details);
}

void rpc_server_send_headers(struct rpc_call *call)
{
	nghttp2_data_provider provider = rpc_conn_provider(call);
	struct rpc_fields fields;

	if (call->headers_sent || !call->conn)
		return;
	call->headers_sent = true;
	fields.n = 0;
	response_fields(call, &fields);
	if (nghttp2_submit_response(
		    call->conn->session, call->stream_id, fields.nv, fields.n, &provider) != 0)
		rpc_conn_reset(call, NGHTTP2_INTERNAL_ERROR);
	rpc_conn_flush_soon(call->conn);
}

int rpc_server_submit_trailers(struct rpc_call *call)
{
	struct status_text text = { 0 };
	struct rpc_fields fields;
	int r;

	fields.n = 0;
	r = status_fields(call, &fields, &text);
	if (r == 0 && nghttp2_submit_trailer(
			      call->conn->session, call->stream_id, fields.nv, fields.n) != 0)
		r = -ENOMEM;
	status_text_deinit(&text);
	return r;
}

/* Headers and status in one, without a body. */
static void send_trailers_only(struct rpc_call *call)
{
	struct status_text text = { 0 };
	struct rpc_fields fields;
	int r;

	call->headers_sent = true;
	fields.n = 0;
	response_fields(call, &fields);
	r = status_fields(call, &fields, &text);
	if (r == 0 && nghttp2_submit_response(
			      call->conn->session, call->stream_id, fields.nv, fields.n, NULL) != 0)
		r = -ENOMEM;
	status_text_deinit(&text);
	if (r < 0)
		rpc_conn_reset(call, NGHTTP2_INTERNAL_ERROR);
	rpc_conn_flush_soon(call->conn);
}

void rpc_server_finish(struct rpc_call *call)
{
	rpc_call_wake(call); /* what was received and not handed over is dropped */
	if (!call->conn)
		return;
	call->tx_end = true;
	/* Initial metadata that is there must stay apart from the trailing, so it wants its own
	 * block. */
	if (!call->headers_sent && call->status.code != RPC_OK && !call->meta.n) {
		send_trailers_only(call);
		return;
	}
	rpc_server_send_headers(call);
	rpc_conn_resume(call);
}

/* What is no gRPC is answered in plain HTTP. */
static void refuse_http(struct rpc_call *call, const char *http_status, const char *why)
{
	nghttp2_nv nv = RPC_FIELD(":status", "");

	nv.value = (uint8_t *)(uintptr_t)http_status;
	nv.valuelen = 3;
	call->finished = call->headers_sent = call->server.http_only = true;
	call->status.code = RPC_INTERNAL;
	snprintf(call->status.message, sizeof(call->status.message), "%s", why);
	nghttp2_submit_response(call->conn->session, call->stream_id, &nv, 1, NULL);
	rpc_conn_flush_soon(call->conn);
}

static void on_deadline(struct loop_timer *timer)
{
	struct rpc_call *call = container_of(timer, struct rpc_call, timer);
	struct rpc_conn *conn = call->conn;

	if (call->over)
		return;
	/* What is queued is worth nothing any more; where the peer takes nothing, not even trailers
	 * would go out. */
	if (conn && (call->finished ||
			    (call->headers_sent && nghttp2_session_get_stream_remote_window_size(
							   conn->session, call->stream_id) <= 0))) {
		rpc_conn_reset(call, NGHTTP2_CANCEL);
	} else {
		rpc_buf_consume(&call->tx, call->tx.len);
		rpc_call_finish_code(call, RPC_DEADLINE_EXCEEDED, "the deadline has passed");
	}
	rpc_call_over(call, true, RPC_DEADLINE_EXCEEDED, "the deadline has passed");
}

/* Requests */

static struct rpc_call *role_open(struct rpc_conn *conn)
{
	struct rpc_server *server = conn->owner;
	struct rpc_call *call =
		server ? rpc_call_new(conn->loop, conn->role, server, &server->calls) : NULL;

	if (!call)
		return NULL;
	call->is_server = true;
	/* One for the list, one for who attaches it. */
	return rpc_call_ref(call);
}

static enum rpc_encoding parse_encoding(const uint8_t *value, size_t len)
{
	if (rpc_field_is(value, len, "identity"))
		return RPC_ENCODING_IDENTITY;
	if (rpc_field_is(value, len, "gzip") || rpc_field_is(value, len, "deflate"))
		return RPC_ENCODING_GZIP;
	return RPC_ENCODING_UNKNOWN;
}

static void pseudo_field(struct rpc_call *call, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t len)
{
	if (rpc_field_is(name, name_len, ":path"))
		call->path = call->path ? call->path : strndup((const char *)value, len);
	else if (rpc_field_is(name, name_len, ":method"))
		call->server.post = rpc_field_is(value, len, "POST");
}

static void timeout_field(struct rpc_call *call, const uint8_t *value, size_t len)
{
	int64_t ns;

	if (wire_timeout_parse(value, len, &ns) < 0) {
		call->server.bad_timeout = true;
		return;
	}
	if (__builtin_add_overflow(call->started, ns, &call->deadline))
		call->deadline = DEADLINE_NONE;
}

static void role_field(struct rpc_call *call, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t len)
{
	if (call->headers_received) /* trailers of a request have no meaning */
		return;
	if (name[0] == ':') {
		pseudo_field(call, name, name_len, value, len);
	} else if (rpc_field_is(name, name_len, "content-type")) {
		call->server.content_type_ok = wire_content_type_ok(value, len);
	} else if (rpc_field_is(name, name_len, "grpc-timeout")) {
		timeout_field(call, value, len);
	} else if (rpc_field_is(name, name_len, "grpc-encoding")) {
		call->rx_encoding = parse_encoding(value, len);
	} else if (rpc_field_is(name, name_len, "grpc-accept-encoding")) {
		call->peer_gzip = wire_list_has(value, len, "gzip");
	} else if (rpc_field_is(name, name_len, "te") ||
		   rpc_field_is(name, name_len, "user-agent") ||
		   rpc_field_is(name, name_len, "host") ||
		   (name_len > 5 && memcmp(name, "grpc-", 5) == 0)) {
		return;
	} else {
		int r = rpc_meta_add_wire(&call->peer_meta, name, name_len, value, len);

		if (r == -ENOBUFS)
			call->header_overflow = true;
		else if (r < 0)
			call->server.bad_metadata = true;
	}
}

static void role_headers(struct rpc_call *call, bool end_stream)
{
	call->headers_received = true;
}

static void role_closed(struct rpc_call *call, uint32_t error_code, const char *lost)
{
	if (lost)
		rpc_call_over(call, true, RPC_UNAVAILABLE, "the connection is lost: %s", lost);
	else
		rpc_call_over(call, true, RPC_CANCELLED, "cancelled by the client (%s)",
			nghttp2_http2_strerror(error_code));
}

static const struct rpc_service_entry *find_service(
	const struct rpc_server *server, const char *name, size_t len)
{
	const struct rpc_service_entry *e;

	list_foreach (e, &server->services, link)
		if (strncmp(e->name, name, len) == 0 && !e->name[len])
			return e;
	return NULL;
}

bool rpc_server_has_service(const struct rpc_server *server, const char *name)
{
	return find_service(server, name, strlen(name)) != NULL;
}

static void find_method(struct rpc_call *call)
{
	const char *path = rpc_call_path(call),
		   *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
	const struct rpc_service_entry *e;

	e = slash ? find_service(call->owner, path + 1, (size_t)(slash - path - 1)) : NULL;
	for (size_t i = 0; e && i < e->service->n_methods; i++)
		if (strcmp(e->service->methods[i].name, slash + 1) == 0) {
			call->server.method = &e->service->methods[i];
			call->server.service_arg = e->arg;
			return;
		}
}

/* Whether the headers are those of a gRPC call that can go on; else it has been finished. */
static bool check_headers(struct rpc_call *call)
{
	if (!call->server.post)
		refuse_http(call, "405", "the HTTP method is not POST");
	else if (!call->server.content_type_ok)
		refuse_http(call, "415", "the content-type is not application/grpc");
	else if (call->header_overflow)
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED,
			"the request headers have more than %d bytes or %d fields",
			(int)LIMIT_RPC_HEADER_LIST, LIMIT_RPC_HEADER_COUNT);
	else if (call->server.bad_timeout)
		rpc_call_finish_code(call, RPC_INTERNAL, "grpc-timeout is malformed");
	else if (call->server.bad_metadata)
		rpc_call_finish_code(call, RPC_INTERNAL, "a -bin header is not base64");
	else if (call->rx_encoding == RPC_ENCODING_UNKNOWN)
		rpc_call_finish_code(call, RPC_UNIMPLEMENTED,
			"grpc-encoding is not one of grpc-accept-encoding");
	return !call->finished;
}

static void open_fallback(struct rpc_call *call, struct rpc_server *server)
{
	if (server->opts.fallback && server->opts.fallback(call, server->opts.arg))
		return;
	rpc_call_finish_code(call, RPC_UNIMPLEMENTED, "no method %s", rpc_call_path(call));
}

static void begin(struct rpc_call *call)
{
	struct rpc_server *server = call->owner;
	const struct rpc_method *method;

	call->begun = true;
	if (!check_headers(call))
		return;
	if (loop_timer_arm(call->loop, &call->timer, call->deadline, on_deadline) < 0) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (server->opts.admit && !server->opts.admit(call, call->conn, server->opts.arg)) {
		if (!call->finished && !call->over)
			rpc_call_finish_code(call, RPC_PERMISSION_DENIED, "not admitted");
		return;
	}
	find_method(call);
	method = call->server.method;
	if (!method) {
		open_fallback(call, server);
		return;
	}
	call->rx_type = method->in;
	call->wait_whole = method->request != NULL;
	if (method->open)
		method->open(call, call->server.service_arg);
}

/* The one request of a unary or server-streaming method, once the client has sent it all. */
static void take_request(struct rpc_call *call)
{
	ProtobufCMessage *msg = NULL;
	struct rpc_buf plain = { 0 };
	struct rpc_arena arena;
	const uint8_t *data;
	size_t len, used, size;

	rpc_call_missing(call, &size);
	/* size 0: a message too large, which is refused at once; more than one message needs no
	 * waiting either. */
	if (!call->peer_ended && size && call->rx.len <= size)
		return;
	if (rpc_call_next_message(call, &plain, &data, &len, &used) <= 0) {
		rpc_call_finish_code(call, RPC_UNIMPLEMENTED, "%s takes one request and got %s",
			rpc_call_path(call), call->rx.len ? "a part of one" : "none");
	} else if (call->rx.len > used) {
		rpc_call_finish_code(
			call, RPC_UNIMPLEMENTED, "%s takes one request", rpc_call_path(call));
	} else {
		call->wait_whole = false;
		rpc_arena_init(&arena, len);
		if (rpc_call_decode(call, call->rx_type, data, len, &arena, &msg) == 0)
			call->server.method->request(call, msg, call->server.service_arg);
		rpc_arena_deinit(&arena);
		rpc_buf_consume(&call->rx, MIN(used, call->rx.len));
	}
	rpc_buf_deinit(&plain);
}

static void role_dispatch(struct rpc_call *call)
{
	if (!call->begun && !call->over && call->headers_received)
		begin(call);
	if (call->wait_whole && !call->over && !call->finished)
		take_request(call);
	if (call->begun)
		rpc_call_deliver(call);
}

static void role_done(struct rpc_call *call)
{
	struct rpc_server *server = call->owner;

	if (call->begun && server->opts.on_call)
		server->opts.on_call(
			call, &call->status, clock_monotonic() - call->started, server->opts.arg);
}

static void role_draining(struct rpc_conn *conn)
{
}

/* Draining ends with the last connection */

static void on_drained(struct loop_defer *defer)
{
	struct rpc_server *server = container_of(defer, struct rpc_server, drained_defer);

	if (server->drained)
		server->drained(server->drained_arg);
}

static void forget_conn(struct rpc_conn *conn)
{
	struct rpc_server *server = conn->owner;

	list_remove(&conn->link);
	server->n_conns--;
	conn->owner = NULL;
	rpc_conn_unref(conn);
	if (server->draining && list_empty(&server->conns))
		loop_defer_queue(server->loop, &server->drained_defer, on_drained);
}

static void role_gone(struct rpc_conn *conn, const char *why)
{
	struct rpc_server *server = conn->owner;

	rpc_conn_ref(conn);
	forget_conn(conn);
	if (server->opts.on_conn_closed)
		server->opts.on_conn_closed(conn, why, server->opts.arg);
	rpc_conn_unref(conn);
}

static const struct rpc_role server_role = {
	.open = role_open,
	.field = role_field,
	.headers = role_headers,
	.closed = role_closed,
	.dispatch = role_dispatch,
	.done = role_done,
	.draining = role_draining,
	.gone = role_gone,
};

/* Connections */

int rpc_server_add_stream(
	struct rpc_server *server, struct io_stream *stream, struct rpc_conn **ret_conn)
{
	struct rpc_conn_opts opts = {
		.is_server = true,
		.role = &server_role,
		.owner = server,
		.max_streams = server->opts.max_streams,
		.max_message = server->opts.max_message,
		.keepalive_interval = server->opts.keepalive_interval,
		.keepalive_timeout = server->opts.keepalive_timeout,
	};
	size_t max =
		server->opts.max_connections ? server->opts.max_connections : LIMIT_RPC_CONNECTIONS;
	struct rpc_conn *conn = NULL;
	int r;

	if (server->draining || server->n_conns >= max) {
		io_stream_free(stream);
		return server->draining ? -ESHUTDOWN : -EUSERS;
	}
	r = rpc_conn_new(server->loop, stream, &opts, &conn);
	if (r < 0)
		return r;
	list_add_tail(&server->conns, &conn->link);
	server->n_conns++;
	if (ret_conn)
		*ret_conn = conn;
	return 0;
}

void rpc_conn_close(struct rpc_conn *conn)
{
	rpc_conn_ref(conn);
	if (conn->owner)
		forget_conn(conn);
	rpc_conn_end(conn, "closed by the server");
	rpc_conn_unref(conn);
}

static void on_accept_again(struct loop_timer *timer)
{
	struct listener *l = container_of(timer, struct listener, pause);

	loop_fd_set(&l->src, EPOLLIN);
}

static void on_accept(struct loop_fd *src, uint32_t events)
{
	struct listener *l = container_of(src, struct listener, src);
	struct io_stream *stream = NULL;
	int fd = addr_accept(l->fd);

	if (fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR)
		return;
	/* The connection stays in the queue and would come again at once. */
	if (fd < 0) {
		loop_fd_set(&l->src, 0);
		loop_timer_arm(
			l->server->loop, &l->pause, deadline_in(ACCEPT_PAUSE), on_accept_again);
		return;
	}
	if (io_stream_new_fd(l->server->loop, fd, &stream) < 0)
		return;
	if (l->server->opts.wrap && l->server->opts.wrap(stream, &stream, l->server->opts.arg) < 0)
		return;
	rpc_server_add_stream(l->server, stream, NULL);
}

static void listener_free(struct listener *l)
{
	list_remove(&l->link);
	loop_timer_disarm(&l->pause);
	loop_fd_remove(&l->src);
	safe_close(l->fd);
	free(l);
}

int rpc_server_listen(struct rpc_server *server, int listen_fd)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l) {
		safe_close(listen_fd);
		return -ENOMEM;
	}
	l->server = server;
	l->fd = listen_fd;
	list_add_tail(&server->listeners, &l->link);
	r = loop_fd_add(server->loop, &l->src, listen_fd, EPOLLIN, on_accept);
	if (r < 0)
		listener_free(l);
	return r;
}

/* The server */

static void stop_listening(struct rpc_server *server)
{
	while (!list_empty(&server->listeners))
		listener_free(list_entry(server->listeners.next, struct listener, link));
}

void rpc_server_drain(struct rpc_server *server, void (*drained)(void *arg), void *arg)
{
	struct rpc_conn *conn;

	server->draining = true;
	server->drained = drained;
	server->drained_arg = arg;
	stop_listening(server);
	list_foreach (conn, &server->conns, link)
		rpc_conn_drain(conn);
	if (list_empty(&server->conns))
		loop_defer_queue(server->loop, &server->drained_defer, on_drained);
}

int rpc_server_add_service(struct rpc_server *server, const struct rpc_service *service,
	const char *alias, void *service_arg)
{
	struct rpc_service_entry *e;

	for (size_t i = 0; i < service->n_methods; i++)
		if (!service->methods[i].request == !service->methods[i].open ||
			(service->methods[i].request && !service->methods[i].in))
			return -EINVAL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	*e = (struct rpc_service_entry){
		.name = alias ? alias : service->name, .service = service, .arg = service_arg
	};
	list_add_tail(&server->services, &e->link);
	rpc_health_changed(server, e->name);
	return 0;
}

int rpc_server_new(
	struct loop *loop, const struct rpc_server_opts *opts, struct rpc_server **ret_server)
{
	struct rpc_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->opts = *opts;
	if (!server->opts.max_streams)
		server->opts.max_streams = LIMIT_RPC_STREAMS;
	list_init(&server->services);
	list_init(&server->listeners);
	list_init(&server->conns);
	list_init(&server->calls);
	list_init(&server->health);
	list_init(&server->health_watchers);
	list_init(&server->descriptors);
	r = rpc_server_add_service(server, &rpc_health_service, NULL, server);
	if (r == 0)
		r = rpc_server_add_service(server, &rpc_reflection_service, NULL, server);
	if (r == 0)
		r = rpc_server_add_service(server, &rpc_reflection_alpha_service, NULL, server);
	if (r == 0)
		r = rpc_reflection_init(server);
	if (r < 0) {
		rpc_server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

struct rpc_server *rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return NULL;
	stop_listening(server);
	server->draining = false;
	while (!list_empty(&server->conns))
		rpc_conn_close(list_entry(server->conns.next, struct rpc_conn, link));
	/* Those whose connection has gone before: over, but waiting to be told. */
	while (!list_empty(&server->calls)) {
		struct rpc_call *call = list_entry(server->calls.next, struct rpc_call, owner_link);

		call->dispatching = false;
		call->drop = true;
		rpc_call_over(call, true, RPC_UNAVAILABLE, "the server ended");
		rpc_call_dispatch(call);
	}
	loop_defer_cancel(&server->drained_defer);
	rpc_health_deinit(server);
	rpc_reflection_deinit(server);
	while (!list_empty(&server->services)) {
		struct rpc_service_entry *e =
			list_entry(server->services.next, struct rpc_service_entry, link);

		list_remove(&e->link);
		free(e);
	}
	free(server);
	return NULL;
}
