/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: stdin, stdout and stderr of `create` become the container's, so messages go to a
 * log file, as JSON lines that both runtimes write alike. The last message of level error is what
 * failed; at most LIMIT_RUNTIME_MESSAGE bytes of the log are looked at.
 */
#include "agent/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/cgroups.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/proc.h"
#include "base/strv.h"
#include "oci/spec.h"

struct runtime_job {
	struct waiter_child child;
	struct loop_timer timer;
	int pidfd;
	bool late;
	char *log;
	char verb[16];
	struct runtime_done done;
};

/* Programs */

static char *find_program(const char *word)
{
	static const char *const folders[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
		"/usr/bin", "/sbin", "/bin" };
	char *path = NULL;

	if (strchr(word, '/'))
		return access(word, X_OK) == 0 ? strdup(word) : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (asprintf(&path, "%s/%s", folders[i], word) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

int runtime_init(struct runtime *rt, struct loop *loop, struct waiter *waiter, const char *program,
	const char *dir, struct err *err)
{
	int r;

	*rt = (struct runtime){ .loop = loop, .waiter = waiter };
	rt->path = find_program(program ? program : "crun");
	if (!rt->path && !program)
		rt->path = find_program("runc");
	if (!rt->path)
		return err_set(err, ENOENT, "container runtime '%s' not found",
			program ? program : "crun");
	rt->name = strdup(strrchr(rt->path, '/') + 1);
	if (!rt->name || asprintf(&rt->root, "%s/runtime", dir) < 0 ||
		asprintf(&rt->log_dir, "%s/log", dir) < 0)
		return err_errno(err, ENOMEM, "cannot set up the container runtime");
	r = fs_make_dirs(rt->root, 0700);
	if (r == 0)
		r = fs_make_dirs(rt->log_dir, 0700);
	return r < 0 ? err_errno(err, -r, "cannot make '%s'", rt->root) : 0;
}

void runtime_deinit(struct runtime *rt)
{
	free(rt->path);
	free(rt->name);
	free(rt->root);
	free(rt->log_dir);
}

/* Messages */

/* The text of the last error in a log of JSON lines; out is set in any case. */
static void last_error(const char *path, char *out, size_t size)
{
	auto_free char *text = NULL;
	char *save = NULL;

	snprintf(out, size, "no reason given");
	if (fs_read_file(AT_FDCWD, path, LIMIT_RUNTIME_MESSAGE, &text, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *entry = json_loads(line, 0, NULL);
		const char *msg = json_string_value(json_object_get(entry, "msg"));
		const char *level = json_string_value(json_object_get(entry, "level"));

		if (msg && (!level || strcmp(level, "error") == 0 || strcmp(level, "fatal") == 0))
			snprintf(out, size, "%s", msg);
		json_decref(entry);
	}
}

int runtime_errno(const char *message)
{
	static const struct {
		const char *text;
		int code;
	} known[] = {
		{ "not found in $PATH", ENOENT }, /* both, before the kernel is asked */
		{ "o such file or directory", ENOENT },
		{ "ermission denied", EACCES },
		{ "xec format error", ENOEXEC },
		{ "s a directory", EISDIR },
		{ "o space left", ENOSPC },
		{ "annot allocate memory", ENOMEM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strstr(message, known[i].text))
			return known[i].code;
	return 0;
}

/* Commands */

static void job_free(struct runtime_job *job)
{
	waiter_unwatch(&job->child);
	loop_timer_disarm(&job->timer);
	safe_close(job->pidfd);
	if (job->log)
		unlink(job->log);
	free(job->log);
	free(job);
}

static void kill_job(const struct runtime_job *job)
{
	syscall(SYS_pidfd_send_signal, job->pidfd, SIGKILL, NULL, 0);
}

static void on_exit_status(struct waiter_child *child, int wstatus)
{
	struct runtime_job *job = container_of(child, struct runtime_job, child);
	struct runtime_done done = job->done;
	char reason[LIMIT_ERR_MESSAGE / 2];
	struct err err = ERR_INIT;

	if (job->late) {
		err_set(&err, ETIMEDOUT, "the container runtime did not %s within %d s", job->verb,
			LIMIT_RUNTIME_MS / 1000);
	} else if (wstatus != 0) {
		last_error(job->log, reason, sizeof(reason));
		err_set(&err, EIO, "%s", reason);
	}
	job_free(job);
	done.fn(done.arg, &err);
}

static void on_deadline(struct loop_timer *timer)
{
	struct runtime_job *job = container_of(timer, struct runtime_job, timer);

	job->late = true;
	kill_job(job);
}

static int hand_down(void *arg, struct err *err)
{
	const struct runtime_create *c = arg;
	int blob, self, r = cgroups_unprotect_child();

	if (r < 0)
		return err_errno(err, -r, "cannot set oom_score_adj");
	if (c->blob_fd < 0)
		return 0;
	blob = fcntl(c->blob_fd, F_DUPFD_CLOEXEC, 16);
	self = fcntl(c->self_fd, F_DUPFD_CLOEXEC, 16);
	if (blob < 0 || self < 0 || dup2(blob, OCI_EXEC_FD_BLOB) < 0 ||
		dup2(self, OCI_EXEC_FD_AGENT) < 0)
		return err_errno(err, errno, "cannot hand descriptors to the container runtime");
	return 0;
}

/* Runs "<runtime> --root ... --log ... <words>"; c: stdio and descriptors, NULL: none. */
static int run(struct runtime *rt, const char *verb, struct strv *words,
	const struct runtime_create *c, struct runtime_done done, struct runtime_job **ret_job,
	struct err *err)
{
	static const struct runtime_create nothing = {
		.stdio = { -1, -1, -1 }, .blob_fd = -1, .self_fd = -1
	};
	auto_strv struct strv argv = STRV_INIT;
	struct runtime_job *job = calloc(1, sizeof(*job));
	struct proc_opts opts = {
		.path = rt->path, .die_with_parent = true, .in_child = hand_down
	};
	pid_t pid;
	int r;

	if (!job)
		return err_errno(err, ENOMEM, "cannot %s the container", verb);
	c = c ? c : &nothing;
	job->pidfd = -1;
	job->done = done;
	snprintf(job->verb, sizeof(job->verb), "%s", verb);
	if (asprintf(&job->log, "%s/%llu", rt->log_dir, (unsigned long long)rt->commands++) < 0)
		job->log = NULL;
	if (!job->log ||
		strv_addv(&argv, (const char *const[]){ rt->path, "--root", rt->root, "--log",
					 job->log, "--log-format", "json", verb, NULL }) < 0 ||
		strv_addv(&argv, (const char *const *)strv_items(words)) < 0) {
		job_free(job);
		return err_errno(err, ENOMEM, "cannot %s the container", verb);
	}
	opts.argv = strv_items(&argv);
	opts.stdin_fd = c->stdio[0];
	opts.stdout_fd = c->stdio[1];
	opts.stderr_fd = c->stdio[2];
	opts.arg = (void *)c;
	r = proc_spawn(&opts, &pid, &job->pidfd, err);
	if (r < 0) {
		job_free(job);
		return r;
	}
	waiter_watch(rt->waiter, &job->child, pid, on_exit_status);
	if (loop_timer_arm(rt->loop, &job->timer, deadline_in(LIMIT_RUNTIME_MS * NSEC_PER_MSEC),
		    on_deadline) < 0) {
		runtime_cancel(job);
		return err_errno(err, ENOMEM, "cannot %s the container", verb);
	}
	*ret_job = job;
	return 0;
}

int runtime_create(struct runtime *rt, const struct runtime_create *c, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err)
{
	auto_strv struct strv words = STRV_INIT;
	int r = strv_addv(&words,
		(const char *const[]){ "--bundle", c->bundle, "--pid-file", c->pid_file, NULL });

	if (r == 0 && c->console_socket)
		r = strv_addv(&words,
			(const char *const[]){ "--console-socket", c->console_socket, NULL });
	if (r == 0 && c->blob_fd >= 0)
		r = strv_addv(&words, (const char *const[]){ "--preserve-fds", "2", NULL });
	if (r == 0)
		r = strv_add(&words, c->id);
	return r < 0 ? err_errno(err, -r, "cannot create the container")
		     : run(rt, "create", &words, c, done, ret_job, err);
}

int runtime_start(struct runtime *rt, const char *id, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err)
{
	auto_strv struct strv words = STRV_INIT;

	if (strv_add(&words, id) < 0)
		return err_errno(err, ENOMEM, "cannot start the container");
	return run(rt, "start", &words, NULL, done, ret_job, err);
}

int runtime_delete(struct runtime *rt, const char *id, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err)
{
	auto_strv struct strv words = STRV_INIT;

	if (strv_addv(&words, (const char *const[]){ "--force", id, NULL }) < 0)
		return err_errno(err, ENOMEM, "cannot remove the container");
	return run(rt, "delete", &words, NULL, done, ret_job, err);
}

struct runtime_job *runtime_cancel(struct runtime_job *job)
{
	if (!job)
		return NULL;
	kill_job(job);
	job_free(job);
	return NULL;
}

int runtime_version(const struct runtime *rt, char *out, size_t size)
{
	const char *const argv[] = { rt->path, "--version", NULL };
	auto_free char *text = NULL;
	int r = proc_run(argv, 4096, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = 0;
	snprintf(out, size, "%s", text);
	return 0;
}
