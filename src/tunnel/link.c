/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: frames go into `in` as they come, and the call is paused while that is full, so
 * that the call's own flow control holds the sender back. The user of the stream expects it to
 * behave level-triggered: as long as what it wants is possible, the deferred work tells it again.
 */
#include "tunnel/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tunnel.pb-c.h"

#define ORPHAN_TIME (10 * NSEC_PER_SEC) /* for the peer to end the call after us */

static struct tunnel_link *link_of(struct io_stream *s)
{
	return container_of(s, struct tunnel_link, stream);
}

static size_t waiting(const struct tunnel_link *link)
{
	return link->in.len;
}

static uint32_t possible(const struct tunnel_link *link)
{
	uint32_t events = 0;

	if (waiting(link) || link->peer_ended)
		events |= EPOLLIN;
	if (link->call && rpc_call_writable(link->call))
		events |= EPOLLOUT;
	return events;
}

static void on_wake(struct loop_defer *defer);

static void wake(struct tunnel_link *link)
{
	if (!link->orphan && ((possible(link) & link->wanted) || link->peer_ended))
		loop_defer_queue(link->loop, &link->wake, on_wake);
}

static void on_wake(struct loop_defer *defer)
{
	struct tunnel_link *link = container_of(defer, struct tunnel_link, wake);
	uint32_t events = possible(link) & link->wanted;

	if (link->peer_ended)
		events |= EPOLLHUP;
	if (!events || !link->stream.on_event)
		return;
	/* Before: it may free us. Once more only for what it still wants then; its end it has been
	 * told. */
	if (events & (EPOLLIN | EPOLLOUT))
		loop_defer_queue(link->loop, &link->wake, on_wake);
	link->stream.on_event(link->stream.arg, events);
}

static void destroy(struct tunnel_link *link)
{
	list_remove(&link->member);
	loop_defer_cancel(&link->wake);
	loop_timer_disarm(&link->life);
	rpc_buf_deinit(&link->in);
	free(link);
}

static void emptied(struct tunnel_link *link)
{
	/* Not kept: most links are idle most of the time. */
	rpc_buf_deinit(&link->in);
	if (link->paused && link->call) {
		link->paused = false;
		rpc_call_resume(link->call);
	}
}

/* The stream */

static ssize_t link_read(struct io_stream *s, void *buf, size_t n)
{
	struct tunnel_link *link = link_of(s);

	n = MIN(n, waiting(link));
	if (!n)
		return link->error ? link->error : link->peer_ended ? 0 : -EAGAIN;
	memcpy(buf, rpc_buf_data(&link->in), n);
	rpc_buf_consume(&link->in, n);
	if (!waiting(link))
		emptied(link);
	return (ssize_t)n;
}

static int send_frame(struct tunnel_link *link, const void *data, size_t len)
{
	Micropod__Tunnel__V1__Frame frame = MICROPOD__TUNNEL__V1__FRAME__INIT;

	frame.data = (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)data };
	return rpc_call_send(link->call, &frame.base);
}

static ssize_t link_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	struct tunnel_link *link = link_of(s);
	size_t len;
	int r;

	if (!link->call)
		return link->error ? link->error : -EPIPE;
	if (!rpc_call_writable(link->call))
		return -EAGAIN;
	while (n > 0 && !iov->iov_len) {
		iov++;
		n--;
	}
	len = n > 0 ? MIN(iov->iov_len, (size_t)LIMIT_TUNNEL_FRAME) : 0;
	r = len ? send_frame(link, iov->iov_base, len) : 0;
	return r < 0 ? r : (ssize_t)len;
}

static void link_want(struct io_stream *s, uint32_t events)
{
	struct tunnel_link *link = link_of(s);

	link->wanted = events;
	wake(link);
}

static void end_our_side(struct tunnel_link *link)
{
	if (link->dialled)
		rpc_call_half_close(link->call);
	else
		rpc_call_finish_code(link->call, RPC_OK, "%s", "");
}

static void on_orphan_deadline(struct loop_timer *timer)
{
	rpc_call_cancel(container_of(timer, struct tunnel_link, life)->call);
}

static void link_free(struct io_stream *s)
{
	struct tunnel_link *link = link_of(s);

	list_remove(&link->member);
	loop_defer_cancel(&link->wake);
	if (!link->call) {
		destroy(link);
		return;
	}
	link->orphan = true;
	loop_timer_arm(link->loop, &link->life, deadline_in(ORPHAN_TIME), on_orphan_deadline);
	emptied(link);
	end_our_side(link);
}

static const struct io_stream_ops ops = {
	.read = link_read,
	.writev = link_writev,
	.free = link_free,
	.want = link_want,
};

/* The call */

static void on_frame(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Tunnel__V1__Frame *frame = (const Micropod__Tunnel__V1__Frame *)msg;
	struct tunnel_link *link = arg;

	link->heard = clock_monotonic();
	if (link->orphan || !frame->data.len)
		return;
	if (rpc_buf_add(&link->in, frame->data.data, frame->data.len) < 0) {
		tunnel_link_cut(link, ENOMEM);
		return;
	}
	if (waiting(link) >= LIMIT_TUNNEL_FRAME && !link->paused) {
		link->paused = true;
		rpc_call_pause(call);
	}
	wake(link);
}

static void on_end(struct rpc_call *call, void *arg)
{
	struct tunnel_link *link = arg;

	link->peer_ended = true;
	wake(link);
}

static void on_writable(struct rpc_call *call, void *arg)
{
	wake(arg);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct tunnel_link *link = arg;

	link->call = rpc_call_unref(link->call);
	if (link->orphan) {
		destroy(link);
		return;
	}
	link->peer_ended = true;
	if (status->code != RPC_OK && !link->error)
		link->error = -ECONNRESET;
	loop_timer_disarm(&link->life);
	wake(link);
}

static const struct rpc_call_ops call_ops = {
	.message = on_frame, .end = on_end, .writable = on_writable, .done = on_done
};

static void on_life(struct loop_timer *timer)
{
	struct tunnel_link *link = container_of(timer, struct tunnel_link, life);
	int64_t now = clock_monotonic();

	/* A paused call hands nothing over; that its connection lives the frames that wait show. */
	if (link->paused)
		link->heard = now;
	if (now - link->heard >= TUNNEL_SILENCE) {
		tunnel_link_cut(link, ETIMEDOUT);
		return;
	}
	if (rpc_call_writable(link->call))
		send_frame(link, NULL, 0);
	if (loop_timer_arm(link->loop, timer, now + TUNNEL_HEARTBEAT, on_life) < 0)
		tunnel_link_cut(link, ENOMEM);
}

void tunnel_link_cut(struct tunnel_link *link, int error)
{
	if (!link->call)
		return;
	if (!link->error)
		link->error = -error;
	/* The call's own end may be long in coming over a connection that is dead. */
	link->peer_ended = true;
	wake(link);
	if (link->dialled)
		rpc_call_cancel(link->call);
	else
		rpc_call_finish_code(link->call, RPC_UNAVAILABLE, "the stream is dead");
}

int tunnel_link_new(
	struct loop *loop, struct rpc_call *call, bool dialled, struct tunnel_link **ret_link)
{
	struct tunnel_link *link = calloc(1, sizeof(*link));

	if (!link)
		return -ENOMEM;
	link->loop = loop;
	link->dialled = dialled;
	link->stream.ops = &ops;
	link->stream.fd = -1;
	link->heard = clock_monotonic();
	list_init(&link->member);
	if (loop_timer_arm(loop, &link->life, deadline_in(TUNNEL_HEARTBEAT), on_life) < 0) {
		free(link);
		return -ENOMEM;
	}
	link->call = rpc_call_ref(call);
	rpc_call_set_ops(call, &call_ops, link);
	*ret_link = link;
	return 0;
}
