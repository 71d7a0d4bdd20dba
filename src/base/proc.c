/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a child reports what went wrong before execve over a CLOEXEC pipe as one `struct
 * err`; a successful execve closes the pipe, so that end of file means success. Errors never cross
 * as exit codes.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/parse.h"

extern char **environ;

static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * The parent may have died before; getppid(2) does not tell in a new pid namespace, but the report
 * pipe does: only the parent can have its other end.
 */
static int die_with_parent(int report)
{
	struct pollfd pfd = { .fd = report };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR) ? -ESRCH : 0;
}

/* Moves a stdio source out of the way of 0-2, so that dup2 in any order cannot overwrite it. */
static int lift(int fd)
{
	if (fd < 0)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	return fd < 3 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : fd;
}

static int set_stdio(const struct proc_opts *o)
{
	int src[3] = { lift(o->stdin_fd), lift(o->stdout_fd), lift(o->stderr_fd) };

	for (int i = 0; i < 3; i++)
		if (src[i] < 0 || dup2(src[i], i) < 0)
			return -errno;
	return 0;
}

static _Noreturn void child_main(const struct proc_opts *o, int report)
{
	struct err err = ERR_INIT;
	int r;

	reset_signals();
	if (o->new_session)
		setsid();
	if (o->die_with_parent && (r = die_with_parent(report)) < 0)
		err_errno(&err, -r, "cannot tie '%s' to its parent", o->path);
	else if ((r = set_stdio(o)) < 0)
		err_errno(&err, -r, "cannot set up stdio of '%s'", o->path);
	else if (o->cwd && chdir(o->cwd) < 0)
		err_errno(&err, errno, "cannot change to '%s'", o->cwd);
	else {
		syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
		for (size_t i = 0; i < o->n_keep_fds; i++)
			fd_set_cloexec(o->keep_fds[i], false);
		if (!o->in_child || o->in_child(o->arg, &err) == 0) {
			execvpe(o->path, o->argv, o->envp ? o->envp : environ);
			err_errno(&err, errno, "cannot execute '%s'", o->path);
		}
	}
	if (write(report, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

static pid_t fork_into(unsigned long namespaces)
{
	/* Without CLONE_VM and a stack clone(2) is fork(2); the libraries' fork handlers matter
	 * only to threads. */
	return namespaces ? (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, 0)
			  : fork();
}

int proc_spawn(const struct proc_opts *opts, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
	auto_close int report_in = -1, report_out = -1, pidfd = -1;
	struct err child_err;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	report_in = fds[0];
	report_out = fds[1];
	pid = fork_into(opts->namespaces);
	if (pid < 0)
		return err_errno(err, errno, "cannot fork for '%s'", opts->path);
	if (pid == 0) {
		close(report_in);
		/* The report pipe must survive set_stdio. */
		report_out = fcntl(report_out, F_DUPFD_CLOEXEC, 64);
		child_main(opts, report_out);
	}
	report_out = safe_close(report_out);
	if (fd_read_full(report_in, &child_err, sizeof(child_err)) == sizeof(child_err)) {
		waitpid(pid, NULL, 0);
		return err_set(err, child_err.code ? child_err.code : EIO, "%s", child_err.msg);
	}
	if (ret_pidfd) {
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0) {
			int e = errno;

			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			return err_errno(err, e, "cannot watch '%s'", opts->path);
		}
		*ret_pidfd = take_fd(&pidfd);
	}
	*ret_pid = pid;
	return 0;
}

static _Noreturn void worker_main(int (*fn)(void *, struct err *), void *arg, int report)
{
	struct err err = ERR_INIT;
	int r;

	reset_signals();
	r = die_with_parent(report);
	if (r == 0)
		r = fn(arg, &err);
	if (r < 0 && !err.code)
		err_errno(&err, -r, "worker failed");
	_exit(fd_write_full(report, &err, sizeof(err)) < 0);
}

/* Waits for the worker's report. 0, or -ETIMEDOUT / -EPIPE (it died without one). */
static int read_report(int fd, int64_t deadline, struct err *ret_err)
{
	size_t done = 0;

	while (done < sizeof(*ret_err)) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int n = poll(&pfd, 1, deadline_poll_ms(deadline));
		ssize_t got;

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		got = n > 0 ? read(fd, (char *)ret_err + done, sizeof(*ret_err) - done) : -1;
		if (got == 0)
			return -EPIPE;
		if (got > 0)
			done += (size_t)got;
	}
	return 0;
}

int proc_call(int (*fn)(void *arg, struct err *err), void *arg, int64_t deadline, struct err *err)
{
	auto_close int report_in = -1, report_out = -1;
	struct err child_err;
	int fds[2], r, status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	report_in = fds[0];
	report_out = fds[1];
	pid = fork();
	if (pid < 0)
		return err_errno(err, errno, "cannot fork a worker");
	if (pid == 0) {
		close(report_in);
		worker_main(fn, arg, report_out);
	}
	report_out = safe_close(report_out);
	r = read_report(report_in, deadline, &child_err);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "not done before its deadline");
	if (r < 0)
		return err_set(err, EIO, "worker died with status %d", proc_exit_code(status));
	return child_err.code ? err_set(err, child_err.code, "%s", child_err.msg) : 0;
}

/* The last line that is not empty, cut out of text in place. */
static const char *last_line(char *text)
{
	size_t len = strlen(text);
	char *nl;

	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		text[--len] = 0;
	nl = strrchr(text, '\n');
	return nl ? nl + 1 : text;
}

int proc_run(const char *const *argv, size_t max, char **ret_out, struct err *err)
{
	FILE *out = tmpfile(), *diag = tmpfile();
	auto_fclose FILE *out_owner = out, *diag_owner = diag;
	auto_free char *text = NULL;
	struct proc_opts opts = { .path = argv[0],
		.argv = (char *const *)argv,
		.stdin_fd = -1,
		.die_with_parent = true };
	int status, r;
	pid_t pid;

	if (!out || !diag)
		return err_errno(err, errno, "cannot make a temporary file");
	opts.stdout_fd = fileno(out);
	opts.stderr_fd = fileno(diag);
	r = proc_spawn(&opts, &pid, NULL, err);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(err, errno, "cannot wait for '%s'", argv[0]);
	if (status != 0) {
		rewind(diag);
		r = fd_read_all(fileno(diag), MIB, &text, NULL);
		return err_set(err, EIO, "%s failed with status %d: %s", argv[0],
			proc_exit_code(status), r < 0 ? "" : last_line(text));
	}
	if (ret_out) {
		lseek(fileno(out), 0, SEEK_SET);
		r = fd_read_all(fileno(out), max, ret_out, NULL);
		if (r < 0)
			return err_errno(err, -r, "cannot read the output of %s", argv[0]);
	}
	return 0;
}

int proc_exit_code(int wstatus)
{
	return WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
}

/* Fields of proc_pid_stat(5), by their numbers there, ascending. 0 or -errno. */
static int read_stat(pid_t pid, const int *fields, size_t n, uint64_t *ret_values)
{
	char path[32], *field, *end;
	auto_free char *text = NULL;
	int r, at = 2;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = fs_read_file(AT_FDCWD, path, 8192, &text, NULL);
	if (r < 0)
		return r;
	/* Field 2 is the name in parentheses and may hold anything, so count from the last ')',
	 * which ends it. */
	field = strrchr(text, ')');
	for (size_t i = 0; i < n && r == 0; i++) {
		for (; field && at < fields[i]; at++)
			field = strchr(field + 1, ' ');
		if (!field)
			return -EPROTO;
		end = strchr(field + 1, ' ');
		if (end)
			*end = 0;
		r = parse_u64(field + 1, 0, UINT64_MAX, &ret_values[i]);
		if (end)
			*end = ' ';
	}
	return r;
}

int proc_start_time(pid_t pid, uint64_t *ret_ticks)
{
	return read_stat(pid, (const int[]){ 22 }, 1, ret_ticks);
}

int proc_cpu_ticks(pid_t pid, uint64_t *ret_user, uint64_t *ret_system)
{
	uint64_t values[2];
	int r = read_stat(pid, (const int[]){ 14, 15 }, 2, values);

	if (r < 0)
		return r;
	*ret_user = values[0];
	*ret_system = values[1];
	return 0;
}

int proc_boot_id(char out[static 37])
{
	auto_free char *text = NULL;
	int r = fs_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL);

	if (r < 0)
		return r;
	snprintf(out, 37, "%.36s", text);
	return 0;
}
