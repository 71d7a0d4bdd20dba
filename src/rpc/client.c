/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's end of calls, and channels. A call that has no connection, or whose stream was
 * refused, waits for its own retry timer and then takes the channel's connection, which it dials if
 * there is none. What it has sent is kept (up to a limit) until the server's answer commits it.
 */
#include "rpc/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/parse.h"
#include "io/addr.h"
#include "rpc/internal.h"
#include "rpc/wire.h"

#define BACKOFF_FIRST (50 * NSEC_PER_MSEC)
#define BACKOFF_MAX   (5 * NSEC_PER_SEC)
#define DIAL_WAIT     (5 * NSEC_PER_SEC)

struct rpc_channel {
	struct loop *loop;
	struct rpc_channel_opts opts;
	char *authority;
	struct addr *addr;     /* of rpc_channel_new_addr() */
	struct rpc_conn *conn; /* takes new calls; NULL: none */
	struct list leaving;   /* connections that only finish their calls */
	struct list calls;
	bool dialled;
	bool freed;
	char why[LIMIT_ERR_MESSAGE]; /* how the last connection or attempt ended */
};

static const struct rpc_role client_role;
static void try_call(struct rpc_call *call);

/* Retries */

static void on_retry(struct loop_timer *timer)
{
	struct rpc_call *call = container_of(timer, struct rpc_call, client.retry_timer);

	if (!call->over)
		try_call(call);
}

/* As if it had never been sent. */
static void rewind_call(struct rpc_call *call)
{
	call->tx_sent = 0;
	call->tx_deferred = call->refused = false;
	call->client.request_sent = call->client.again = call->client.has_status =
		call->client.content_type_ok = false;
	call->client.bad_metadata = false;
	call->client.http_status = 0;
	call->headers_received = call->peer_ended = call->header_overflow = false;
	call->header_bytes = 0;
	call->rx_encoding = RPC_ENCODING_IDENTITY;
	call->stream_id = 0;
	rpc_buf_consume(&call->rx, call->rx.len);
	rpc_meta_deinit(&call->peer_meta);
	rpc_meta_deinit(&call->peer_trailers);
	rpc_status_deinit(&call->status);
}

/* Full jitter: anything from nothing to the step's length. The first retry comes at once. */
static int64_t backoff(unsigned attempts)
{
	int64_t step = BACKOFF_FIRST;
	uint64_t random;

	if (!attempts)
		return 0;
	while (--attempts && step < BACKOFF_MAX)
		step *= 2;
	random_bytes(&random, sizeof(random));
	return (int64_t)(random % (uint64_t)MIN(step, BACKOFF_MAX));
}

/* The call did not run, or may run once more. It is tried again, or over with code and why. */
static void retry(struct rpc_call *call, bool dial_failed, enum rpc_code code, const char *why)
{
	struct rpc_channel *channel = call->owner;
	/* A dial that failed just now will do so again: no attempt at once. */
	int64_t delay = backoff(call->client.attempts + dial_failed);
	int64_t at = deadline_in(delay);

	if (call->client.retry == RPC_RETRY_NEVER || !channel || channel->freed ||
		(channel->opts.no_redial && dial_failed) || at >= call->deadline ||
		(call->deadline == DEADLINE_NONE && call->client.attempts >= LIMIT_RPC_RETRIES)) {
		rpc_call_over(call, true, code, "%s", why);
		return;
	}
	call->client.attempts++;
	rewind_call(call);
	if (loop_timer_arm(call->loop, &call->client.retry_timer, at, on_retry) < 0)
		rpc_call_over(call, true, RPC_RESOURCE_EXHAUSTED, "out of memory");
}

/* Whether all that was sent can be sent once more, and nothing has come back. */
static bool repeatable(const struct rpc_call *call)
{
	return call->tx_keep && !call->rx_any && !call->metadata_delivered;
}

/* Connections */

static int channel_connect(struct rpc_channel *channel)
{
	struct rpc_conn_opts opts = {
		.role = &client_role,
		.owner = channel,
		.max_message = channel->opts.max_message,
		.keepalive_interval = channel->opts.keepalive_interval,
		.keepalive_timeout = channel->opts.keepalive_timeout,
	};
	struct io_stream *stream = NULL;
	struct err err = ERR_INIT;
	int r;

	if (channel->opts.no_redial && channel->dialled)
		return -ENOTCONN;
	r = channel->opts.dial(channel->loop, &stream, channel->opts.arg, &err);
	if (r < 0) {
		snprintf(channel->why, sizeof(channel->why), "%s",
			err.msg[0] ? err.msg : strerror(-r));
		return r;
	}
	channel->dialled = true;
	r = rpc_conn_new(channel->loop, stream, &opts, &channel->conn);
	if (r < 0)
		snprintf(channel->why, sizeof(channel->why), "%s", strerror(-r));
	return r;
}

/* The connection takes no more calls; it ends by itself behind its last. */
static void leave(struct rpc_channel *channel, struct rpc_conn *conn)
{
	if (channel->conn != conn)
		return;
	channel->conn = NULL;
	list_add_tail(&channel->leaving, &conn->link);
	conn->draining = true;
	rpc_conn_flush_soon(conn);
}

static int channel_conn(struct rpc_channel *channel)
{
	if (channel->conn && !rpc_conn_usable(channel->conn))
		leave(channel, channel->conn);
	return channel->conn ? 0 : channel_connect(channel);
}

static void role_draining(struct rpc_conn *conn)
{
	if (conn->owner)
		leave(conn->owner, conn);
}

static void forget_conn(struct rpc_conn *conn)
{
	struct rpc_channel *channel = conn->owner;

	list_remove(&conn->link);
	if (channel->conn == conn)
		channel->conn = NULL;
	conn->owner = NULL;
	rpc_conn_unref(conn);
}

static void role_gone(struct rpc_conn *conn, const char *why)
{
	struct rpc_channel *channel = conn->owner;

	rpc_conn_ref(conn);
	snprintf(channel->why, sizeof(channel->why), "%s", conn->why[0] ? conn->why : why);
	forget_conn(conn);
	if (channel->opts.on_disconnect)
		channel->opts.on_disconnect(
			channel, conn->why[0] ? conn->why : why, channel->opts.arg);
	rpc_conn_unref(conn);
}

/* Requests */

static const nghttp2_nv first_fields[] = {
	RPC_FIELD(":method", "POST"),
	RPC_FIELD(":scheme", "http"),
};
static const nghttp2_nv more_fields[] = {
	RPC_FIELD("te", "trailers"),
	RPC_FIELD("content-type", "application/grpc"),
	RPC_FIELD("user-agent", "micropod/" MICROPOD_VERSION),
	RPC_FIELD("grpc-accept-encoding", "identity,deflate,gzip"),
};
static const nghttp2_nv encoding_gzip = RPC_FIELD("grpc-encoding", "gzip");

static int submit(struct rpc_call *call, struct rpc_conn *conn)
{
	struct rpc_channel *channel = call->owner;
	nghttp2_data_provider provider = rpc_conn_provider(call);
	char timeout[WIRE_TIMEOUT_MAX];
	struct rpc_fields fields;

	fields.n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(first_fields); i++)
		fields.nv[fields.n++] = first_fields[i];
	rpc_fields_add(&fields, ":path", call->path, strlen(call->path));
	rpc_fields_add(&fields, ":authority", channel->authority, strlen(channel->authority));
	for (size_t i = 0; i < ARRAY_SIZE(more_fields); i++)
		fields.nv[fields.n++] = more_fields[i];
	if (call->deadline != DEADLINE_NONE) {
		wire_timeout_format(call->deadline - clock_monotonic(), timeout);
		rpc_fields_add(&fields, "grpc-timeout", timeout, strlen(timeout));
	}
	if (call->gzip_header)
		fields.nv[fields.n++] = encoding_gzip;
	rpc_fields_add_meta(&fields, &call->meta);
	return nghttp2_submit_request(conn->session, NULL, fields.nv, fields.n, &provider, call);
}

static void try_call(struct rpc_call *call)
{
	struct rpc_channel *channel = call->owner;
	int r = channel_conn(channel);

	if (r < 0) {
		char why[2 * LIMIT_ERR_MESSAGE];

		snprintf(why, sizeof(why), "no connection: %s", channel->why);
		retry(call, true, RPC_UNAVAILABLE, why);
		return;
	}
	r = submit(call, channel->conn);
	if (r == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) {
		leave(channel, channel->conn);
		retry(call, false, RPC_UNAVAILABLE, "the connection has no stream ids left");
	} else if (r < 0) {
		rpc_call_over(
			call, true, RPC_INTERNAL, "cannot make a request: %s", nghttp2_strerror(r));
	} else {
		rpc_conn_attach(channel->conn, call, r);
		rpc_conn_flush_soon(channel->conn);
	}
}

static void on_deadline(struct loop_timer *timer)
{
	struct rpc_call *call = container_of(timer, struct rpc_call, timer);

	rpc_call_over(call, true, RPC_DEADLINE_EXCEEDED, "the deadline has passed");
	rpc_conn_reset(call, NGHTTP2_CANCEL);
}

int rpc_channel_call(struct rpc_channel *channel, const char *path,
	const ProtobufCMessageDescriptor *out, const struct rpc_call_opts *opts,
	const struct rpc_call_ops *ops, void *arg, struct rpc_call **ret_call)
{
	struct rpc_call *call = rpc_call_new(channel->loop, &client_role, channel, &channel->calls);

	if (!call)
		return -ENOMEM;
	call->path = strdup(path);
	if (!call->path) {
		rpc_call_unref(call);
		return -ENOMEM;
	}
	if (ops)
		call->ops = ops;
	call->arg = arg;
	call->rx_type = out;
	if (channel->opts.max_message)
		call->max_message = channel->opts.max_message;
	if (opts) {
		call->deadline = opts->deadline ? opts->deadline : DEADLINE_NONE;
		call->client.retry = opts->retry;
		call->gzip = call->gzip_header = opts->gzip;
	}
	call->tx_keep = call->client.retry != RPC_RETRY_NEVER;
	for (size_t i = 0; i < channel->opts.n_headers; i++) {
		const struct rpc_header *h = &channel->opts.headers[i];

		if (rpc_call_add_metadata(call, h->key, h->value, strlen(h->value)) < 0) {
			rpc_call_unref(call);
			return -ENOMEM;
		}
	}
	*ret_call = call;
	return 0;
}

void rpc_call_start(struct rpc_call *call)
{
	if (call->begun || call->over)
		return;
	call->begun = true;
	call->started = clock_monotonic();
	if (call->deadline <= call->started)
		rpc_call_over(call, true, RPC_DEADLINE_EXCEEDED, "the deadline has passed");
	else if (loop_timer_arm(call->loop, &call->timer, call->deadline, on_deadline) < 0)
		rpc_call_over(call, true, RPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		try_call(call);
}

/* Responses */

static void status_field(struct rpc_call *call, const uint8_t *value, size_t len)
{
	unsigned code = 0;

	for (size_t i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9' || i > 1) {
			code = RPC_UNKNOWN;
			break;
		}
		code = code * 10 + (value[i] - '0');
	}
	call->client.has_status = len > 0;
	call->client.code = code < RPC_CODE_MAX ? (enum rpc_code)code : RPC_UNKNOWN;
}

static void details_field(struct rpc_call *call, const uint8_t *value, size_t len)
{
	auto_strbuf struct strbuf plain = STRBUF_INIT;

	if (wire_base64_decode(&plain, value, len) < 0 || strbuf_error(&plain) < 0 || !plain.len)
		return;
	free(call->status.details);
	call->status.details_len = plain.len;
	call->status.details = (uint8_t *)strbuf_finish(&plain);
}

static void http_status_field(struct rpc_call *call, const uint8_t *value, size_t len)
{
	call->client.http_status = 0;
	for (size_t i = 0; i < len && i < 3; i++) /* nghttp2 lets only digits through */
		call->client.http_status = call->client.http_status * 10 + (value[i] - '0');
}

static void role_field(struct rpc_call *call, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t len)
{
	/* Which block it is in only its end tells: all go to trailers, and are moved if it was the
	 * initial one. */
	if (rpc_field_is(name, name_len, ":status")) {
		http_status_field(call, value, len);
	} else if (rpc_field_is(name, name_len, "content-type")) {
		call->client.content_type_ok = wire_content_type_ok(value, len);
	} else if (rpc_field_is(name, name_len, "grpc-status")) {
		status_field(call, value, len);
	} else if (rpc_field_is(name, name_len, "grpc-message")) {
		wire_percent_decode(value, len, call->status.message, sizeof(call->status.message));
	} else if (rpc_field_is(name, name_len, "grpc-status-details-bin")) {
		details_field(call, value, len);
	} else if (rpc_field_is(name, name_len, "grpc-encoding")) {
		call->rx_encoding =
			rpc_field_is(value, len, "gzip") || rpc_field_is(value, len, "deflate")
				? RPC_ENCODING_GZIP
			: rpc_field_is(value, len, "identity") ? RPC_ENCODING_IDENTITY
							       : RPC_ENCODING_UNKNOWN;
	} else if (name_len > 5 && memcmp(name, "grpc-", 5) == 0) {
		return;
	} else {
		int r = rpc_meta_add_wire(&call->peer_trailers, name, name_len, value, len);

		if (r == -ENOBUFS)
			call->header_overflow = true;
		else if (r < 0)
			call->client.bad_metadata = true;
	}
}

/* The status of a response that has ended, by its trailers or for want of them. */
static void response_ended(struct rpc_call *call)
{
	struct rpc_status *s = &call->status;

	if (call->client.has_status) {
		call->over = true;
		s->code = call->client.code;
	} else if (call->client.http_status != 200) {
		rpc_call_over(call, false, wire_code_from_http(call->client.http_status),
			"HTTP status %u", call->client.http_status);
	} else {
		rpc_call_over(call, false, RPC_UNKNOWN, "the response ended without a status");
	}
	if (s->code == RPC_UNAVAILABLE && call->client.retry == RPC_RETRY_IDEMPOTENT &&
		repeatable(call)) {
		call->over = false;
		call->client.again = true;
	}
	/* Whatever was still to be sent, nobody reads. */
	if (call->conn &&
		nghttp2_session_get_stream_local_close(call->conn->session, call->stream_id) == 0)
		rpc_conn_reset(call, NGHTTP2_NO_ERROR);
}

static void initial_metadata(struct rpc_call *call)
{
	if (call->client.http_status != 200 || !call->client.content_type_ok) {
		rpc_call_fail(call, wire_code_from_http(call->client.http_status),
			call->client.http_status != 200
				? "HTTP status %u"
				: "HTTP status %u without a gRPC content-type",
			call->client.http_status);
		return;
	}
	call->peer_meta = call->peer_trailers;
	call->peer_trailers = (struct rpc_meta){ 0 };
	call->headers_received = true;
	if (call->rx_encoding == RPC_ENCODING_UNKNOWN)
		rpc_call_fail(call, RPC_INTERNAL,
			"the response has a grpc-encoding that was not offered");
	/* The server has committed itself. */
	call->tx_keep = false;
	rpc_buf_consume(&call->tx, call->tx_sent);
	call->tx_sent = 0;
}

static void role_headers(struct rpc_call *call, bool end_stream)
{
	if (!end_stream && call->client.http_status >= 100 && call->client.http_status < 200) {
		rpc_meta_deinit(&call->peer_trailers); /* an interim response says nothing */
	} else if (call->header_overflow) {
		rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED,
			"the response headers have more than %d bytes or %d fields",
			(int)LIMIT_RPC_HEADER_LIST, LIMIT_RPC_HEADER_COUNT);
	} else if (call->client.bad_metadata) {
		rpc_call_fail(call, RPC_INTERNAL, "a -bin header is not base64");
	} else if (end_stream) {
		response_ended(call);
	} else if (!call->headers_received) {
		initial_metadata(call);
	}
}

static void role_closed(struct rpc_call *call, uint32_t error_code, const char *lost)
{
	bool unsent = call->refused || error_code == NGHTTP2_REFUSED_STREAM ||
		      (lost && !call->client.request_sent);
	char why[2 * LIMIT_ERR_MESSAGE];

	if (call->over)
		return;
	if (call->client.again) {
		char text[LIMIT_ERR_MESSAGE];

		memcpy(text, call->status.message, sizeof(text));
		retry(call, false, RPC_UNAVAILABLE, text);
		return;
	}
	if (!lost && call->peer_ended) { /* by DATA, not by trailers */
		response_ended(call);
		return;
	}
	if (lost)
		snprintf(why, sizeof(why), "the connection is lost: %s", lost);
	else
		snprintf(why, sizeof(why), "the stream was reset: %s",
			nghttp2_http2_strerror(error_code));
	if ((unsent || (lost && call->client.retry == RPC_RETRY_IDEMPOTENT)) && repeatable(call))
		retry(call, false, RPC_UNAVAILABLE, why);
	else
		rpc_call_over(call, false, lost ? RPC_UNAVAILABLE : wire_code_from_h2(error_code),
			"%s", why);
}

static void role_dispatch(struct rpc_call *call)
{
	if (call->headers_received && !call->metadata_delivered && !call->drop) {
		call->metadata_delivered = true;
		if (call->ops->metadata)
			call->ops->metadata(call, call->arg);
	}
	rpc_call_deliver(call);
}

static void role_done(struct rpc_call *call)
{
	loop_timer_disarm(&call->client.retry_timer);
}

static const struct rpc_role client_role = {
	.field = role_field,
	.headers = role_headers,
	.closed = role_closed,
	.dispatch = role_dispatch,
	.done = role_done,
	.draining = role_draining,
	.gone = role_gone,
};

/* Channels */

int rpc_channel_new(
	struct loop *loop, const struct rpc_channel_opts *opts, struct rpc_channel **ret_channel)
{
	struct rpc_channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return -ENOMEM;
	channel->loop = loop;
	channel->opts = *opts;
	channel->authority = strdup(opts->authority ? opts->authority : "localhost");
	list_init(&channel->leaving);
	list_init(&channel->calls);
	snprintf(channel->why, sizeof(channel->why), "none was made");
	if (!channel->authority) {
		free(channel);
		return -ENOMEM;
	}
	*ret_channel = channel;
	return 0;
}

static int dial_addr(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	int fd = addr_dial(arg, deadline_in(DIAL_WAIT), err), r;

	if (fd < 0)
		return fd;
	r = io_stream_new_fd(loop, fd, ret_stream);
	return r < 0 ? err_errno(err, -r, "watch the connection") : 0;
}

int rpc_channel_new_addr(
	struct loop *loop, const char *address, struct rpc_channel **ret_channel, struct err *err)
{
	auto_free struct addr *addr = malloc(sizeof(*addr));
	struct rpc_channel_opts opts = { .dial = dial_addr, .arg = addr };
	int r = addr ? addr_parse(address, addr, err) : err_errno(err, ENOMEM, "address");

	if (r < 0)
		return r;
	r = rpc_channel_new(loop, &opts, ret_channel);
	if (r < 0)
		return err_errno(err, -r, "channel");
	(*ret_channel)->addr = take_ptr(addr);
	return 0;
}

struct rpc_channel *rpc_channel_free(struct rpc_channel *channel)
{
	if (!channel)
		return NULL;
	channel->freed = true;
	while (!list_empty(&channel->calls)) {
		struct rpc_call *call =
			list_entry(channel->calls.next, struct rpc_call, owner_link);

		call->dispatching = false;
		call->drop = true;
		rpc_call_over(call, true, RPC_UNAVAILABLE, "the channel was closed");
		rpc_call_dispatch(call);
	}
	if (channel->conn)
		leave(channel, channel->conn);
	while (!list_empty(&channel->leaving)) {
		struct rpc_conn *conn = list_entry(channel->leaving.next, struct rpc_conn, link);

		rpc_conn_ref(conn);
		forget_conn(conn);
		rpc_conn_end(conn, "closed");
		rpc_conn_unref(conn);
	}
	free(channel->addr);
	free(channel->authority);
	free(channel);
	return NULL;
}

/* Unary calls that wait */

struct unary {
	bool done;
	ProtobufCMessage *answer;
	struct rpc_status status;
};

static void unary_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct unary *u = arg;

	if (u->answer) {
		rpc_call_fail(call, RPC_UNIMPLEMENTED, "more than one answer");
		return;
	}
	/* It fitted the budget of decoding; this copy lives on. */
	u->answer = protobuf_c_message_unpack(msg->descriptor, NULL, len, raw);
	if (!u->answer)
		rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void unary_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct unary *u = arg;

	u->done = true;
	u->status = *status;
	u->status.details = NULL;
	u->status.details_len = 0;
	if (status->details) {
		u->status.details = malloc(status->details_len);
		if (u->status.details) {
			memcpy(u->status.details, status->details, status->details_len);
			u->status.details_len = status->details_len;
		}
	}
	if (status->code == RPC_OK && !u->answer)
		u->status = (struct rpc_status){ .code = RPC_UNIMPLEMENTED,
			.message = "OK without an answer" };
}

static const struct rpc_call_ops unary_ops = { .message = unary_message, .done = unary_done };

int rpc_channel_unary(struct rpc_channel *channel, const char *path,
	const ProtobufCMessage *request, const ProtobufCMessageDescriptor *out,
	const struct rpc_call_opts *opts, ProtobufCMessage **ret_answer, struct rpc_status *status,
	struct err *err)
{
	struct unary u = { .done = false };
	struct rpc_call *call = NULL;
	int r = rpc_channel_call(channel, path, out, opts, &unary_ops, &u, &call);

	if (r == 0) {
		r = rpc_call_send(call, request);
		rpc_call_half_close(call);
		if (r < 0)
			rpc_call_over(call, true, rpc_code_from_errno(-r),
				"the request cannot be sent: %s", strerror(-r));
		else
			rpc_call_start(call);
		r = 0;
		while (!u.done && r == 0)
			r = loop_once(channel->loop, DEADLINE_NONE);
		if (!u.done) {
			rpc_call_cancel(call);
			rpc_call_dispatch(call);
		}
	}
	if (r < 0 && !u.done)
		u.status = (struct rpc_status){ .code = RPC_RESOURCE_EXHAUSTED,
			.message = "out of memory" };
	r = rpc_status_to_err(&u.status, err);
	if (r == 0 && ret_answer)
		*ret_answer = take_ptr(u.answer);
	if (u.answer)
		protobuf_c_message_free_unpacked(u.answer, NULL);
	if (status)
		*status = u.status;
	else
		rpc_status_deinit(&u.status);
	return r;
}
