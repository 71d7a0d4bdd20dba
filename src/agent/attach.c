/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the process tells of every change, the call of every time it can be written to;
 * both only queue the pump, which sends while both sides can. An attach that waits for its call
 * reads nothing, so its offset stays, and with policy block the process waits in the end: that is
 * the flow control from the client to the process.
 */
#include "agent/attach.h"

#include <errno.h>
#include <stdlib.h>

#define PIECES_AT_ONCE 64 /* then the loop looks at others */

struct attach {
	struct process_watch watch;
	struct ring_reader readers[STREAMS_MAX];
	struct attach_opts opts;
	struct loop_defer again;
	struct loop_timer until;
};

static void pump(struct attach *a);

static void on_again(struct loop_defer *defer)
{
	pump(container_of(defer, struct attach, again));
}

static void on_until(struct loop_timer *timer)
{
	pump(container_of(timer, struct attach, until));
}

static void on_change(struct process_watch *watch)
{
	pump(container_of(watch, struct attach, watch));
}

struct attach *attach_free(struct attach *a)
{
	struct process *p;

	if (!a)
		return NULL;
	p = a->watch.process;
	loop_defer_cancel(&a->again);
	loop_timer_disarm(&a->until);
	for (int i = 0; i < STREAMS_MAX; i++)
		ring_detach(&a->readers[i]);
	/* The slowest reader may have been this one. */
	streams_output_room(&p->io);
	process_unwatch(&a->watch);
	free(a);
	return NULL;
}

/* The stream whose next byte is the older one; -1: neither has any. */
static int choose(struct attach *a, struct ring_piece *ret_piece)
{
	struct ring_piece piece;
	int best = -1;

	for (int i = 0; i < STREAMS_MAX; i++) {
		if (!ring_peek(&a->readers[i], LIMIT_OUTPUT_CHUNK, a->opts.by_mark, &piece))
			continue;
		if (a->opts.until && piece.time > a->opts.until)
			continue;
		if (best >= 0 && piece.time >= ret_piece->time)
			continue;
		best = i;
		*ret_piece = piece;
	}
	return best;
}

static void end(struct attach *a)
{
	struct attach_opts o = a->opts;

	attach_free(a);
	o.finished(o.arg);
}

static void pump(struct attach *a)
{
	struct process *p = a->watch.process;
	const struct attach_opts *o = &a->opts;
	struct ring_piece piece;

	for (int n = 0; rpc_call_writable(o->call); n++) {
		int i = choose(a, &piece);

		if (i < 0) {
			bool over = o->until && clock_realtime() > o->until;

			/* One that was never started and is deleted will not end by itself. */
			bool gone = !p->table && p->state == PROCESS_CREATED;

			if (!over && !gone && !o->no_follow && !process_output_complete(p))
				break;
			if (!o->no_follow && process_output_complete(p) && o->send_exit)
				o->send_exit(o->arg, &p->exit);
			end(a);
			return;
		}
		if (n == PIECES_AT_ONCE) {
			loop_defer_queue(p->loop, &a->again, on_again);
			break;
		}
		if (!o->send_output(o->arg, (enum streams_id)i, &piece))
			break;
		ring_advance(&a->readers[i], piece.offset + piece.len);
	}
	streams_output_room(&p->io);
}

int attach_new(struct process *p, const struct attach_opts *opts, struct attach **ret_attach)
{
	struct attach *a;
	struct list *l;
	int n = 0;

	for (l = p->io.out[STREAMS_OUT].ring.readers.next;
		l != &p->io.out[STREAMS_OUT].ring.readers; l = l->next)
		n++;
	if (n >= LIMIT_ATTACH_READERS)
		return -ENOSPC;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->opts = *opts;
	process_watch(p, &a->watch, on_change);
	for (int i = 0; i < STREAMS_MAX; i++)
		ring_attach(&p->io.out[i].ring, &a->readers[i],
			opts->from_end ? UINT64_MAX : opts->offset[i]);
	if (opts->until && !opts->no_follow &&
		loop_timer_arm(p->loop, &a->until,
			deadline_in(opts->until - clock_realtime() + NSEC_PER_MSEC),
			on_until) < 0) {
		attach_free(a);
		return -ENOMEM;
	}
	loop_defer_queue(p->loop, &a->again, on_again);
	*ret_attach = a;
	return 0;
}

void attach_writable(struct attach *a)
{
	if (a)
		loop_defer_queue(a->watch.process->loop, &a->again, on_again);
}
