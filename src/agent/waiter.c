/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: SIGCHLD merges, so each one means "look until there is nothing". Looking peeks
 * (WNOWAIT) for the pid first: the zombie keeps the pid from being used again until its owner has
 * been found, and only then it is reaped. What is left after LIMIT_REAPED_AT_ONCE children waits
 * for the next turn of the loop, so that a fork bomb's remains do not keep calls waiting.
 */
#include "agent/waiter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/limits.h"

struct kept {
	pid_t pid;
	int wstatus;
};

struct waiter {
	struct loop *loop;
	struct loop_signals sigs;
	struct loop_defer again;
	struct list children;
	unsigned holds;
	struct kept *kept; /* a circle of LIMIT_KEPT_STATUSES, there only while held */
	size_t n_kept;	   /* ever put in */
	uint64_t orphans;
};

static struct waiter_child *find(struct waiter *w, pid_t pid)
{
	struct waiter_child *c;

	list_foreach (c, &w->children, link)
		if (c->pid == pid)
			return c;
	return NULL;
}

static void keep(struct waiter *w, pid_t pid, int wstatus)
{
	w->orphans++;
	if (w->holds && w->kept)
		w->kept[w->n_kept++ % LIMIT_KEPT_STATUSES] = (struct kept){ pid, wstatus };
}

void waiter_read_name(pid_t pid, char name[WAITER_NAME])
{
	auto_free char *text = NULL;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (fs_read_file(AT_FDCWD, path, 64, &text, NULL) == 0)
		snprintf(name, WAITER_NAME, "%.*s", (int)strcspn(text, "\n"), text);
	else
		name[0] = 0;
}

/* Reaps one child. False when there is none to reap now. */
static bool reap_one(struct waiter *w)
{
	siginfo_t info = { 0 };
	struct waiter_child *child;
	int status = 0;

	if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG) < 0 || info.si_pid == 0)
		return false;
	child = find(w, info.si_pid);
	if (child && child->want_name)
		waiter_read_name(info.si_pid, child->name);
	if (waitpid(info.si_pid, &status, WNOHANG) != info.si_pid)
		return true;
	if (!child) {
		keep(w, info.si_pid, status);
		return true;
	}
	list_remove(&child->link);
	child->pid = 0;
	child->cb(child, status);
	return true;
}

static void reap(struct loop_defer *defer)
{
	struct waiter *w = container_of(defer, struct waiter, again);

	for (int i = 0; i < LIMIT_REAPED_AT_ONCE; i++)
		if (!reap_one(w))
			return;
	loop_defer_queue(w->loop, &w->again, reap);
}

static void on_sigchld(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	struct waiter *w = container_of(sigs, struct waiter, sigs);

	loop_defer_queue(w->loop, &w->again, reap);
}

int waiter_new(struct loop *loop, struct waiter **ret_waiter)
{
	struct waiter *w = calloc(1, sizeof(*w));
	sigset_t mask;
	int r;

	if (!w)
		return -ENOMEM;
	w->loop = loop;
	list_init(&w->children);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	r = loop_signals_add(loop, &w->sigs, &mask, on_sigchld);
	if (r < 0) {
		free(w);
		return r;
	}
	/* Children that ended before the signal was caught. */
	loop_defer_queue(loop, &w->again, reap);
	*ret_waiter = w;
	return 0;
}

struct waiter *waiter_free(struct waiter *w)
{
	if (!w)
		return NULL;
	while (!list_empty(&w->children))
		waiter_unwatch(list_entry(w->children.next, struct waiter_child, link));
	loop_defer_cancel(&w->again);
	loop_signals_remove(&w->sigs);
	free(w->kept);
	free(w);
	return NULL;
}

static void deliver_kept(struct loop_defer *defer)
{
	struct waiter_child *child = container_of(defer, struct waiter_child, defer);

	list_remove(&child->link);
	child->pid = 0;
	child->cb(child, child->wstatus);
}

void waiter_watch(struct waiter *w, struct waiter_child *child, pid_t pid,
	void (*cb)(struct waiter_child *child, int wstatus))
{
	*child = (struct waiter_child){ .pid = pid, .cb = cb, .waiter = w };
	list_add_tail(&w->children, &child->link);
	for (size_t i = 0; w->kept && i < MIN(w->n_kept, (size_t)LIMIT_KEPT_STATUSES); i++) {
		if (w->kept[i].pid != pid)
			continue;
		child->wstatus = w->kept[i].wstatus;
		w->kept[i].pid = 0;
		w->orphans--;
		loop_defer_queue(w->loop, &child->defer, deliver_kept);
		return;
	}
}

void waiter_unwatch(struct waiter_child *child)
{
	if (!child->pid)
		return;
	loop_defer_cancel(&child->defer);
	list_remove(&child->link);
	child->pid = 0;
}

void waiter_hold(struct waiter *w)
{
	/* Without memory for it statuses of unknown pids are lost, which only an exit this early
	 * would notice. */
	if (!w->holds++)
		w->kept = calloc(LIMIT_KEPT_STATUSES, sizeof(*w->kept));
}

void waiter_release(struct waiter *w)
{
	assert(w->holds);
	if (--w->holds)
		return;
	free(w->kept);
	w->kept = NULL;
	w->n_kept = 0;
}

uint64_t waiter_orphans(const struct waiter *w)
{
	return w->orphans;
}
