/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: spawning programs, workers that may block, and telling a pid from its successor. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define PROC_KEEP_FDS_MAX 32

struct proc_opts {
	const char *path;		    /* program; without '/', looked up in PATH */
	char *const *argv;		    /* NULL-terminated */
	char *const *envp;		    /* NULL: this process's */
	const char *cwd;		    /* NULL: this process's */
	int stdin_fd, stdout_fd, stderr_fd; /* borrowed; -1: /dev/null */
	const int *
		keep_fds; /* borrowed; made inheritable in the child only, under the same numbers */
	size_t n_keep_fds;
	bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
	bool new_session;
	unsigned long namespaces; /* CLONE_NEW* that the child is born in; CLONE_NEWPID: as their
				     process 1 */
	int (*in_child)(void *arg,
		struct err *err); /* runs in the child just before execve; async-signal rules do not
				   * bind us (no threads); an error is reported to the parent */
	void *arg;
};

/*
 * Forks and executes. Signals are reset and unblocked in the child, fds other than those named
 * closed. Blocks until execve has succeeded or failed. Returns 0 with the pid (and, if asked for, a
 * pidfd that the caller closes), or -errno with err saying which step failed. The caller reaps the
 * child.
 */
int proc_spawn(const struct proc_opts *opts, pid_t *ret_pid, int *ret_pidfd, struct err *err);

/*
 * Runs fn in a forked child with the deadline (CLOCK_MONOTONIC ns), waits for it, and hands its
 * error over. For work that blocks or parses what strangers wrote. The child is killed at the
 * deadline (-ETIMEDOUT). fn returns 0 or -errno with err set. Blocks.
 */
int proc_call(int (*fn)(void *arg, struct err *err), void *arg, int64_t deadline, struct err *err);

/* proc_spawn, wait, and an error with the last line of stderr unless it exits with 0. Output (at
 * most max bytes) to *ret_out if not NULL. Blocks. */
int proc_run(const char *const *argv, size_t max, char **ret_out, struct err *err);

/* Exit status as a shell counts: 0-255, or 128 + signal. */
int proc_exit_code(int wstatus);

/* When pid started, in clock ticks since boot (field 22 of proc_pid_stat(5)): with the boot id it
 * names a process for ever. 0 or -errno. */
int proc_start_time(pid_t pid, uint64_t *ret_ticks);

/* Its CPU time, with that of its threads, in clock ticks (sysconf(_SC_CLK_TCK)). 0 or -errno. */
int proc_cpu_ticks(pid_t pid, uint64_t *ret_user, uint64_t *ret_system);

/* This boot's id (/proc/sys/kernel/random/boot_id) and a NUL. 0 or -errno. */
int proc_boot_id(char out[static 37]);
