/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: setns(2) of a pid namespace holds for the children of the caller only, so the agent
 * itself points its children into the container's for the one clone3(2) that makes the process, and
 * back. The process is thereby the agent's own child, without a second process in between; clone3
 * also puts it into the v2 cgroup before it runs.
 */
#include "agent/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/enter.h"
#include "base/cleanup.h"
#include "base/clock.h"

struct exec_job {
	struct process_watch process; /* a reference */
	struct loop_fd src;
	struct loop_timer timer;
	int fd;
	pid_t pid;
	int pidfd; /* a pid that is reaped may be someone else's */
	struct failure failure;
	bool failed;
	void (*done)(void *arg, const struct failure *f);
	void *arg;
};

void exec_settings_deinit(struct exec_settings *s)
{
	strv_deinit(&s->env);
	strv_deinit(&s->user_words);
	free(s->cwd);
	free(s->seccomp);
	s->cwd = NULL;
	s->seccomp = NULL;
}

int exec_settings_copy(struct exec_settings *dst, const struct exec_settings *src)
{
	*dst = *src;
	dst->env = dst->user_words = STRV_INIT;
	dst->cwd = src->cwd ? strdup(src->cwd) : NULL;
	dst->seccomp = src->seccomp ? malloc(src->seccomp_len) : NULL;
	if ((src->cwd && !dst->cwd) || (src->seccomp && !dst->seccomp))
		return -ENOMEM;
	if (src->seccomp)
		memcpy(dst->seccomp, src->seccomp, src->seccomp_len);
	if (strv_addv(&dst->env, (const char *const *)strv_items(&src->env)) < 0 ||
		strv_addv(&dst->user_words, (const char *const *)strv_items(&src->user_words)) < 0)
		return -ENOMEM;
	return 0;
}

static void job_free(struct exec_job *job)
{
	loop_fd_remove(&job->src);
	loop_timer_disarm(&job->timer);
	safe_close(job->fd);
	safe_close(job->pidfd);
	process_unwatch(&job->process);
	free(job);
}

static void kill_child(const struct exec_job *job)
{
	syscall(SYS_pidfd_send_signal, job->pidfd, SIGKILL, NULL, 0);
}

static void finish(struct exec_job *job)
{
	struct process *p = job->process.process;
	void (*done)(void *, const struct failure *) = job->done;
	struct failure f = job->failure;
	bool failed = job->failed;
	void *arg = job->arg;
	pid_t pid = job->pid;

	if (failed) {
		kill_child(job); /* it exits by itself, or hangs; the waiter reaps it */
		p->state = PROCESS_CREATED;
	} else {
		process_started(p, pid);
	}
	waiter_release(p->waiter);
	job_free(job);
	done(arg, failed ? &f : NULL);
}

static void on_report(struct loop_fd *src, uint32_t events)
{
	struct exec_job *job = container_of(src, struct exec_job, src);
	struct process *p = job->process.process;
	struct enter_report report;
	int fd = -1, r = enter_receive(job->fd, &report, &fd);

	if (r == -EAGAIN)
		return;
	if (r == 1 && report.kind == ENTER_REPORT_TTY) {
		r = streams_set_master(&p->io, fd);
		if (r == 0)
			return;
		job->failed = true;
		failure_set(&job->failure, FAILURE_SPAWN, -r, "make a terminal", "/dev/ptmx",
			"cannot make a terminal: /dev/ptmx of the container is none");
	} else if (r == 1) {
		job->failed = true;
		job->failure = report.failure;
	} else if (r != 0) {
		job->failed = true;
		failure_set(&job->failure, FAILURE_SPAWN, EPROTO, "start a process", "",
			"the child's report is broken");
	}
	finish(job);
}

static void on_deadline(struct loop_timer *timer)
{
	struct exec_job *job = container_of(timer, struct exec_job, timer);

	job->failed = true;
	failure_set(&job->failure, FAILURE_TIMEOUT, ETIMEDOUT, "start a process", "",
		"the process was not started within %d s: the container's file system does not "
		"answer",
		LIMIT_SPAWN_MS / 1000);
	finish(job);
}

/* The fork, into the v2 group (-1: none). Returns the pid in the agent's namespace, 0 in the child,
 * or -errno. */
static pid_t clone_group(const struct exec_target *t, int group, int *ret_pidfd)
{
	auto_close int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	struct clone_args args = {
		.exit_signal = SIGCHLD, .flags = CLONE_PIDFD, .pidfd = (uintptr_t)ret_pidfd
	};
	auto_close int group_fd = -1;
	pid_t pid;

	if (own < 0)
		return -errno;
	if (group >= 0) {
		/* O_PATH does not do for it. */
		group_fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (group_fd < 0)
			return -errno;
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)group_fd;
	}
	if (setns(t->pidfd, CLONE_NEWPID) < 0)
		return -errno;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		return 0;
	if (pid < 0)
		pid = -errno;
	/* It was possible before and nothing has changed: a failure would put every later child
	 * there. */
	if (setns(own, CLONE_NEWPID) < 0)
		abort();
	return pid;
}

/* A container that divides its group among others below it (systemd does) has nobody in the group
 * itself any more (cgroup-v2.rst, "No Internal Process Constraint"): then it is where the first
 * process is, as runc does it. */
static pid_t clone_into(const struct exec_target *t, int *ret_pidfd)
{
	int group = t->sub_cgroup >= 0 ? t->sub_cgroup : t->cgroup->dir;
	pid_t pid = clone_group(t, group, ret_pidfd);
	struct cgroup now;

	if (pid != -EBUSY || t->sub_cgroup >= 0)
		return pid;
	if (cgroup_open(&now, t->pid) == 0 && now.dir >= 0)
		pid = clone_group(t, now.dir, ret_pidfd);
	if (pid != 0)
		cgroup_close(&now);
	return pid;
}

/* The same where the agent is itself. Engines' seccomp filters have no clone3(2). */
static pid_t fork_here(int *ret_pidfd)
{
	pid_t pid = fork();

	if (pid <= 0)
		return pid < 0 ? -errno : 0;
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return pid;
}

int exec_start(struct process *p, const struct exec_settings *settings,
	const struct exec_target *target, void (*done)(void *arg, const struct failure *f),
	void *arg, struct exec_job **ret_job, struct failure *f)
{
	struct exec_job *job = calloc(1, sizeof(*job));
	auto_close int ours = -1, theirs = -1;
	int fds[2], r;
	pid_t pid;

	if (!job || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
		r = job ? errno : ENOMEM;
		free(job);
		return failure_set(f, FAILURE_SPAWN, r, "start a process", "",
			"cannot start a process: %s", strerror(r));
	}
	ours = fds[0];
	theirs = fds[1];
	waiter_hold(p->waiter);
	job->fd = job->pidfd = -1;
	pid = target->self ? fork_here(&job->pidfd) : clone_into(target, &job->pidfd);
	if (pid == 0)
		enter_main(p, settings, target, theirs);
	r = pid < 0 ? pid : loop_fd_add(p->loop, &job->src, ours, EPOLLIN, on_report);
	if (r == 0)
		r = loop_timer_arm(p->loop, &job->timer,
			deadline_in(LIMIT_SPAWN_MS * NSEC_PER_MSEC), on_deadline);
	if (r < 0) {
		kill_child(job);
		waiter_release(p->waiter);
		job_free(job);
		return failure_set(f, FAILURE_SPAWN, -r, "fork", "",
			"cannot fork into the container: %s", strerror(-r));
	}
	job->fd = take_fd(&ours);
	job->pid = pid;
	job->done = done;
	job->arg = arg;
	process_watch(p, &job->process, NULL);
	p->state = PROCESS_STARTING;
	*ret_job = job;
	return 0;
}

struct exec_job *exec_cancel(struct exec_job *job)
{
	if (!job)
		return NULL;
	kill_child(job);
	waiter_release(job->process.process->waiter);
	job_free(job);
	return NULL;
}
