/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: after the waiter has reaped a process, its own output is read to the last byte
 * (agent/streams.h). If the streams end with it, the exit is told at once. If somebody else holds
 * them, a child in the background say, the exit is told LIMIT_EXIT_LINGER_MS later, so that what a
 * pipeline still prints usually comes before it. (Docker waits up to 2 s there; containerd's shim
 * for ever.)
 *
 * Finished processes are kept for Wait and Attach: LIMIT_KEPT_PROCESSES of them with at most
 * LIMIT_KEPT_OUTPUT bytes of output together; then the oldest that nobody watches go. Those of the
 * agent's own tools go with who has read them. First processes of containers stay with their
 * container.
 */
#include "agent/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/proc.h"

void process_table_init(struct process_table *table, struct loop *loop, struct waiter *waiter)
{
	*table = (struct process_table){ .loop = loop, .waiter = waiter };
	list_init(&table->list);
}

void process_table_deinit(struct process_table *table)
{
	while (!list_empty(&table->list))
		process_delete(list_entry(table->list.next, struct process, link));
}

struct process *process_find(
	const struct process_table *table, const char *container_id, const char *exec_id)
{
	struct process *p;

	list_foreach (p, &table->list, link)
		if (strcmp(p->container_id, container_id) == 0 && strcmp(p->exec_id, exec_id) == 0)
			return p;
	return NULL;
}

static void process_unref(struct process *p)
{
	if (--p->refs)
		return;
	if (p->release)
		p->release(p);
	waiter_unwatch(&p->child);
	loop_timer_disarm(&p->linger);
	streams_deinit(&p->io);
	strv_deinit(&p->args);
	strv_deinit(&p->labels);
	free(p);
}

static void on_streams(void *arg);

int process_new(
	struct process_table *table, const struct process_opts *opts, struct process **ret_process)
{
	struct streams_opts io = { .tty = opts->tty,
		.open_stdin = opts->open_stdin,
		.policy = opts->policy,
		.changed = on_streams };
	struct process *p;
	int r;

	if (table->n >= LIMIT_PROCESSES)
		return -ENOSPC;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->refs = 1;
	p->loop = table->loop;
	p->waiter = table->waiter;
	list_init(&p->watches);
	list_init(&p->link);
	snprintf(p->container_id, sizeof(p->container_id), "%s", opts->container_id);
	snprintf(p->exec_id, sizeof(p->exec_id), "%s", opts->exec_id);
	io.arg = p;
	r = streams_init(&p->io, table->loop, &io);
	if (r < 0) {
		process_unref(p);
		return r;
	}
	p->table = table;
	list_add_tail(&table->list, &p->link);
	table->n++;
	*ret_process = p;
	return 0;
}

void process_delete(struct process *p)
{
	if (!p->table)
		return;
	p->table->n--;
	p->table = NULL;
	list_remove(&p->link);
	process_notify(p);
	process_unref(p);
}

/* Watching */

static void deliver(struct loop_defer *defer)
{
	struct process_watch *watch = container_of(defer, struct process_watch, defer);

	watch->cb(watch);
}

void process_notify(struct process *p)
{
	struct process_watch *w;

	list_foreach (w, &p->watches, link)
		if (w->cb)
			loop_defer_queue(p->loop, &w->defer, deliver);
}

void process_watch(
	struct process *p, struct process_watch *watch, void (*cb)(struct process_watch *watch))
{
	*watch = (struct process_watch){ .process = p, .cb = cb };
	list_add_tail(&p->watches, &watch->link);
	p->refs++;
}

static bool is_kept(const struct process *p)
{
	return p->exec_id[0] && p->state == PROCESS_EXITED && p->lingered;
}

void process_unwatch(struct process_watch *watch)
{
	struct process *p = watch->process;

	if (!p)
		return;
	watch->process = NULL;
	loop_defer_cancel(&watch->defer);
	list_remove(&watch->link);
	/* A tree that was copied is of no use to anybody afterwards. */
	if (p->tool && p->table && is_kept(p) && list_empty(&p->watches))
		process_delete(p);
	process_unref(p);
}

/* Finished processes */

static size_t kept_output(const struct process *p)
{
	return p->io.out[STREAMS_OUT].ring.cap + p->io.out[STREAMS_ERR].ring.cap;
}

static void forget_oldest(struct process_table *table)
{
	struct process *p, *next;
	size_t n = 0, bytes = 0;

	list_foreach (p, &table->list, link) {
		if (is_kept(p)) {
			n++;
			bytes += kept_output(p);
		}
	}
	list_foreach_safe (p, next, &table->list, link) {
		if (n <= LIMIT_KEPT_PROCESSES && bytes <= LIMIT_KEPT_OUTPUT)
			break;
		if (!is_kept(p) || !list_empty(&p->watches))
			continue;
		n--;
		bytes -= kept_output(p);
		process_delete(p);
	}
}

/* The life of a process */

/* Steps that follow from what has been read and how long ago it ended. */
static void settle(struct process *p)
{
	if (p->settled || p->state != PROCESS_EXITED || !streams_drained(&p->io))
		return;
	if (!streams_output_ended(&p->io) && !p->lingered)
		return;
	loop_timer_disarm(&p->linger);
	p->settled = true;
	streams_detach(&p->io);
	if (!p->lingered) {
		p->lingered = true;
		if (p->table)
			forget_oldest(p->table);
	}
}

static void on_streams(void *arg)
{
	struct process *p = arg;

	p->refs++; /* forgetting the oldest may forget this one */
	settle(p);
	process_notify(p);
	process_unref(p);
}

static void on_linger(struct loop_timer *timer)
{
	struct process *p = container_of(timer, struct process, linger);

	p->refs++;
	p->lingered = true;
	settle(p);
	process_notify(p);
	if (p->table)
		forget_oldest(p->table);
	process_unref(p);
}

static void on_exited(struct waiter_child *child, int wstatus)
{
	struct process *p = container_of(child, struct process, child);

	p->refs++;
	p->state = PROCESS_EXITED;
	p->exit.code = proc_exit_code(wstatus);
	p->exit.signal = WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0;
	p->exit.core_dumped = WIFSIGNALED(wstatus) && WCOREDUMP(wstatus);
	p->exit.ended = clock_realtime();
	if (p->on_exit)
		p->on_exit(p, p->on_exit_arg);
	loop_timer_arm(
		p->loop, &p->linger, deadline_in(LIMIT_EXIT_LINGER_MS * NSEC_PER_MSEC), on_linger);
	streams_process_ended(&p->io);
	settle(p);
	process_notify(p);
	process_unref(p);
}

void process_started(struct process *p, pid_t pid)
{
	p->pid = pid;
	p->state = PROCESS_RUNNING;
	p->exit.started = clock_realtime();
	streams_close_child(&p->io);
	waiter_watch(p->waiter, &p->child, pid, on_exited);
	process_notify(p);
}

bool process_exit_known(const struct process *p)
{
	return p->state == PROCESS_EXITED && p->lingered;
}

bool process_output_complete(const struct process *p)
{
	return process_exit_known(p) && streams_drained(&p->io);
}

int process_signal(struct process *p, int signal)
{
	if (p->state != PROCESS_RUNNING)
		return -ESRCH;
	return kill(p->pid, signal) < 0 ? -errno : 0;
}

const char *process_state_name(const struct process *p)
{
	static const char *const names[] = {
		[PROCESS_CREATED] = "created",
		[PROCESS_STARTING] = "created",
		[PROCESS_RUNNING] = "running",
		[PROCESS_EXITED] = "exited",
	};

	static_assert(ARRAY_SIZE(names) == PROCESS_STATE_MAX, "a name for each state");
	return names[p->state];
}
