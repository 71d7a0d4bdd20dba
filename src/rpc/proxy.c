/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two calls back to back: `front` was received, `back` is made. What one hands over the other
 * sends; when the other is full the first is paused until it is writable, so credit runs from one
 * end to the other.
 */
#include "rpc/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/internal.h"

struct proxy {
	struct rpc_call *front, *back; /* NULL once done */
};

static void front_gone(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct proxy *p = arg;

	p->front = rpc_call_unref(p->front);
	if (p->back)
		rpc_call_cancel(p->back);
	else
		free(p);
}

static void relay(
	struct proxy *p, struct rpc_call *from, struct rpc_call *to, const uint8_t *raw, size_t len)
{
	int r = to ? rpc_call_send_raw(to, raw, len) : 0;

	/* -EPIPE: the other side is over, which its done says. */
	if (r < 0 && r != -EPIPE) {
		rpc_call_finish_code(p->front, RPC_RESOURCE_EXHAUSTED,
			"a message cannot be passed on: %s", strerror(-r));
		rpc_call_cancel(p->back);
	} else if (to && !rpc_call_writable(to)) {
		rpc_call_pause(from);
	}
}

static void front_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct proxy *p = arg;

	relay(p, call, p->back, raw, len);
}

static void front_end(struct rpc_call *call, void *arg)
{
	struct proxy *p = arg;

	if (p->back)
		rpc_call_half_close(p->back);
}

static void front_writable(struct rpc_call *call, void *arg)
{
	struct proxy *p = arg;

	if (p->back)
		rpc_call_resume(p->back);
}

static const struct rpc_call_ops front_ops = {
	.message = front_message,
	.end = front_end,
	.writable = front_writable,
	.done = front_gone,
};

static void copy_meta(struct rpc_call *to,
	int (*add)(struct rpc_call *, const char *, const void *, size_t),
	const struct rpc_meta *meta)
{
	/* What cannot be passed on (a name of this hop's own, say) is not the other side's
	 * business, and neither is how the caller has shown who it is. */
	for (size_t i = 0; i < meta->n; i++)
		if (strcmp(rpc_meta_key(meta, i), "authorization") != 0)
			add(to, rpc_meta_key(meta, i), rpc_meta_value(meta, i), meta->items[i].len);
}

static void back_metadata(struct rpc_call *call, void *arg)
{
	struct proxy *p = arg;

	if (!p->front)
		return;
	copy_meta(p->front, rpc_call_add_metadata, &call->peer_meta);
	rpc_call_send_headers(p->front);
}

static void back_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct proxy *p = arg;

	relay(p, call, p->front, raw, len);
}

static void back_writable(struct rpc_call *call, void *arg)
{
	struct proxy *p = arg;

	if (p->front)
		rpc_call_resume(p->front);
}

static void back_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct proxy *p = arg;

	p->back = rpc_call_unref(p->back);
	if (!p->front) {
		free(p);
		return;
	}
	copy_meta(p->front, rpc_call_add_trailer, &call->peer_trailers);
	rpc_call_resume(p->front);
	rpc_call_finish(p->front, status);
}

static const struct rpc_call_ops back_ops = {
	.metadata = back_metadata,
	.message = back_message,
	.writable = back_writable,
	.done = back_done,
};

bool rpc_proxy_call(struct rpc_call *call, struct rpc_channel *channel)
{
	struct rpc_call_opts opts = { .deadline = rpc_call_deadline(call) };
	struct proxy *p = calloc(1, sizeof(*p));

	if (!p || rpc_channel_call(
			  channel, rpc_call_path(call), NULL, &opts, &back_ops, p, &p->back) < 0) {
		free(p);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return true;
	}
	p->front = rpc_call_ref(call);
	rpc_call_ref(p->back);
	copy_meta(p->back, rpc_call_add_metadata, &call->peer_meta);
	rpc_call_set_ops(call, &front_ops, p);
	rpc_call_start(p->back);
	return true;
}
