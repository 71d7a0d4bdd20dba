/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the VMM is started with the path of a socket that it makes itself, in a folder of
 * its own; inotify(7) tells when it is there. Requests are a queue of which the first is under way.
 * Its output, the guest's console among it, is a pipe. When it ends, what the pipe still holds is
 * read first, as the last words may say why.
 */
#include "driver/vmm/rest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/proc.h"
#include "base/trace.h"
#include "driver/console.h"
#include "driver/session.h"
#include "http/http.h"

#define AGENT_VSOCK_PORT 1024
#define SOCKET_TIME	 (20 * NSEC_PER_SEC) /* for the VMM to make its socket */
#define END_GRACE	 (2 * NSEC_PER_SEC)
#define LISTEN_INTERVAL	 (10 * NSEC_PER_MSEC)
#define REQUEST_TIME	 (60 * NSEC_PER_SEC)
#define FOLDER		 "vmm" /* in the sandbox' run folder */

struct request {
	struct list link;
	char *method, *path, *body; /* body NULL: none */
	void (*done)(void *arg);
	void (*failed)(void *arg, const struct err *err);
	void *arg;
};

struct vm {
	struct loop *loop;
	const struct rest_vmm *vmm;
	struct vm_events events;
	struct rest_paths paths;
	pid_t pid; /* 0: it has ended */
	int pidfd;
	struct loop_child child;
	int console_fd, watch_fd;
	struct loop_fd console_src, watch_src;
	struct loop_timer timer; /* until the socket is there, and listened on */
	struct console console;
	struct http *http;
	struct list requests;
	bool busy;	/* the first of them has been sent */
	bool connected; /* one has been answered */
	int64_t until;	/* for the first answer */
	struct session *session;
	void (*session_cb)(struct io_stream *stream, const struct err *err, void *arg);
	void *session_arg;
	char unanswered[LIMIT_ERR_MESSAGE]; /* why the last request has no answer */
	char killed[LIMIT_ERR_MESSAGE];	    /* why we killed it; empty: we did not */
};

int rest_no_identity(const struct vmm_kind *kind, struct err *err)
{
	return err_set(err, ENOTSUP, "VMs of %s cannot be saved yet", kind->title);
}

static int check(const struct vmm_kind *kind, const struct vm_config *c, struct err *err)
{
	if (c->net_fd >= 0)
		return err_set(err, ENOTSUP,
			"%s has no user-mode network: give '--network none', or use --vmm qemu",
			kind->title);
	if (c->slots)
		return err_set(err, ENOTSUP,
			"VMs of %s take no folders and disks while they run: use --vmm qemu",
			kind->title);
	if (c->accel == VM_ACCEL_TCG)
		return err_set(err, ENOTSUP,
			"%s needs KVM, which does not work here: see micropod doctor", kind->title);
	return c->state_fd >= 0 || c->ram == VM_RAM_SHARED ? rest_no_identity(kind, err) : 0;
}

static int make_paths(const char *run_dir, struct rest_paths *ret_paths, struct err *err)
{
	auto_free char *folder = NULL;
	int api, vsock;

	if (asprintf(&folder, "%s/" FOLDER, run_dir) < 0) {
		folder = NULL;
		return err_errno(err, ENOMEM, "cannot start a VM");
	}
	fs_remove_tree(AT_FDCWD, folder);
	if (mkdir(folder, 0700) < 0)
		return err_errno(err, errno, "cannot make '%s'", folder);
	api = snprintf(ret_paths->api, sizeof(ret_paths->api), "%s/api.sock", folder);
	vsock = snprintf(ret_paths->vsock, sizeof(ret_paths->vsock), "%s/vsock.sock", folder);
	return MAX(api, vsock) < (int)sizeof(ret_paths->api)
		       ? 0
		       : err_set(err, ENAMETOOLONG,
				 "'%s' is too long for the name of a socket: use another --root",
				 folder);
}

static int confine(
	struct confine_spec *spec, const struct vm_config *c, const struct rest_paths *paths)
{
	static char folder[sizeof(paths->api)];
	int r = confine_bind_system(spec);

	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(paths->api, '/') - paths->api),
		paths->api);
	if (r == 0)
		r = confine_bind(spec, folder, folder, CONFINE_WRITE | CONFINE_MAKE);
	if (r == 0)
		r = confine_bind(spec, "/dev/kvm", "/dev/kvm", CONFINE_DEVICE | CONFINE_OPTIONAL);
	if (r == 0 && c->state_fd < 0)
		r = confine_bind(spec, c->kernel, c->kernel, 0);
	if (r == 0 && c->state_fd < 0 && c->initramfs)
		r = confine_bind(spec, c->initramfs, c->initramfs, 0);
	if (r == 0 && c->agent_rootfs)
		r = confine_bind(spec, c->agent_rootfs, c->agent_rootfs, 0);
	for (unsigned i = 0; r == 0 && i < c->n_disks; i++)
		r = confine_bind(spec, c->disks[i].path, c->disks[i].path,
			c->disks[i].read_only ? 0 : CONFINE_WRITE);
	return r;
}

/* ---- its end ---- */

static void kill_because(struct vm *rest, const char *why)
{
	if (!rest->pid)
		return;
	if (!rest->killed[0])
		snprintf(rest->killed, sizeof(rest->killed), "%s", why);
	kill(rest->pid, SIGKILL);
}

/* One read; false when there is nothing more for now. */
static bool read_console(struct vm *rest)
{
	char buf[8192];
	ssize_t n = read(rest->console_fd, buf, sizeof(buf));

	if (n > 0) {
		console_feed(&rest->console, buf, (size_t)n);
		if (rest->events.console)
			rest->events.console(rest, buf, (size_t)n, rest->events.arg);
		if (rest->vmm->ends_panics && rest->console.panic[0]) {
			char why[LIMIT_ERR_MESSAGE];

			snprintf(why, sizeof(why), "guest panicked: %s", rest->console.panic);
			kill_because(rest, why);
		}
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		loop_fd_remove(&rest->console_src);
	}
	return n > 0;
}

static void on_console(struct loop_fd *src, uint32_t events)
{
	read_console(container_of(src, struct vm, console_src));
}

static bool explain(struct vm *rest, int wstatus, char *why, size_t size)
{
	const char *name = rest->vmm->kind->title;

	if (rest->killed[0])
		snprintf(why, size, "%s", rest->killed);
	else if (rest->console.panic[0])
		snprintf(why, size, "guest panicked: %s", rest->console.panic);
	else if (WIFSIGNALED(wstatus))
		snprintf(why, size, "%s was killed by signal %d (%s)", name, WTERMSIG(wstatus),
			strsignal(WTERMSIG(wstatus)));
	else if (WEXITSTATUS(wstatus))
		snprintf(why, size, "%s ended with status %d", name, WEXITSTATUS(wstatus));
	else
		snprintf(why, size, "guest powered off");
	return !rest->killed[0] && !rest->console.panic[0] && wstatus == 0;
}

static void drop_requests(struct vm *rest)
{
	rest->http = http_free(rest->http);
	while (!list_empty(&rest->requests)) {
		struct request *q = list_entry(rest->requests.next, struct request, link);

		list_remove(&q->link);
		free(q->method);
		free(q->path);
		free(q->body);
		free(q);
	}
}

static void on_exit_status(struct loop_child *child, int wstatus)
{
	struct vm *rest = container_of(child, struct vm, child);
	struct session *session = rest->session;
	char why[LIMIT_ERR_MESSAGE];
	struct err err = ERR_INIT;
	bool clean;

	rest->pid = 0;
	loop_timer_disarm(&rest->timer);
	loop_fd_remove(&rest->watch_src);
	while (rest->console_src.loop && read_console(rest))
		;
	loop_fd_remove(&rest->console_src);
	drop_requests(rest);
	clean = explain(rest, wstatus, why, sizeof(why));
	if (session) {
		/* Killed from outside: the VM is not to blame. */
		err_set(&err, !rest->killed[0] && WIFSIGNALED(wstatus) ? EINTR : ECONNRESET,
			"the VM ended before the agent answered: %s", why);
		session_fail(session, &err);
	}
	rest->events.exited(rest, clean, why, rest->events.arg);
}

/* ---- requests ---- */

static void send_next(struct vm *rest);

/* What the VMM says of its refusal. */
static void say_fault(const struct vm *rest, const struct request *q,
	const struct http_answer *answer, struct err *err)
{
	json_t *root = rest->vmm->fault ? json_loads(answer->body, 0, NULL) : NULL;
	const char *text =
		json_string_value(json_object_get(root, rest->vmm->fault ? rest->vmm->fault : ""));

	err_set(err, EIO, "%s refused %s %s (status %d): %.300s", rest->vmm->kind->title, q->method,
		q->path, answer->status,
		text		  ? text
		: answer->body[0] ? answer->body
				  : "no reason given");
	for (char *p = err->msg; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	json_decref(root);
}

static void on_unanswered(struct loop_timer *timer)
{
	struct vm *rest = container_of(timer, struct vm, timer);

	kill_because(rest, rest->unanswered);
}

static void on_again(struct loop_timer *timer)
{
	send_next(container_of(timer, struct vm, timer));
}

/* A socket is there before it is listened on, and nothing tells of that. */
static bool ask_again(struct vm *rest)
{
	return !rest->connected && clock_monotonic() < rest->until &&
	       loop_timer_arm(rest->loop, &rest->timer, deadline_in(LISTEN_INTERVAL), on_again) ==
		       0;
}

static void on_answer(void *arg, const struct http_answer *answer, const struct err *err)
{
	struct vm *rest = arg;
	struct request *q = list_entry(rest->requests.next, struct request, link);
	struct request done = *q;
	struct err why = ERR_INIT;

	if (err && ask_again(rest)) {
		rest->busy = false;
		return;
	}
	rest->connected |= answer != NULL;
	if (err) {
		snprintf(rest->unanswered, sizeof(rest->unanswered),
			"%s did not answer %s %s: %.300s", rest->vmm->kind->title, q->method,
			q->path, err->msg);
		/* Most likely it is ending, and how it ends says more. */
		if (!done.failed && loop_timer_arm(rest->loop, &rest->timer, deadline_in(END_GRACE),
					    on_unanswered) == 0)
			return;
		err_set(&why, EIO, "%s", rest->unanswered);
	} else if (answer->status / 100 != 2)
		say_fault(rest, q, answer, &why);
	list_remove(&q->link);
	rest->busy = false;
	free(q->method);
	free(q->path);
	free(q->body);
	free(q);
	if (why.code && done.failed)
		done.failed(done.arg, &why);
	else if (why.code)
		kill_because(rest, why.msg);
	else if (done.done)
		done.done(done.arg);
	if (!why.code)
		send_next(rest);
}

static void send_next(struct vm *rest)
{
	struct request *q;
	struct http_request_opts opts = { .content_type = "application/json",
		.timeout = REQUEST_TIME,
		.done = on_answer,
		.arg = rest };

	if (!rest->http || rest->busy || list_empty(&rest->requests))
		return;
	q = list_entry(rest->requests.next, struct request, link);
	opts.method = q->method;
	opts.path = q->path;
	opts.body = q->body;
	opts.len = q->body ? strlen(q->body) : 0;
	if (!q->body)
		opts.content_type = NULL;
	rest->busy = true;
	if (http_send(rest->http, &opts) < 0)
		kill_because(rest, "out of memory");
}

int rest_request(struct vm *rest, const char *method, const char *path, json_t *body,
	void (*done)(void *arg), void (*failed)(void *arg, const struct err *err), void *arg)
{
	struct request *q = calloc(1, sizeof(*q));
	bool has_body = body != NULL;

	if (q) {
		q->method = strdup(method);
		q->path = strdup(path);
		q->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
		q->done = done;
		q->failed = failed;
		q->arg = arg;
	}
	json_decref(body);
	if (!q || !q->method || !q->path || (has_body && !q->body)) {
		if (q) {
			free(q->method);
			free(q->path);
			free(q->body);
		}
		free(q);
		return -ENOMEM;
	}
	list_add_tail(&rest->requests, &q->link);
	send_next(rest);
	return 0;
}

/* ---- its socket ---- */

static void on_no_socket(struct loop_timer *timer)
{
	struct vm *rest = container_of(timer, struct vm, timer);
	char why[128];

	snprintf(why, sizeof(why), "%s did not open its API in time", rest->vmm->kind->title);
	kill_because(rest, why);
}

static void look_for_socket(struct vm *rest)
{
	const struct http_opts opts = { .unix_socket = rest->paths.api, .base = rest->vmm->base };
	struct err err = ERR_INIT;

	if (access(rest->paths.api, F_OK) < 0)
		return;
	loop_fd_remove(&rest->watch_src);
	loop_timer_disarm(&rest->timer);
	trace_step("VMM's API is there");
	if (http_new(rest->loop, &opts, &rest->http, &err) < 0)
		kill_because(rest, err.msg);
	else
		send_next(rest);
}

static void on_folder(struct loop_fd *src, uint32_t events)
{
	char buf[4096];

	while (read(src->fd, buf, sizeof(buf)) > 0)
		;
	look_for_socket(container_of(src, struct vm, watch_src));
}

static int watch_folder(struct vm *rest)
{
	char folder[sizeof(rest->paths.api)];

	snprintf(folder, sizeof(folder), "%.*s",
		(int)(strrchr(rest->paths.api, '/') - rest->paths.api), rest->paths.api);
	rest->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (rest->watch_fd < 0 || inotify_add_watch(rest->watch_fd, folder, IN_CREATE) < 0)
		return -errno;
	return loop_fd_add(rest->loop, &rest->watch_src, rest->watch_fd, EPOLLIN, on_folder);
}

/* ---- start ---- */

static int watch(struct vm *rest, struct err *err)
{
	int pidfd, r = fd_set_nonblock(rest->console_fd, true);

	if (r == 0)
		r = loop_fd_add(
			rest->loop, &rest->console_src, rest->console_fd, EPOLLIN, on_console);
	rest->until = deadline_in(SOCKET_TIME);
	if (r == 0)
		r = loop_timer_arm(rest->loop, &rest->timer, rest->until, on_no_socket);
	if (r == 0) {
		pidfd = fcntl(rest->pidfd, F_DUPFD_CLOEXEC, 3);
		r = pidfd < 0 ? -errno
			      : loop_child_add(
					rest->loop, &rest->child, rest->pid, pidfd, on_exit_status);
	}
	return r < 0 ? err_errno(err, -r, "cannot watch %s", rest->vmm->kind->title) : 0;
}

static int launch(struct vm *rest, const struct vm_config *c, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	struct confine_spec spec = { .off = !c->confine, .ramguard_sock = -1 };
	int fds[2], r = vmm_find_program(rest->vmm->kind, c->vmm, &program, err);

	if (r < 0)
		return r;
	r = strv_add(&argv, rest->vmm->kind->program);
	if (r == 0)
		r = rest->vmm->arguments(&rest->paths, &argv);
	if (r == 0)
		r = confine(&spec, c, &rest->paths);
	/* Before it is there. */
	if (r == 0)
		r = watch_folder(rest);
	if (r == 0 && pipe2(fds, O_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, -r, "cannot start a VM");
	rest->console_fd = fds[0];
	spec.program = program;
	spec.argv = strv_items(&argv);
	spec.stderr_fd = fds[1];
	r = confine_spawn(&spec, &rest->pid, &rest->pidfd, err);
	safe_close(fds[1]);
	return r < 0 ? r : watch(rest, err);
}

int rest_start(const struct rest_vmm *vmm, struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err)
{
	struct vm *rest = calloc(1, sizeof(*rest));
	int r = rest ? check(vmm->kind, config, err) : err_errno(err, ENOMEM, "cannot start a VM");

	if (r < 0) {
		free(rest);
		return r;
	}
	rest->loop = loop;
	rest->vmm = vmm;
	rest->events = *events;
	rest->console_fd = rest->watch_fd = rest->pidfd = -1;
	list_init(&rest->requests);
	r = make_paths(config->run_dir, &rest->paths, err);
	if (r == 0)
		r = launch(rest, config, err);
	if (r == 0 && (r = vmm->ask(rest, &rest->paths, config)) < 0)
		err_errno(err, -r, "cannot start a VM");
	if (r < 0)
		rest_free(rest);
	else
		*ret_vm = rest;
	return r;
}

/* ---- driver.h's ---- */

static void on_session(struct io_stream *stream, const struct err *err, void *arg)
{
	struct vm *rest = arg;

	rest->session = NULL;
	rest->session_cb(stream, err, rest->session_arg);
}

void rest_open_session(struct vm *rest, enum vm_transport transport, bool reconnect,
	int64_t deadline, void (*cb)(struct io_stream *stream, const struct err *err, void *arg),
	void *arg)
{
	struct err err = ERR_INIT;
	int r = 0;

	if (!rest->pid)
		err_set(&err, ECONNRESET, "the VM has ended");
	else if (rest->session)
		err_set(&err, EBUSY, "the agent is being joined already");
	else if (transport != VM_TRANSPORT_VSOCK)
		err_set(&err, ENODEV, "the VM has no serial port for the agent");
	if (!err.code) {
		rest->session_cb = cb;
		rest->session_arg = arg;
		r = session_dial_hybrid(rest->loop, rest->paths.vsock, AGENT_VSOCK_PORT, deadline,
			on_session, rest, &rest->session);
		if (r == 0)
			return;
		err_errno(&err, -r, "cannot join the agent");
	}
	cb(NULL, &err, arg);
}

void rest_kill(struct vm *rest)
{
	kill_because(rest, "the VM was ended by micropod");
}

pid_t rest_pid(const struct vm *rest)
{
	return rest->pid;
}

void rest_free(struct vm *rest)
{
	if (!rest)
		return;
	rest->session = session_free(rest->session);
	if (rest->pid > 0) {
		loop_child_remove(&rest->child);
		kill(rest->pid, SIGKILL);
		while (waitpid(rest->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	drop_requests(rest);
	loop_timer_disarm(&rest->timer);
	loop_fd_remove(&rest->console_src);
	loop_fd_remove(&rest->watch_src);
	safe_close(rest->console_fd);
	safe_close(rest->watch_fd);
	safe_close(rest->pidfd);
	free(rest);
}
