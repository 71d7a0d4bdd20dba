/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: an nghttp2 session on a byte stream. Reading feeds the session, whose callbacks
 * record into calls; the deferred flush collects all that the session has to send and writes it at
 * once.
 *
 * What nghttp2 1.52 limits by itself: acknowledgements of PING and SETTINGS that wait to be sent
 * (1000), entries of a SETTINGS frame (32), CONTINUATION frames (8), one header field (64 KiB).
 * Counted here: streams reset in a second, by the peer or because of its frames (CVE-2023-44487,
 * CVE-2025-8671), control frames in a second, the header list, and frames that wait for a peer
 * which does not read.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/internal.h"

#define READ_SIZE    (64 * KIB)
#define OUT_MAX	     (256 * KIB) /* collected for one write */
#define FRAME_HEADER 9		 /* RFC 9113 section 4.1 */
#define TURNS	     16		 /* writes before others on the loop have theirs */
#define READS	     2		 /* the same; together below half of what flow.c calls sure */
#define CONN_WINDOW  (8 * MIB)
#define DRAIN_WAIT   NSEC_PER_SEC /* for the peer to see the first GOAWAY */

static struct rpc_call *call_of(struct rpc_conn *conn, int32_t stream_id)
{
	return stream_id ? nghttp2_session_get_stream_user_data(conn->session, stream_id) : NULL;
}

/* Rates */

static void count(struct rpc_conn *conn, unsigned *n, unsigned limit, const char *what)
{
	if (conn->last_received - conn->rate_start >= NSEC_PER_SEC) {
		conn->rate_start = conn->last_received;
		conn->resets = conn->control_frames = 0;
	}
	if (++*n <= limit || conn->why[0])
		return;
	nghttp2_session_terminate_session(conn->session, NGHTTP2_ENHANCE_YOUR_CALM);
	rpc_conn_fail(conn, "the peer sent more than %u %s in a second", limit, what);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call;

	switch (hd->type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:
	case NGHTTP2_WINDOW_UPDATE:
	case NGHTTP2_GOAWAY:
		break;
	case NGHTTP2_DATA:
		if (!hd->length && !(hd->flags & NGHTTP2_FLAG_END_STREAM))
			count(conn, &conn->control_frames, LIMIT_RPC_CONTROL_FRAMES,
				"control frames");
		break;
	case NGHTTP2_RST_STREAM:
		call = call_of(conn, hd->stream_id);
		/* One that crosses the end of its call is no more than a control frame. */
		if (call && !call->finished && !call->over)
			count(conn, &conn->resets, LIMIT_RPC_RESETS, "stream resets");
		else
			count(conn, &conn->control_frames, LIMIT_RPC_CONTROL_FRAMES,
				"control frames");
		break;
	default:
		count(conn, &conn->control_frames, LIMIT_RPC_CONTROL_FRAMES, "control frames");
	}
	return 0;
}

/* What arrives */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST ||
		!conn->is_server)
		return 0;
	call = conn->why[0] ? NULL : conn->role->open(conn);
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	rpc_conn_attach(conn, call, frame->hd.stream_id);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
	rpc_call_unref(call); /* the attachment has its own */
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
	size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call = call_of(conn, frame->hd.stream_id);

	if (!call || call->over)
		return 0;
	call->header_bytes += name_len + len + 32; /* as RFC 9113, 6.5.2 counts */
	if (call->header_bytes > LIMIT_RPC_HEADER_LIST)
		call->header_overflow = true;
	if (!call->header_overflow)
		conn->role->field(call, name, name_len, value, len);
	return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call = call_of(conn, frame->hd.stream_id);

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (!call)
			break;
		if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
			call->peer_ended = true;
		call->header_bytes = 0;
		if (!call->over)
			conn->role->headers(call, call->peer_ended);
		rpc_call_wake(call);
		break;
	case NGHTTP2_DATA:
		if (!call || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			break;
		call->peer_ended = true;
		rpc_call_wake(call);
		break;
	case NGHTTP2_GOAWAY:
		conn->draining = true;
		conn->role->draining(conn);
		break;
	case NGHTTP2_PING:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
			break;
		if (conn->is_server && conn->draining && !conn->final_goaway)
			loop_timer_arm(conn->loop, &conn->drain_timer, conn->last_received,
				conn->drain_timer.cb);
		break;
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
	size_t len, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call = call_of(conn, stream_id);

	/* The connection's credit goes back at once: what bounds memory are the streams' windows.
	 */
	nghttp2_session_consume_connection(session, len);
	if (!call || call->drop || call->finished)
		return 0;
	if (rpc_buf_add(&call->rx, data, len) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	rpc_flow_received(call);
	rpc_call_wake(call);
	return 0;
}

static void detach(struct rpc_call *call)
{
	struct rpc_conn *conn = call->conn;

	rpc_flow_forget(call);
	list_remove(&call->conn_link);
	conn->n_calls--;
	call->conn = NULL;
	if (conn->draining)
		rpc_conn_flush_soon(conn);
	rpc_call_unref(call);
}

static int on_stream_close(
	nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call = call_of(conn, stream_id);

	if (!call)
		return 0;
	rpc_call_ref(call);
	detach(call);
	conn->role->closed(call, error_code, NULL);
	rpc_call_wake(call);
	rpc_call_unref(call);
	return 0;
}

static int on_frame_not_send(
	nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct rpc_call *call = call_of(arg, frame->hd.stream_id);

	if (call && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		call->refused = true;
	return 0;
}

static bool answered_in_http(struct rpc_conn *conn, int32_t stream_id)
{
	struct rpc_call *call = call_of(conn, stream_id);

	return call && call->server.http_only;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct rpc_conn *conn = arg;

	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		struct rpc_call *call = call_of(conn, frame->hd.stream_id);

		if (call)
			call->client.request_sent = true;
	}
	/* Those sent by this library itself have these codes; any other is about a frame of the
	 * peer. */
	if (frame->hd.type == NGHTTP2_RST_STREAM &&
		frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
		frame->rst_stream.error_code != NGHTTP2_CANCEL &&
		frame->rst_stream.error_code != NGHTTP2_REFUSED_STREAM)
		count(conn, &conn->resets, LIMIT_RPC_RESETS, "stream errors");
	/*
	 * The answer is complete: nobody reads what the client still wanted to send (RFC 9113,
	 * 8.1). Plain HTTP clients take this reset for a failure of their request, so they may go
	 * on, as far as their window reaches.
	 */
	if (conn->is_server && !answered_in_http(conn, frame->hd.stream_id) &&
		(frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
		(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
		nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
		nghttp2_submit_rst_stream(
			session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* What is sent */

/* How much the next frame has of it: send_body() takes the bytes. */
static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
	uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct rpc_call *call = source->ptr;
	size_t pending = call->tx.len - call->tx_sent, n = MIN(length, pending);

	if (!pending && !call->tx_end) {
		call->tx_deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n == pending && call->tx_end) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (call->is_server) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (rpc_server_submit_trailers(call) < 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	return (ssize_t)n;
}

static void taken(struct rpc_call *call, size_t n)
{
	if (call->tx_keep && call->tx_sent + n <= LIMIT_RPC_RETRY_BUFFER) {
		call->tx_sent += n;
	} else {
		call->tx_keep = false;
		rpc_buf_consume(&call->tx, call->tx_sent + n);
		call->tx_sent = 0;
	}
	if (call->tx_full && call->tx.len - call->tx_sent <= LIMIT_RPC_SEND_HIGH / 2) {
		call->tx_full = false;
		call->writable_due = true;
		rpc_call_wake(call);
	}
}

/* A frame's header and its bytes, straight to what is written. */
static int send_body(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
	nghttp2_data_source *source, void *arg)
{
	struct rpc_conn *conn = arg;
	struct rpc_call *call = source->ptr;

	if (conn->out.len >= OUT_MAX)
		return NGHTTP2_ERR_WOULDBLOCK;
	if (rpc_buf_add(&conn->out, head, FRAME_HEADER) < 0 ||
		rpc_buf_add(&conn->out, rpc_buf_data(&call->tx) + call->tx_sent, n) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	taken(call, n);
	return 0;
}

nghttp2_data_provider rpc_conn_provider(struct rpc_call *call)
{
	return (nghttp2_data_provider){ .source.ptr = call, .read_callback = read_body };
}

void rpc_conn_resume(struct rpc_call *call)
{
	if (!call->conn || !call->tx_deferred)
		return;
	call->tx_deferred = false;
	nghttp2_session_resume_data(call->conn->session, call->stream_id);
	rpc_conn_flush_soon(call->conn);
}

void rpc_conn_reset(struct rpc_call *call, uint32_t error_code)
{
	if (!call->conn)
		return;
	nghttp2_submit_rst_stream(
		call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id, error_code);
	rpc_conn_flush_soon(call->conn);
}

void rpc_conn_attach(struct rpc_conn *conn, struct rpc_call *call, int32_t stream_id)
{
	call->conn = conn;
	call->stream_id = stream_id;
	call->window = LIMIT_RPC_WINDOW_FIRST;
	call->max_message = conn->max_message;
	list_add_tail(&conn->calls, &call->conn_link);
	conn->n_calls++;
	rpc_call_ref(call);
}

/* Collects what the session has to send. 0 or -errno. */
static int collect(struct rpc_conn *conn)
{
	while (conn->out.len < OUT_MAX) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(conn->session, &data);

		if (n <= 0)
			return n == 0 ? 0 : -EPROTO;
		if (rpc_buf_add(&conn->out, data, (size_t)n) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int write_out(struct rpc_conn *conn)
{
	for (int turn = 0; turn < TURNS; turn++) {
		struct iovec iov;
		ssize_t put;
		/* Behind what was not taken nothing is put: making room for it would be copying. */
		int r = conn->out.len ? 0 : collect(conn);

		if (r < 0)
			return r;
		if (!conn->out.len)
			return 0;
		iov = (struct iovec){ rpc_buf_data(&conn->out), conn->out.len };
		put = io_stream_writev(conn->stream, &iov, 1);
		conn->blocked = put == -EAGAIN;
		if (conn->blocked)
			return 0;
		if (put < 0)
			return (int)put;
		rpc_buf_consume(&conn->out, (size_t)put);
	}
	rpc_conn_flush_soon(conn);
	return 0;
}

static void end_and_tell(struct rpc_conn *conn, const char *why)
{
	const struct rpc_role *role = conn->role;

	rpc_conn_end(conn, why);
	if (conn->owner)
		role->gone(conn, why);
}

static void flush(struct rpc_conn *conn)
{
	int r;

	if (conn->ended)
		return;
	rpc_conn_ref(conn);
	r = write_out(conn);
	if (r < 0)
		rpc_conn_fail(conn, "cannot write to the peer: %s", strerror(-r));
	else if (conn->blocked &&
		 nghttp2_session_get_outbound_queue_size(conn->session) > LIMIT_RPC_OUTBOUND)
		rpc_conn_fail(conn, "the peer does not read: more than %d frames wait",
			LIMIT_RPC_OUTBOUND);
	io_stream_want(conn->stream, EPOLLIN | (conn->blocked ? EPOLLOUT : 0));
	if (conn->why[0])
		end_and_tell(conn, conn->why);
	else if (!conn->out.len && !nghttp2_session_want_read(conn->session) &&
		 !nghttp2_session_want_write(conn->session))
		end_and_tell(conn, "closed after a GOAWAY or an error of the protocol");
	else if (conn->draining && !conn->n_calls && !conn->out.len &&
		 (conn->final_goaway || !conn->is_server))
		end_and_tell(conn, "drained");
	rpc_conn_unref(conn);
}

static void on_flush(struct loop_defer *defer)
{
	flush(container_of(defer, struct rpc_conn, flush));
}

void rpc_conn_flush_soon(struct rpc_conn *conn)
{
	if (!conn->ended)
		loop_defer_queue(conn->loop, &conn->flush, on_flush);
}

/* What is read */

static bool read_in(struct rpc_conn *conn)
{
	uint8_t buf[READ_SIZE];
	ssize_t got = io_stream_read(conn->stream, buf, sizeof(buf)), used;

	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		rpc_conn_fail(conn,
			got ? "cannot read from the peer: %s" : "the peer closed the connection",
			got ? strerror((int)-got) : "");
		return false;
	}
	conn->last_received = clock_monotonic();
	used = nghttp2_session_mem_recv(conn->session, buf, (size_t)got);
	if (used < 0) {
		rpc_conn_fail(conn, "the peer broke HTTP/2: %s", nghttp2_strerror((int)used));
		return false;
	}
	return (size_t)got == sizeof(buf) && !conn->why[0];
}

static void on_stream_event(void *arg, uint32_t events)
{
	struct rpc_conn *conn = arg;

	if (conn->ended)
		return;
	if (events & ~(uint32_t)EPOLLOUT)
		for (int turn = 0; turn < READS && read_in(conn); turn++)
			;
	/* Behind the calls that were woken: their answers go out in the same write. */
	rpc_conn_flush_soon(conn);
}

/* Keepalive and draining */

static void on_keepalive(struct loop_timer *timer)
{
	struct rpc_conn *conn = container_of(timer, struct rpc_conn, keepalive);
	int64_t now = clock_monotonic(), next;

	if (conn->ping_sent && conn->last_received < conn->ping_sent) {
		rpc_conn_fail(conn, "the peer did not answer a PING in %lld ms",
			(long long)(conn->keepalive_timeout / NSEC_PER_MSEC));
		return;
	}
	conn->ping_sent = 0;
	next = conn->last_received + conn->keepalive_interval;
	if (next <= now) {
		conn->ping_sent = now;
		next = now + conn->keepalive_timeout;
		nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
		rpc_conn_flush_soon(conn);
	}
	if (loop_timer_arm(conn->loop, timer, next, on_keepalive) < 0)
		rpc_conn_fail(conn, "out of memory");
}

static void on_drain_timer(struct loop_timer *timer)
{
	struct rpc_conn *conn = container_of(timer, struct rpc_conn, drain_timer);

	conn->final_goaway = true;
	nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
		nghttp2_session_get_last_proc_stream_id(conn->session), NGHTTP2_NO_ERROR, NULL, 0);
	rpc_conn_flush_soon(conn);
}

void rpc_conn_drain(struct rpc_conn *conn)
{
	if (conn->draining || conn->ended)
		return;
	conn->draining = true;
	/*
	 * First a GOAWAY that excludes nothing, then, when the peer has seen it (it answers a PING)
	 * or after a while, one with the last stream taken: so no call is lost that was on its way
	 * (RFC 9113, 6.8).
	 */
	nghttp2_submit_shutdown_notice(conn->session);
	nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
	if (loop_timer_arm(
		    conn->loop, &conn->drain_timer, deadline_in(DRAIN_WAIT), on_drain_timer) < 0)
		on_drain_timer(&conn->drain_timer);
	rpc_conn_flush_soon(conn);
}

/* Life */

static int session_new(struct rpc_conn *conn, const struct rpc_conn_opts *opts)
{
	nghttp2_session_callbacks *cbs = NULL;
	nghttp2_option *option = NULL;
	int r = nghttp2_session_callbacks_new(&cbs);

	if (r == 0)
		r = nghttp2_option_new(&option);
	if (r == 0) {
		nghttp2_session_callbacks_set_on_begin_frame_callback(cbs, on_begin_frame);
		nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data);
		nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
		nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_frame_send);
		nghttp2_session_callbacks_set_on_frame_not_send_callback(cbs, on_frame_not_send);
		nghttp2_session_callbacks_set_send_data_callback(cbs, send_body);
		nghttp2_option_set_no_auto_window_update(option, 1);
		nghttp2_option_set_no_closed_streams(option, 1);
		/* Its own limit, 33 a second in the long run, would end connections that cancel
		 * many calls for good reasons. */
		nghttp2_option_set_stream_reset_rate_limit(
			option, 2 * LIMIT_RPC_RESETS, LIMIT_RPC_RESETS);
		r = opts->is_server
			    ? nghttp2_session_server_new2(&conn->session, cbs, conn, option)
			    : nghttp2_session_client_new2(&conn->session, cbs, conn, option);
	}
	nghttp2_session_callbacks_del(cbs);
	nghttp2_option_del(option);
	return r ? -ENOMEM : 0;
}

static int submit_settings(struct rpc_conn *conn, const struct rpc_conn_opts *opts)
{
	nghttp2_settings_entry iv[4] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_RPC_WINDOW_FIRST },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_RPC_HEADER_LIST },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, opts->max_streams },
	};

	if (!opts->is_server)
		iv[2] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };
	if (nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, iv, 3) != 0 ||
		nghttp2_session_set_local_window_size(
			conn->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) != 0)
		return -ENOMEM;
	return 0;
}

static int conn_start(struct rpc_conn *conn, const struct rpc_conn_opts *opts)
{
	int r = session_new(conn, opts);

	if (r == 0)
		r = submit_settings(conn, opts);
	conn->last_received = conn->rate_start = clock_monotonic();
	conn->drain_timer.cb = on_drain_timer;
	if (r == 0 && opts->keepalive_interval)
		r = loop_timer_arm(conn->loop, &conn->keepalive,
			conn->last_received + opts->keepalive_interval, on_keepalive);
	return r;
}

int rpc_conn_new(struct loop *loop, struct io_stream *stream, const struct rpc_conn_opts *opts,
	struct rpc_conn **ret_conn)
{
	struct rpc_conn *conn = calloc(1, sizeof(*conn));
	int r = -ENOMEM;

	if (!conn) {
		io_stream_free(stream);
		return r;
	}
	*conn = (struct rpc_conn){
		.refs = 1,
		.role = opts->role,
		.owner = opts->owner,
		.loop = loop,
		.stream = stream,
		.is_server = opts->is_server,
		.max_message = opts->max_message ? opts->max_message : LIMIT_RPC_MESSAGE,
		.keepalive_interval = opts->keepalive_interval,
		.keepalive_timeout = opts->keepalive_timeout ? opts->keepalive_timeout
							     : opts->keepalive_interval,
	};
	list_init(&conn->link);
	list_init(&conn->calls);
	list_init(&conn->assembly_queue);
	r = conn_start(conn, opts);
	if (r < 0) {
		conn->owner = NULL;
		rpc_conn_end(conn, "out of memory");
		rpc_conn_unref(conn);
		return r;
	}
	stream->on_event = on_stream_event;
	stream->arg = conn;
	io_stream_want(stream, EPOLLIN);
	rpc_conn_flush_soon(conn);
	*ret_conn = conn;
	return 0;
}

bool rpc_conn_usable(const struct rpc_conn *conn)
{
	return !conn->ended && !conn->why[0] && !conn->draining &&
	       nghttp2_session_check_request_allowed(conn->session);
}

void rpc_conn_fail(struct rpc_conn *conn, const char *fmt, ...)
{
	va_list ap;

	if (conn->ended || conn->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(conn->why, sizeof(conn->why), fmt, ap);
	va_end(ap);
	conn->draining = true;
	rpc_conn_flush_soon(conn);
}

void rpc_conn_end(struct rpc_conn *conn, const char *why)
{
	if (conn->ended)
		return;
	conn->ended = true;
	rpc_conn_ref(conn);
	loop_defer_cancel(&conn->flush);
	loop_timer_disarm(&conn->keepalive);
	loop_timer_disarm(&conn->drain_timer);
	conn->stream = io_stream_free(conn->stream);
	if (!conn->why[0])
		snprintf(conn->why, sizeof(conn->why), "%s", why);
	while (!list_empty(&conn->calls)) {
		struct rpc_call *call =
			rpc_call_ref(list_entry(conn->calls.next, struct rpc_call, conn_link));

		detach(call);
		conn->role->closed(call, NGHTTP2_NO_ERROR, conn->why);
		rpc_call_dispatch(call);
		rpc_call_unref(call);
	}
	rpc_conn_unref(conn);
}

struct rpc_conn *rpc_conn_ref(struct rpc_conn *conn)
{
	conn->refs++;
	return conn;
}

struct rpc_conn *rpc_conn_unref(struct rpc_conn *conn)
{
	if (conn && --conn->refs == 0) {
		nghttp2_session_del(conn->session);
		rpc_buf_deinit(&conn->out);
		free(conn);
	}
	return NULL;
}

/* Header fields */

void rpc_fields_add(struct rpc_fields *fields, const char *name, const char *value, size_t len)
{
	if (fields->n < ARRAY_SIZE(fields->nv))
		fields->nv[fields->n++] = (nghttp2_nv){ (uint8_t *)(uintptr_t)name,
			(uint8_t *)(uintptr_t)value, strlen(name), len, NGHTTP2_NV_FLAG_NONE };
}

void rpc_fields_add_meta(struct rpc_fields *fields, const struct rpc_meta *meta)
{
	for (size_t i = 0; i < meta->n; i++)
		rpc_fields_add(
			fields, rpc_meta_key(meta, i), rpc_meta_value(meta, i), meta->items[i].len);
}

bool rpc_field_is(const uint8_t *name, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(name, word, len) == 0;
}
