/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/logs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/attach.h"
#include "agent/container.h"
#include "agent/reply.h"
#include "base/cleanup.h"
#include "base/strbuf.h"

struct follower {
	struct rpc_call *call; /* a reference */
	struct attach *attach;
	bool timestamps;
	bool in_line[STREAMS_MAX]; /* the last byte sent was not the end of a line */
};

/* Tail */

/* The older of the next pieces of both readers; -1: none. */
static int older(const struct ring_reader readers[STREAMS_MAX], struct ring_piece *ret)
{
	struct ring_piece piece;
	int best = -1;

	for (int i = 0; i < STREAMS_MAX; i++) {
		if (ring_peek(&readers[i], SIZE_MAX, true, &piece) &&
			(best < 0 || piece.time < ret->time)) {
			best = i;
			*ret = piece;
		}
	}
	return best;
}

/*
 * Walks over the lines in order; stops after `stop` of them. Returns how many there were; offset[i]
 * becomes the end of the last line passed of stream i.
 */
static uint64_t walk(
	struct ring *const rings[STREAMS_MAX], uint64_t offset[STREAMS_MAX], uint64_t stop)
{
	struct ring_reader readers[STREAMS_MAX];
	struct ring_piece piece;
	uint64_t lines = 0;
	int i;

	for (int k = 0; k < STREAMS_MAX; k++)
		ring_attach(rings[k], &readers[k], offset[k]);
	while (lines < stop && (i = older(readers, &piece)) >= 0) {
		const uint8_t *nl = memchr(piece.data, '\n', piece.len);

		if (nl) {
			lines++;
			offset[i] = piece.offset + (uint64_t)(nl - piece.data) + 1;
			ring_advance(&readers[i], offset[i]);
		} else {
			ring_advance(&readers[i], piece.offset + piece.len);
		}
	}
	for (int k = 0; k < STREAMS_MAX; k++) {
		if (lines < stop && offset[k] < rings[k]->end)
			lines++;
		ring_detach(&readers[k]);
	}
	return lines;
}

void logs_tail(struct ring *const rings[STREAMS_MAX], uint64_t offset[STREAMS_MAX], uint64_t lines)
{
	uint64_t probe[STREAMS_MAX], all;

	memcpy(probe, offset, sizeof(probe));
	all = walk(rings, probe, UINT64_MAX);
	if (all > lines)
		walk(rings, offset, all - lines);
}

/* Sending */

static void add_time(struct strbuf *sb, int64_t time)
{
	time_t seconds = (time_t)(time / NSEC_PER_SEC);
	struct tm tm;
	char text[40];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	strbuf_addf(sb, "%s.%09lldZ ", text, (long long)(time % NSEC_PER_SEC));
}

static void add_lines(
	struct follower *f, struct strbuf *sb, enum streams_id stream, const struct ring_piece *p)
{
	for (size_t at = 0; at < p->len;) {
		const uint8_t *nl = memchr(p->data + at, '\n', p->len - at);
		size_t n = nl ? (size_t)(nl - (p->data + at)) + 1 : p->len - at;

		if (!f->in_line[stream])
			add_time(sb, p->time);
		strbuf_add(sb, p->data + at, n);
		f->in_line[stream] = !nl;
		at += n;
	}
}

static bool send_entry(void *arg, enum streams_id stream, const struct ring_piece *p)
{
	struct follower *f = arg;
	API(LogEntry) entry = MICROPOD__AGENT__V1__LOG_ENTRY__INIT;
	API(Gap) gap = MICROPOD__AGENT__V1__GAP__INIT;
	auto_strbuf struct strbuf text = STRBUF_INIT;

	entry.stream = stream == STREAMS_OUT ? MICROPOD__AGENT__V1__STREAM__STREAM_STDOUT
					     : MICROPOD__AGENT__V1__STREAM__STREAM_STDERR;
	entry.time_ns = p->time;
	entry.offset = p->offset;
	entry.data = (ProtobufCBinaryData){ p->len, (uint8_t *)p->data };
	if (p->gap_to > p->gap_from) {
		gap.from = p->gap_from;
		gap.to = p->gap_to;
		entry.gap = &gap;
		f->in_line[stream] = false;
	}
	if (f->timestamps) {
		add_lines(f, &text, stream, p);
		if (strbuf_error(&text) < 0)
			return false;
		entry.data = (ProtobufCBinaryData){ text.len, (uint8_t *)text.data };
	}
	return rpc_call_send(f->call, &entry.base) == 0;
}

static void finished(void *arg)
{
	struct follower *f = arg;

	f->attach = NULL;
	rpc_call_finish_code(f->call, RPC_OK, "%s", "");
}

static void on_writable(struct rpc_call *call, void *arg)
{
	attach_writable(((struct follower *)arg)->attach);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct follower *f = arg;

	attach_free(f->attach);
	rpc_call_unref(f->call);
	free(f);
}

/* Whether offset is where a line begins; what is before the kept part counts as an end. */
static bool at_line_start(const struct ring *ring, uint64_t offset)
{
	return offset <= ring->begin || ring->data[(offset - 1) & (ring->cap - 1)] == '\n';
}

void logs_request(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	static const struct rpc_call_ops ops = { .writable = on_writable, .done = on_done };
	const API(GetContainerLogsRequest) *req = (const void *)msg;
	struct container *c = container_find(arg, req->container_id);
	struct attach_opts o = { .send_output = send_entry,
		.finished = finished,
		.call = call,
		.no_follow = !req->follow,
		.by_mark = true,
		.until = req->until_ns };
	struct ring *rings[STREAMS_MAX];
	struct follower *f;
	int r;

	if (!c) {
		reply_error(call, FAILURE_NOT_FOUND, ENOENT, "container_id", req->container_id,
			"no container '%s'", req->container_id);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (!f) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return;
	}
	f->call = rpc_call_ref(call);
	f->timestamps = req->timestamps;
	rpc_call_set_ops(call, &ops, f);
	for (int i = 0; i < STREAMS_MAX; i++) {
		rings[i] = &container_init(c)->io.out[i].ring;
		o.offset[i] = req->since_ns ? ring_find_time(rings[i], req->since_ns) : 0;
	}
	if (req->tail || req->tail_set)
		logs_tail(rings, o.offset, req->tail);
	for (int i = 0; i < STREAMS_MAX; i++)
		f->in_line[i] = !at_line_start(rings[i], o.offset[i]);
	o.arg = f;
	r = attach_new(container_init(c), &o, &f->attach);
	if (r < 0)
		reply_error(call, r == -ENOSPC ? FAILURE_LIMIT : FAILURE_UNKNOWN, -r, "readers",
			c->id, "cannot follow the logs: %s", strerror(-r));
}
