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
	struct rpc_rate *rate;	       /* NULL: as fast as they can */
	struct rpc_rate_wait front_wait, back_wait;
};

static void proxy_free(struct proxy *p)
{
	rpc_rate_cancel(&p->front_wait);
	rpc_rate_cancel(&p->back_wait);
	rpc_rate_unref(p->rate);
	free(p);
}

/* Unless there is still another reason why from stands still. */
static void go_on(
	struct rpc_call *from, const struct rpc_call *to, const struct rpc_rate_wait *wait)
{
	if (from && list_empty(&wait->link) && (!to || rpc_call_writable(to)))
		rpc_call_resume(from);
}

static void on_front_turn(struct rpc_rate_wait *wait)
{
	struct proxy *p = container_of(wait, struct proxy, front_wait);

	go_on(p->front, p->back, wait);
}

static void on_back_turn(struct rpc_rate_wait *wait)
{
	struct proxy *p = container_of(wait, struct proxy, back_wait);

	go_on(p->back, p->front, wait);
}

static void front_gone(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct proxy *p = arg;

	p->front = rpc_call_unref(p->front);
	if (p->back)
		rpc_call_cancel(p->back);
	else
		proxy_free(p);
}

static void relay(struct proxy *p, struct rpc_call *from, struct rpc_call *to,
	struct rpc_rate_wait *wait, const uint8_t *raw, size_t len)
{
	int r = to ? rpc_call_send_raw(to, raw, len) : 0;
	bool more = !p->rate || rpc_rate_take(p->rate, len, wait);

	/* -EPIPE: the other side is over, which its done says. */
	if (r < 0 && r != -EPIPE) {
		rpc_call_finish_code(p->front, RPC_RESOURCE_EXHAUSTED,
			"a message cannot be passed on: %s", strerror(-r));
		rpc_call_cancel(p->back);
	} else if (to && !(more && rpc_call_writable(to))) {
		rpc_call_pause(from);
	}
}

static void front_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct proxy *p = arg;

	relay(p, call, p->back, &p->front_wait, raw, len);
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

	go_on(p->back, p->front, &p->back_wait);
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

	relay(p, call, p->front, &p->back_wait, raw, len);
}

static void back_writable(struct rpc_call *call, void *arg)
{
	struct proxy *p = arg;

	go_on(p->front, p->back, &p->front_wait);
}

static void back_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct proxy *p = arg;

	p->back = rpc_call_unref(p->back);
	if (!p->front) {
		proxy_free(p);
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
	return rpc_proxy_call_at(call, channel, NULL);
}

bool rpc_proxy_call_at(struct rpc_call *call, struct rpc_channel *channel, struct rpc_rate *rate)
{
	struct rpc_call_opts opts = { .deadline = rpc_call_deadline(call) };
	struct proxy *p = calloc(1, sizeof(*p));

	if (!p || rpc_channel_call(
			  channel, rpc_call_path(call), NULL, &opts, &back_ops, p, &p->back) < 0) {
		free(p);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return true;
	}
	list_init(&p->front_wait.link);
	list_init(&p->back_wait.link);
	p->front_wait.go = on_front_turn;
	p->back_wait.go = on_back_turn;
	p->rate = rate ? rpc_rate_ref(rate) : NULL;
	p->front = rpc_call_ref(call);
	rpc_call_ref(p->back);
	copy_meta(p->back, rpc_call_add_metadata, &call->peer_meta);
	rpc_call_set_ops(call, &front_ops, p);
	rpc_call_start(p->back);
	return true;
}
