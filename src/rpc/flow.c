/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receive credit of streams. The peer may have `window` bytes of a stream underway or here and not
 * handed over. So a paused call takes its window once, and then the sender stands still (RFC
 * 9113, 5.2). The window doubles whenever the consumer has drained a whole one, within what all
 * streams of a connection may grow in sum. Beyond WINDOW_SURE it does only while most of it is
 * underway, and shrinks again when not: a longer path needs more underway, of a consumer that is
 * slower than the path there would only lie more here, to be copied and to push other things out of
 * the processor's cache.
 *
 * A message larger than the window could never be complete. While its consumer waits for it (not
 * paused), it gets credit for what is missing. How many bytes of such messages may be coming at
 * once on a connection is limited; those beyond stand in a queue, of which the first always gets
 * its credit, so that one is always moving.
 */
#include "rpc/internal.h"

#define WINDOW_SURE (4 * LIMIT_RPC_WINDOW_FIRST)

static void update(struct rpc_call *call);

static bool may_assemble(struct rpc_call *call, size_t size)
{
	struct rpc_conn *conn = call->conn;

	if (call->assembling)
		return true;
	if (conn->assembling && conn->assembling + size > LIMIT_RPC_ASSEMBLY) {
		if (list_empty(&call->assembly_link))
			list_add_tail(&conn->assembly_queue, &call->assembly_link);
		return false;
	}
	list_remove(&call->assembly_link);
	call->assembling = size;
	conn->assembling += size;
	return true;
}

static void update(struct rpc_call *call)
{
	struct rpc_conn *conn = call->conn;
	int32_t left = nghttp2_session_get_stream_local_window_size(conn->session, call->stream_id);
	size_t avail = left > 0 ? (size_t)left : 0, held = call->rx.len, want, need = 0, size;

	want = call->window > held ? call->window - held : 0;
	if (!call->paused) {
		need = rpc_call_missing(call, &size);
		if (need > want && may_assemble(call, size))
			want = need;
	}
	if (want <= avail || (want - avail < call->window / 2 && avail >= need))
		return;
	nghttp2_submit_window_update(
		conn->session, NGHTTP2_FLAG_NONE, call->stream_id, (int32_t)(want - avail));
	rpc_conn_flush_soon(conn);
}

void rpc_flow_update(struct rpc_call *call)
{
	if (call->conn && !call->peer_ended && !call->over && !call->finished)
		update(call);
}

static void release(struct rpc_call *call)
{
	struct rpc_conn *conn = call->conn;

	list_remove(&call->assembly_link);
	if (!call->assembling)
		return;
	conn->assembling -= call->assembling;
	call->assembling = 0;
	if (!list_empty(&conn->assembly_queue))
		rpc_call_wake(
			list_entry(conn->assembly_queue.next, struct rpc_call, assembly_link));
}

void rpc_flow_received(struct rpc_call *call)
{
	if (call->rx.len > call->window / 2)
		call->lay_here = true;
}

static void grow(struct rpc_call *call)
{
	struct rpc_conn *conn = call->conn;

	if (call->window >= LIMIT_RPC_WINDOW_MAX ||
		conn->windows + call->window > LIMIT_RPC_WINDOWS)
		return;
	conn->windows += call->window;
	call->window_grown += call->window;
	call->window *= 2;
}

/* What has been granted stays so: less is granted next. */
static void shrink(struct rpc_call *call)
{
	call->window /= 2;
	call->window_grown -= call->window;
	call->conn->windows -= call->window;
}

void rpc_flow_consumed(struct rpc_call *call, size_t n)
{
	struct rpc_conn *conn = call->conn;
	bool lay_here;

	if (!conn)
		return;
	release(call);
	call->drained += n;
	if (call->drained < call->window)
		return;
	call->drained = 0;
	lay_here = call->lay_here;
	call->lay_here = false;
	if (!lay_here || call->window < WINDOW_SURE)
		grow(call);
	else if (call->window > WINDOW_SURE)
		shrink(call);
}

void rpc_flow_forget(struct rpc_call *call)
{
	release(call);
	call->conn->windows -= call->window_grown;
	call->window_grown = 0;
}
