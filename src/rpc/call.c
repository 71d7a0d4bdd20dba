/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a call that both ends share: messages in and out, and the order in which callbacks
 * come. */
#include "rpc/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rpc/internal.h"

#define FRAME 5 /* bytes before a message: compressed flag, big-endian length */

static void no_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
}

static const struct rpc_call_ops no_ops = { .done = no_done };

/* Life */

struct rpc_call *rpc_call_new(
	struct loop *loop, const struct rpc_role *role, void *owner, struct list *owner_list)
{
	static uint64_t last_id;
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->refs = 1;
	call->role = role;
	call->owner = owner;
	call->loop = loop;
	call->id = ++last_id;
	call->ops = &no_ops;
	call->deadline = DEADLINE_NONE;
	call->max_message = LIMIT_RPC_MESSAGE;
	call->started = clock_monotonic();
	list_init(&call->conn_link);
	list_init(&call->assembly_link);
	list_add_tail(owner_list, &call->owner_link);
	return call;
}

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
	call->refs++;
	return call;
}

struct rpc_call *rpc_call_unref(struct rpc_call *call)
{
	if (!call || --call->refs)
		return NULL;
	loop_defer_cancel(&call->defer);
	loop_timer_disarm(&call->timer);
	list_remove(&call->owner_link);
	rpc_buf_deinit(&call->rx);
	rpc_buf_deinit(&call->tx);
	rpc_meta_deinit(&call->meta);
	rpc_meta_deinit(&call->trailers);
	rpc_meta_deinit(&call->peer_meta);
	rpc_meta_deinit(&call->peer_trailers);
	rpc_status_deinit(&call->status);
	free(call->path);
	free(call);
	return NULL;
}

void rpc_call_set_ops(struct rpc_call *call, const struct rpc_call_ops *ops, void *arg)
{
	call->ops = ops ? ops : &no_ops;
	call->arg = arg;
}

void *rpc_call_arg(struct rpc_call *call)
{
	return call->arg;
}

const char *rpc_call_path(const struct rpc_call *call)
{
	return call->path ? call->path : "";
}

int64_t rpc_call_deadline(const struct rpc_call *call)
{
	return call->deadline;
}

uint64_t rpc_call_id(const struct rpc_call *call)
{
	return call->id;
}

/* How it ends */

void rpc_call_over(struct rpc_call *call, bool drop, enum rpc_code code, const char *fmt, ...)
{
	va_list ap;

	if (call->over)
		return;
	call->over = true;
	call->drop = drop;
	if (!call->finished) {
		rpc_status_deinit(&call->status);
		call->status.code = code;
		va_start(ap, fmt);
		vsnprintf(call->status.message, sizeof(call->status.message), fmt, ap);
		va_end(ap);
	}
	rpc_call_wake(call);
}

void rpc_call_fail(struct rpc_call *call, enum rpc_code code, const char *fmt, ...)
{
	struct rpc_status status = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(status.message, sizeof(status.message), fmt, ap);
	va_end(ap);
	if (call->is_server) {
		rpc_call_finish(call, &status);
		return;
	}
	rpc_call_over(call, true, code, "%s", status.message);
	rpc_conn_reset(call, NGHTTP2_CANCEL);
}

void rpc_call_cancel(struct rpc_call *call)
{
	if (call->over)
		return;
	rpc_call_over(call, true, RPC_CANCELLED, "cancelled");
	rpc_conn_reset(call, NGHTTP2_CANCEL);
}

static void deliver_done(struct rpc_call *call)
{
	/* Ended in order, the status comes behind what was received; in any other way, at once. */
	bool due = call->drop || call->end_delivered || !call->peer_ended;

	if (!call->over || call->done_delivered || !due)
		return;
	call->done_delivered = call->drop = true;
	loop_timer_disarm(&call->timer);
	rpc_buf_deinit(&call->rx);
	call->role->done(call);
	call->ops->done(call, &call->status, call->arg);
	call->ops = &no_ops;
	list_remove(&call->owner_link);
	call->owner = NULL;
	rpc_call_unref(call);
}

/* Deferred work */

void rpc_call_dispatch(struct rpc_call *call)
{
	if (call->dispatching) {
		rpc_call_wake(call);
		return;
	}
	loop_defer_cancel(&call->defer);
	rpc_call_ref(call);
	call->dispatching = true;
	if (!call->done_delivered)
		call->role->dispatch(call);
	call->dispatching = false;
	if (call->finished || call->drop)
		rpc_buf_deinit(&call->rx);
	deliver_done(call);
	rpc_call_unref(call);
}

static void on_defer(struct loop_defer *defer)
{
	rpc_call_dispatch(container_of(defer, struct rpc_call, defer));
}

void rpc_call_wake(struct rpc_call *call)
{
	if (!call->done_delivered)
		loop_defer_queue(call->loop, &call->defer, on_defer);
}

/* Receiving */

static size_t front_length(const struct rpc_call *call)
{
	const uint8_t *p = rpc_buf_data(&call->rx);

	return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
}

size_t rpc_call_missing(const struct rpc_call *call, size_t *ret_size)
{
	size_t size = FRAME;

	if (call->rx.len >= FRAME) {
		size += front_length(call);
		if (size - FRAME > call->max_message)
			size = 0;
	}
	*ret_size = size;
	return size > call->rx.len ? size - call->rx.len : 0;
}

static int decompress(struct rpc_call *call, const uint8_t *data, size_t len, struct rpc_buf *plain)
{
	int r;

	if (call->rx_encoding != RPC_ENCODING_GZIP) {
		rpc_call_fail(call, RPC_INTERNAL, "a compressed message without grpc-encoding");
		return -EBADMSG;
	}
	r = rpc_gunzip(data, len, call->max_message, plain);
	if (r == -EBADMSG)
		rpc_call_fail(call, RPC_INTERNAL, "a compressed message is damaged");
	else if (r < 0)
		rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED,
			"a compressed message has more than %zu bytes", call->max_message);
	return r;
}

int rpc_call_next_message(struct rpc_call *call, struct rpc_buf *plain, const uint8_t **ret_data,
	size_t *ret_len, size_t *ret_used)
{
	uint8_t *p = rpc_buf_data(&call->rx);
	size_t len;

	if (call->rx.len < FRAME)
		return 0;
	len = front_length(call);
	if (p[0] > 1) {
		rpc_call_fail(call, RPC_INTERNAL, "a message starts with flag byte %u", p[0]);
		return -EBADMSG;
	}
	if (len > call->max_message) {
		rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED, "a message of %zu bytes, more than %zu",
			len, call->max_message);
		return -EMSGSIZE;
	}
	if (call->rx.len - FRAME < len)
		return 0;
	*ret_used = FRAME + len;
	*ret_data = p + FRAME;
	*ret_len = len;
	call->rx_compressed = p[0];
	if (p[0]) {
		int r = decompress(call, p + FRAME, len, plain);

		if (r < 0)
			return r;
		*ret_data = rpc_buf_data(plain);
		*ret_len = plain->len;
	}
	return 1;
}

int rpc_call_decode(struct rpc_call *call, const ProtobufCMessageDescriptor *type,
	const uint8_t *data, size_t len, struct rpc_arena *arena, ProtobufCMessage **ret_msg)
{
	int r = rpc_message_decode(type, data, len, arena, ret_msg);

	if (r == -EILSEQ)
		rpc_call_fail(call, RPC_INVALID_ARGUMENT,
			"a string field of %s is not UTF-8 or has a NUL", type->name);
	else if (r == -E2BIG)
		rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED, "%s needs too much memory", type->name);
	else if (r < 0)
		rpc_call_fail(call, RPC_INTERNAL, "%s is malformed", type->name);
	return r;
}

static bool may_hand_over(const struct rpc_call *call)
{
	return !call->paused && !call->drop && !call->finished && !call->wait_whole;
}

static void hand_over(struct rpc_call *call, const uint8_t *data, size_t len)
{
	ProtobufCMessage *msg = NULL;
	struct rpc_arena arena;

	if (!call->rx_type) {
		if (call->ops->message)
			call->ops->message(call, NULL, data, len, call->arg);
		return;
	}
	rpc_arena_init(&arena, len);
	if (rpc_call_decode(call, call->rx_type, data, len, &arena, &msg) == 0 &&
		call->ops->message)
		call->ops->message(call, msg, data, len, call->arg);
	rpc_arena_deinit(&arena);
}

static void deliver_messages(struct rpc_call *call)
{
	while (may_hand_over(call)) {
		struct rpc_buf plain = { 0 };
		size_t len, used;
		const uint8_t *data;

		if (rpc_call_next_message(call, &plain, &data, &len, &used) <= 0) {
			rpc_buf_deinit(&plain);
			return;
		}
		call->rx_any = true;
		hand_over(call, data, len);
		rpc_buf_deinit(&plain);
		/* The callback may have ended everything. */
		rpc_buf_consume(&call->rx, MIN(used, call->rx.len));
		rpc_flow_consumed(call, used);
	}
}

void rpc_call_deliver(struct rpc_call *call)
{
	deliver_messages(call);
	if (may_hand_over(call) && call->peer_ended && !call->end_delivered) {
		if (call->rx.len && !(call->over && call->status.code != RPC_OK)) {
			/* The peer's own account of the end says less than this. */
			call->over = false;
			rpc_call_fail(call, RPC_INTERNAL, "the stream ends within a message");
			return;
		}
		call->end_delivered = true;
		if (call->ops->end)
			call->ops->end(call, call->arg);
	}
	if (call->writable_due && rpc_call_writable(call)) {
		call->writable_due = false;
		if (call->ops->writable)
			call->ops->writable(call, call->arg);
	}
	rpc_flow_update(call);
}

void rpc_call_pause(struct rpc_call *call)
{
	call->paused = true;
}

void rpc_call_resume(struct rpc_call *call)
{
	if (!call->paused)
		return;
	call->paused = false;
	rpc_call_wake(call);
}

bool rpc_call_message_compressed(const struct rpc_call *call)
{
	return call->rx_compressed;
}

/* Sending */

static size_t pending(const struct rpc_call *call)
{
	return call->tx.len - call->tx_sent;
}

bool rpc_call_writable(const struct rpc_call *call)
{
	return !call->over && !call->finished && !call->tx_end && !call->tx_full;
}

static int check_send(struct rpc_call *call, size_t len)
{
	if (call->over || call->tx_end || call->finished || (call->is_server && !call->conn))
		return -EPIPE;
	if (len > MAX(call->max_message, LIMIT_RPC_MESSAGE))
		return -EMSGSIZE;
	if (pending(call) > LIMIT_RPC_SEND_BUFFER)
		return -ENOBUFS;
	return 0;
}

static void put_frame(uint8_t *p, bool compressed, size_t len)
{
	p[0] = compressed;
	p[1] = (uint8_t)(len >> 24);
	p[2] = (uint8_t)(len >> 16);
	p[3] = (uint8_t)(len >> 8);
	p[4] = (uint8_t)len;
}

static void queued(struct rpc_call *call)
{
	if (call->is_server)
		rpc_server_send_headers(call);
	if (pending(call) > LIMIT_RPC_SEND_HIGH)
		call->tx_full = true;
	rpc_conn_resume(call);
}

static int send_gzip(struct rpc_call *call, const void *data, size_t len)
{
	struct rpc_buf packed = { 0 };
	uint8_t *tail;
	int r = rpc_gzip(data, len, &packed);

	tail = r == 0 ? rpc_buf_reserve(&call->tx, FRAME + packed.len) : NULL;
	if (tail) {
		put_frame(tail, true, packed.len);
		memcpy(tail + FRAME, rpc_buf_data(&packed), packed.len);
		rpc_buf_grow(&call->tx, FRAME + packed.len);
		queued(call);
	}
	rpc_buf_deinit(&packed);
	return tail ? 0 : -ENOMEM;
}

int rpc_call_send_raw(struct rpc_call *call, const void *data, size_t len)
{
	int r = check_send(call, len);
	uint8_t *tail;

	if (r < 0)
		return r;
	if (call->gzip && call->gzip_header)
		return send_gzip(call, data, len);
	tail = rpc_buf_reserve(&call->tx, FRAME + len);
	if (!tail)
		return -ENOMEM;
	put_frame(tail, false, len);
	if (len)
		memcpy(tail + FRAME, data, len);
	rpc_buf_grow(&call->tx, FRAME + len);
	queued(call);
	return 0;
}

int rpc_call_send(struct rpc_call *call, const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	int r = check_send(call, len);
	uint8_t *tail;

	if (r < 0)
		return r;
	if (call->gzip && call->gzip_header) {
		auto_free uint8_t *packed = malloc(len + 1);

		if (!packed)
			return -ENOMEM;
		protobuf_c_message_pack(msg, packed);
		return send_gzip(call, packed, len);
	}
	tail = rpc_buf_reserve(&call->tx, FRAME + len);
	if (!tail)
		return -ENOMEM;
	put_frame(tail, false, len);
	protobuf_c_message_pack(msg, tail + FRAME);
	rpc_buf_grow(&call->tx, FRAME + len);
	queued(call);
	return 0;
}

void rpc_call_set_gzip(struct rpc_call *call, bool on)
{
	call->gzip = on;
	if (on && call->is_server && !call->headers_sent && call->peer_gzip)
		call->gzip_header = true;
}

void rpc_call_half_close(struct rpc_call *call)
{
	if (call->is_server || call->tx_end)
		return;
	call->tx_end = true;
	rpc_conn_resume(call);
}

void rpc_call_send_headers(struct rpc_call *call)
{
	if (call->is_server && !call->over && !call->finished)
		rpc_server_send_headers(call);
}

/* Finishing, server side */

void rpc_call_finish(struct rpc_call *call, const struct rpc_status *status)
{
	if (!call->is_server || call->finished || call->over)
		return;
	rpc_status_deinit(&call->status);
	call->status.code = status->code;
	snprintf(call->status.message, sizeof(call->status.message), "%s", status->message);
	if (status->details && status->details_len <= LIMIT_RPC_STATUS_MESSAGE) {
		call->status.details = malloc(status->details_len + 1);
		if (call->status.details) {
			memcpy(call->status.details, status->details, status->details_len);
			call->status.details_len = status->details_len;
		}
	}
	call->finished = true;
	rpc_server_finish(call);
}

void rpc_call_finish_code(struct rpc_call *call, enum rpc_code code, const char *fmt, ...)
{
	struct rpc_status status = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(status.message, sizeof(status.message), fmt, ap);
	va_end(ap);
	rpc_call_finish(call, &status);
}

void rpc_call_finish_err(struct rpc_call *call, const struct err *err)
{
	struct rpc_status status;

	rpc_status_from_err(&status, err);
	rpc_call_finish(call, &status);
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *msg)
{
	int r = rpc_call_send(call, msg);

	if (r == 0)
		rpc_call_finish(call, &RPC_STATUS_OK);
	else if (r != -EPIPE)
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "the answer cannot be sent: %s",
			strerror(-r));
}

/* Metadata */

int rpc_call_add_metadata(struct rpc_call *call, const char *key, const void *value, size_t len)
{
	if (call->is_server ? call->headers_sent || call->finished : call->begun)
		return -EINVAL;
	return rpc_meta_add(&call->meta, key, value, len);
}

int rpc_call_add_trailer(struct rpc_call *call, const char *key, const void *value, size_t len)
{
	if (!call->is_server || call->finished)
		return -EINVAL;
	return rpc_meta_add(&call->trailers, key, value, len);
}

const void *rpc_call_peer_metadata(
	const struct rpc_call *call, const char *key, size_t n, size_t *ret_len)
{
	return rpc_meta_find(&call->peer_meta, key, n, ret_len);
}

const void *rpc_call_peer_trailer(
	const struct rpc_call *call, const char *key, size_t n, size_t *ret_len)
{
	return rpc_meta_find(&call->peer_trailers, key, n, ret_len);
}
