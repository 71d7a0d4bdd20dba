/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one waiter for all children. As PID 1 (or child subreaper) the agent inherits every orphan,
 * so nothing else in it may call wait: a loop_child would race with it.
 *
 * A child whose pid is watched is handed to its owner once; any other is reaped at once and
 * forgotten. While a process is being made whose pid is not known yet (waiter_hold()), statuses of
 * unknown pids are kept, the latest LIMIT_KEPT_STATUSES of them, for a waiter_watch() that comes
 * too late.
 */
#pragma once

#include <sys/types.h>

#include "io/loop.h"

#define WAITER_NAME 16 /* TASK_COMM_LEN */

struct waiter;

struct waiter_child {
	struct list link;
	struct loop_defer defer; /* for a status that was there before the watch */
	pid_t pid;		 /* 0 while not watched */
	int wstatus;
	/* Set by the owner: name is then the child's when it ended, proc_pid_comm(5); else "". */
	bool want_name;
	char name[WAITER_NAME];
	/* The child is reaped and no longer watched; wstatus as from waitpid(2). */
	void (*cb)(struct waiter_child *child, int wstatus);
	struct waiter *waiter;
};

/* Blocks SIGCHLD and takes it from a signalfd(2). 0 or -errno. */
int waiter_new(struct loop *loop, struct waiter **ret_waiter);
/* Children still watched are forgotten. Returns NULL. */
struct waiter *waiter_free(struct waiter *waiter);

/* cb comes once, never from within this call. child is the caller's and lives until then or until
 * unwatch. */
void waiter_watch(struct waiter *waiter, struct waiter_child *child, pid_t pid,
	void (*cb)(struct waiter_child *child, int wstatus));
/* From now on the pid is an unknown one. No-op if not watched. */
void waiter_unwatch(struct waiter_child *child);

/* The name of a process that has not been reaped; "" if it cannot be read. */
void waiter_read_name(pid_t pid, char name[WAITER_NAME]);

/* Counts: statuses of unknown pids are kept between the first hold and the last release. */
void waiter_hold(struct waiter *waiter);
void waiter_release(struct waiter *waiter);

/* How many children were reaped that nobody watched. */
uint64_t waiter_orphans(const struct waiter *waiter);
