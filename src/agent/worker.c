/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the child writes a struct err and then its result into a pipe and exits; the parent
 * reads to the end of the file. A child that dies early leaves a short report, one past its
 * deadline is killed; both become errors.
 */
#include "agent/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/proc.h"

struct worker {
	struct worker_opts opts;
	pid_t pid;
	struct waiter_child child;
	struct loop_fd src;
	struct loop_timer timer;
	int fd; /* read end of the report */
	struct strbuf report;
	bool late, reaped, too_much;
	int wstatus;
};

void child_reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_close_fds(int from, const int *keep, size_t n)
{
	/* Ranges between the kept ones, in ascending order. */
	for (;;) {
		int next = -1;

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > from)
			syscall(SYS_close_range, (unsigned)from, (unsigned)next - 1, 0);
		from = next + 1;
	}
	syscall(SYS_close_range, (unsigned)from, ~0u, 0);
}

static _Noreturn void worker_main(const struct worker_opts *o, pid_t parent, int report)
{
	struct strbuf result = STRBUF_INIT;
	struct err err = ERR_INIT;
	int keep[PROC_KEEP_FDS_MAX + 1], r;

	child_reset_signals();
	for (size_t i = 0; i < o->n_keep_fds; i++)
		keep[i] = o->keep_fds[i];
	keep[o->n_keep_fds] = report;
	child_close_fds(3, keep, o->n_keep_fds + 1);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	r = o->run(o->run_arg, &result, &err);
	if (r < 0 && !err.code)
		err_errno(&err, -r, "worker failed");
	if (!err.code && (strbuf_error(&result) < 0 || result.len > LIMIT_WORKER_RESULT))
		err_set(&err, ENOBUFS, "a worker's result is too large");
	if (fd_write_full(report, &err, sizeof(err)) == 0 && !err.code && result.len)
		fd_write_full(report, result.data, result.len);
	_exit(0);
}

static void worker_free(struct worker *w)
{
	waiter_unwatch(&w->child);
	loop_fd_remove(&w->src);
	loop_timer_disarm(&w->timer);
	safe_close(w->fd);
	strbuf_deinit(&w->report);
	free(w);
}

/* Once the report is at its end and the child is reaped. */
static void finish(struct worker *w)
{
	struct worker_opts o = w->opts;
	struct strbuf report = w->report;
	struct err err = ERR_INIT;

	if (!w->reaped || w->fd >= 0)
		return;
	if (w->late)
		err_set(&err, ETIMEDOUT, "not done before its deadline");
	else if (report.len < sizeof(err))
		err_set(&err, EIO, "a worker died with status %d", proc_exit_code(w->wstatus));
	else
		memcpy(&err, report.data, sizeof(err));
	w->report = STRBUF_INIT;
	worker_free(w);
	o.done(o.arg, &err, err.code ? NULL : report.data + sizeof(err),
		err.code ? 0 : report.len - sizeof(err));
	strbuf_deinit(&report);
}

static void on_report(struct loop_fd *src, uint32_t events)
{
	struct worker *w = container_of(src, struct worker, src);
	char buf[4096];
	ssize_t n = read(w->fd, buf, sizeof(buf));

	if (n > 0 && w->report.len <= sizeof(struct err) + LIMIT_WORKER_RESULT)
		strbuf_add(&w->report, buf, (size_t)n);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	loop_fd_remove(&w->src);
	w->fd = safe_close(w->fd);
	finish(w);
}

static void on_exit_status(struct waiter_child *child, int wstatus)
{
	struct worker *w = container_of(child, struct worker, child);

	w->reaped = true;
	w->wstatus = wstatus;
	finish(w);
}

static void on_deadline(struct loop_timer *timer)
{
	struct worker *w = container_of(timer, struct worker, timer);

	w->late = true;
	if (!w->reaped)
		kill(w->pid, SIGKILL);
	/* The pipe may be held open by what the child has forked. */
	loop_fd_remove(&w->src);
	w->fd = safe_close(w->fd);
	finish(w);
}

int worker_start(struct loop *loop, struct waiter *waiter, const struct worker_opts *opts,
	struct worker **ret_worker, struct err *err)
{
	auto_close int in = -1, out = -1;
	auto_free struct worker *w = calloc(1, sizeof(*w));
	pid_t parent = getpid();
	int fds[2], r;

	if (!w)
		return err_errno(err, ENOMEM, "cannot start a worker");
	assert(opts->n_keep_fds <= PROC_KEEP_FDS_MAX);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	in = fds[0];
	out = fds[1];
	r = fd_set_nonblock(in, true);
	if (r < 0)
		return err_errno(err, -r, "cannot make a pipe");
	w->opts = *opts;
	w->pid = fork();
	if (w->pid < 0)
		return err_errno(err, errno, "cannot fork a worker");
	if (w->pid == 0)
		worker_main(opts, parent, out);
	r = loop_fd_add(loop, &w->src, in, EPOLLIN, on_report);
	if (r == 0)
		r = loop_timer_arm(loop, &w->timer, opts->deadline, on_deadline);
	if (r < 0) {
		loop_fd_remove(&w->src);
		kill(w->pid, SIGKILL); /* an orphan: the waiter reaps it */
		return err_errno(err, -r, "cannot watch a worker");
	}
	w->fd = take_fd(&in);
	waiter_watch(waiter, &w->child, w->pid, on_exit_status);
	*ret_worker = take_ptr(w);
	return 0;
}

struct worker *worker_cancel(struct worker *w)
{
	if (!w)
		return NULL;
	if (!w->reaped)
		kill(w->pid, SIGKILL);
	worker_free(w);
	return NULL;
}
