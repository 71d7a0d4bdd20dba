/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process as an object: (container id, exec id), from its creation over its run to its kept
 * remains. The container's first process has the empty exec id. Whoever starts it (agent/exec.h,
 * agent/container.h) tells its pid; everything after that is the same for both.
 */
#pragma once

#include "agent/streams.h"
#include "agent/waiter.h"
#include "base/limits.h"
#include "base/strv.h"

struct container;

enum process_state {
	PROCESS_CREATED,
	PROCESS_STARTING, /* between Start and execve; told as "created" */
	PROCESS_RUNNING,
	PROCESS_EXITED,
	PROCESS_STATE_MAX
};

struct process_exit {
	int code;   /* 0-255, or 128 + signal */
	int signal; /* 0: it exited by itself */
	bool oom_killed, core_dumped;
	bool timed_out;		/* killed because its time was over */
	int64_t started, ended; /* CLOCK_REALTIME ns */
};

/* Somebody who wants to know when anything about a process changes; also holds a reference to it.
 */
struct process_watch {
	struct list link;
	struct loop_defer defer;
	struct process *process; /* NULL while not watching */
	void (*cb)(struct process_watch *watch);
};

struct process {
	struct list link; /* in the table, or alone */
	struct loop *loop;
	struct waiter *waiter;
	unsigned refs;
	struct process_table *table; /* NULL once deleted */
	char container_id[LIMIT_ID + 1], exec_id[LIMIT_ID + 1];
	struct strv args;
	int (*tool)(const struct strv *args); /* runs instead of a program; NULL: none */
	struct strv labels;		      /* key, value, key, value, ... */
	uint64_t fingerprint; /* of the request that made it, so that a repeated one is known again
			       */
	enum process_state state;
	pid_t pid;
	struct streams io;
	/* What its readers have acknowledged (Attach with acknowledged): kept from there on. */
	struct ring_reader held[STREAMS_MAX];
	unsigned rows, columns; /* of a terminal that is not there yet; 0: not said */
	struct waiter_child child;
	struct loop_timer linger;
	bool lingered, settled;
	struct process_exit exit;
	struct list watches;
	void (*on_exit)(
		struct process *p, void *arg); /* reaped; sets exit.oom_killed, say. Optional */
	void *on_exit_arg;
	/* Undoes what belongs to the one who started it (agent/exec.h). Optional. */
	void (*release)(struct process *p);
	void *owner;
};

/* All process objects of the agent. */
struct process_table {
	struct loop *loop;
	struct waiter *waiter;
	struct list list; /* the oldest first */
	size_t n;
};

struct process_opts {
	const char *container_id, *exec_id; /* copied */
	bool tty, open_stdin;
	enum ring_policy policy;
};

void process_table_init(struct process_table *table, struct loop *loop, struct waiter *waiter);
/* Forgets all. Processes that run are not signalled. */
void process_table_deinit(struct process_table *table);

/* NULL if there is none. */
struct process *process_find(
	const struct process_table *table, const char *container_id, const char *exec_id);

/* A new object in the table, state created. 0, -ENOSPC (LIMIT_PROCESSES), -ENOMEM or -errno. The
 * table holds the reference. */
int process_new(
	struct process_table *table, const struct process_opts *opts, struct process **ret_process);

/* Takes it out of the table and drops the table's reference; watchers keep theirs. */
void process_delete(struct process *p);

/* It runs as pid, a child of ours, from now on. */
void process_started(struct process *p, pid_t pid);

/* A change that those who watch must hear of. */
void process_notify(struct process *p);

/* Whether Wait may answer: it is reaped, and its output is read or was given its time. */
bool process_exit_known(const struct process *p);
/* Whether all output that will be told is in the rings: with every reader at its end the exit may
 * follow. */
bool process_output_complete(const struct process *p);

/* cb may be NULL: only a reference. */
void process_watch(
	struct process *p, struct process_watch *watch, void (*cb)(struct process_watch *watch));
void process_unwatch(struct process_watch *watch); /* no-op if not watching; may free the process */

/* Sends a signal to the running process. 0, -ESRCH (not running) or -errno. */
int process_signal(struct process *p, int signal);

/* "created", "running", "exited". */
const char *process_state_name(const struct process *p);
