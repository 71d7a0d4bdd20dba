/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/worker.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/macro.h"
#include "base/parse.h"

#define KILL_TIME (10 * NSEC_PER_SEC) /* for what cannot be killed, or is quicker */
#define SEEN_MAX  32768		      /* processes looked at in one round */

struct seen {
	pid_t pid, parent;
	bool ours;
};

static pid_t parent_of(const char *pid)
{
	char path[32];
	auto_free char *text = NULL;
	const char *rest;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
	if (fs_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	/* Behind the name, which may have anything in it: state, parent. */
	rest = strrchr(text, ')');
	return rest && sscanf(rest + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static size_t look(struct seen *v, size_t max)
{
	auto_closedir DIR *proc = opendir("/proc");
	struct dirent *de;
	int64_t pid;
	size_t n = 0;

	while (proc && n < max && (de = readdir(proc)))
		if (parse_i64(de->d_name, 2, INT32_MAX, &pid) == 0)
			v[n++] = (struct seen){ (pid_t)pid, parent_of(de->d_name), false };
	return n;
}

static bool is_ours(const struct seen *v, size_t n, pid_t parent, pid_t self)
{
	if (parent == self)
		return true;
	for (size_t i = 0; i < n; i++)
		if (v[i].pid == parent)
			return v[i].ours;
	return false;
}

/* All that have come of us, as far as /proc shows them. */
static void kill_descendants(void)
{
	auto_free struct seen *v = calloc(SEEN_MAX, sizeof(*v));
	size_t n = v ? look(v, SEEN_MAX) : 0;
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			if (v[i].ours || !is_ours(v, n, v[i].parent, getpid()))
				continue;
			v[i].ours = more = true;
			kill(v[i].pid, SIGKILL);
		}
	}
}

/* As often as something was started meanwhile. */
static void kill_all(const sigset_t *child)
{
	int64_t deadline = deadline_in(KILL_TIME);

	while (clock_monotonic() < deadline) {
		const struct timespec second = { .tv_sec = 1 };
		pid_t pid;

		kill_descendants();
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0)
			return;
		sigtimedwait(child, NULL, &second);
	}
}

/* By the same signal, so that the agent sees the same end; but no core of ours. */
_Noreturn static void end_as(int status)
{
	const struct rlimit none = { 0 };
	sigset_t set;

	if (WIFSIGNALED(status)) {
		int sig = WTERMSIG(status);

		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_DUMPABLE, 0);
		signal(sig, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, sig);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		raise(sig);
		_exit(128 + sig);
	}
	_exit(WEXITSTATUS(status));
}

/* Reaps; the program's own end is ours. */
static void reap(pid_t program)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program)
			end_as(status);
}

_Noreturn static void keep(pid_t program, const sigset_t *all)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	child_close_fds(0, NULL, 0);
	reap(program);
	while (true) {
		int sig = sigwaitinfo(all, NULL);

		if (sig == SIGCHLD) {
			reap(program);
		} else if (sig == KEEPER_KILL) {
			kill_all(&child);
			end_as(SIGKILL);
		} else if (sig > 0) {
			kill(program, sig);
		}
	}
}

int keeper_start(void)
{
	pid_t self = getpid(), program;
	sigset_t all, before;

	sigfillset(&all);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || sigprocmask(SIG_SETMASK, &all, &before) < 0)
		return -errno;
	program = fork();
	if (program < 0)
		return -errno;
	if (program > 0)
		keep(program, &all);
	/* Without its keeper nobody would ever see its end. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != self)
		_exit(127);
	return sigprocmask(SIG_SETMASK, &before, NULL) < 0 ? -errno : 0;
}
