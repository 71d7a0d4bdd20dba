/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the cgroup is made and limited first, so that the child is born in it. The parent
 * hears from the child over a socket: a terminal's master, that all is made, or why it is not; end
 * of file is execve(2)'s doing. Between made and execve the child waits for a byte.
 */
#include "agent/launch.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/enter.h"
#include "agent/launch-child.h"
#include "agent/launch-group.h"
#include "agent/settings.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "oci/caps.h"

bool launch_covers(const API(CreateContainerRequest) * req)
{
	return !req->oci_spec.len && !req->privileged && !req->init && !req->n_mounts &&
	       !req->n_sysctls;
}

/* Settings */

int launch_settings(const API(CreateContainerRequest) * req, const char *hostname,
	struct exec_settings *s, struct err *err)
{
	int r = settings_from_request(req, hostname, s, err);

	if (r == 0)
		r = bundle_caps(req, &s->bounding, err);
	if (r == 0)
		r = bundle_rlimits(req, s->rlimits, &s->n_rlimits, err);
	if (r < 0)
		return r;
	/* What a user that is not root keeps of them is decided where the user is known. */
	s->effective = s->permitted = s->bounding;
	s->by_name = true;
	s->no_new_privileges = req->no_new_privileges;
	if (!req->user)
		r = strv_add(&s->user_words, "");
	else
		r = api_add_bytes(&s->user_words, &req->user->name);
	for (size_t i = 0; req->user && r == 0 && i < req->user->n_additional_groups; i++)
		r = api_add_bytes(&s->user_words, &req->user->additional_groups[i]);
	return r < 0 ? err_errno(err, -r, "user") : 0;
}

int launch_args(const API(CreateContainerRequest) * req, struct strv *args, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < req->n_args; i++)
		r = api_add_bytes(args, &req->args[i]);
	for (size_t i = 0; r == 0 && !req->n_args && i < req->n_process_args; i++)
		r = strv_add(args, req->process_args[i]);
	return r < 0 ? err_errno(err, -r, "args") : 0;
}

/* Made before it is asked for */

struct launch_stage {
	struct loop_fd src;
	int sock, pidfd, cgroup;
	pid_t pid;
	bool ready; /* it waits for orders */
	char id[LIMIT_ID + 1];
	API(RootDisks) disks; /* strings owned */
	void (*done)(void *arg, const struct failure *f);
	void *arg;
};

static pid_t clone_child(int cgroup, int *ret_pidfd)
{
	/* The cgroup namespace comes later: made here its root would be our own group. */
	struct clone_args args = { .exit_signal = SIGCHLD,
		.flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWPID |
			 CLONE_NEWUTS | CLONE_NEWIPC,
		.pidfd = (uintptr_t)ret_pidfd,
		.cgroup = (uint64_t)cgroup };
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : pid;
}

struct launch_stage *launch_stage_free(struct launch_stage *s)
{
	if (!s)
		return NULL;
	loop_fd_remove(&s->src);
	if (s->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	safe_close(s->sock);
	safe_close(s->pidfd);
	safe_close(s->cgroup);
	free(s->disks.image_serial);
	free(s->disks.scratch_serial);
	free(s);
	return NULL;
}

/* Its first report; after that only an end can come. */
static void on_stage_report(struct loop_fd *src, uint32_t events)
{
	struct launch_stage *s = container_of(src, struct launch_stage, src);
	void (*done)(void *, const struct failure *) = s->done;
	struct enter_report report;
	struct failure f = FAILURE_INIT;
	int fd = -1, r = enter_receive(s->sock, &report, &fd);

	if (r == -EAGAIN)
		return;
	safe_close(fd);
	s->done = NULL;
	s->ready = r == 1 && report.kind == ENTER_REPORT_STAGED;
	if (!s->ready)
		loop_fd_remove(&s->src);
	if (!done)
		return;
	if (s->ready)
		done(s->arg, NULL);
	else if (r == 1 && report.kind == ENTER_REPORT_FAILURE)
		done(s->arg, &report.failure);
	else if (failure_set(&f, FAILURE_SPAWN, EPROTO, "create", s->id,
			 "what was to become container '%s' died", s->id) < 0)
		done(s->arg, &f);
}

static int start_stage(struct launch_stage *s, struct loop *loop,
	const struct launch_stage_spec *spec, struct failure *f)
{
	auto_close int report = -1;
	int fds[2], r;

	s->disks.image_serial = strdup(spec->disks->image_serial);
	s->disks.scratch_serial = strdup(spec->disks->scratch_serial);
	if (!s->disks.image_serial || !s->disks.scratch_serial)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	s->cgroup = r = launch_group_make(spec->cgroups_path, &f->err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(&f->err, errno, "cannot make a socket");
	s->sock = fds[0];
	report = fds[1];
	r = loop_fd_add(loop, &s->src, s->sock, EPOLLIN, on_stage_report);
	if (r < 0)
		return err_errno(&f->err, -r, "cannot watch a socket");
	s->pid = clone_child(s->cgroup, &s->pidfd);
	if (s->pid == 0)
		launch_stage_main(spec, report);
	return s->pid < 0 ? failure_set(f, FAILURE_SPAWN, -s->pid, "fork", "",
				    "cannot fork into new namespaces: %s", strerror(-s->pid))
			  : 0;
}

int launch_stage_new(struct loop *loop, const struct launch_stage_spec *spec,
	void (*done)(void *arg, const struct failure *f), void *arg,
	struct launch_stage **ret_stage, struct failure *f)
{
	struct launch_stage *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	s->sock = s->pidfd = s->cgroup = -1;
	s->disks = *spec->disks;
	snprintf(s->id, sizeof(s->id), "%s", spec->id);
	s->done = done;
	s->arg = arg;
	r = start_stage(s, loop, spec, f);
	if (r < 0) {
		launch_stage_free(s);
		return r;
	}
	*ret_stage = s;
	return 0;
}

void launch_stage_mount(struct launch_stage *s)
{
	const struct launch_order order = { .kind = LAUNCH_ORDER_DISKS };

	/* One that has died is found out when it is asked for. */
	(void)send(s->sock, &order, sizeof(order), MSG_NOSIGNAL);
}

static bool stage_fits(const struct launch_stage *s, const struct launch_spec *spec)
{
	const API(RootDisks) *disks = spec->req->disks;

	return s && s->ready && strcmp(s->id, spec->id) == 0 && !spec->req->shm_bytes && disks &&
	       strcmp(disks->image_serial, s->disks.image_serial) == 0 &&
	       strcmp(disks->scratch_serial, s->disks.scratch_serial) == 0 &&
	       disks->tmpfs_bytes == s->disks.tmpfs_bytes &&
	       disks->read_only == s->disks.read_only &&
	       protobuf_c_message_get_packed_size(&spec->req->base) <= LIMIT_STAGE_REQUEST;
}

/* Tells the staged child what it is to be. 0 or -errno: it is not there any more. */
static int order_create(const struct launch_stage *s, const struct process *p,
	const struct launch_spec *spec, int go)
{
	struct launch_order order = { .kind = LAUNCH_ORDER_CREATE };
	const int fds[LAUNCH_ORDER_FDS] = { go, p->io.child[0], p->io.child[1], p->io.child[2] };
	union {
		char buf[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = { 0 };
	size_t len = protobuf_c_message_get_packed_size(&spec->req->base);
	auto_free uint8_t *request = malloc(len + 1);
	struct iovec iov[] = { { &order, sizeof(order) }, { request, len } };
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	if (!request)
		return -ENOMEM;
	snprintf(order.hostname, sizeof(order.hostname), "%s", spec->hostname);
	protobuf_c_message_pack(&spec->req->base, request);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	return sendmsg(s->sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The parent's side */

struct launch {
	struct process_watch process; /* a reference */
	struct loop_fd src;
	struct loop_timer timer;
	int fd, go_fd, pidfd, cgroup;
	pid_t pid;
	bool created, held;
	struct launch_ops ops;
	void *arg;
};

static void launch_free(struct launch *l)
{
	if (l->held)
		waiter_release(l->process.process->waiter);
	loop_fd_remove(&l->src);
	loop_timer_disarm(&l->timer);
	safe_close(l->fd);
	safe_close(l->go_fd);
	safe_close(l->pidfd);
	safe_close(l->cgroup);
	process_unwatch(&l->process);
	free(l);
}

static void kill_child(const struct launch *l)
{
	syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
}

static void finish(struct launch *l, const struct failure *failure)
{
	void (*done)(void *, const struct failure *) = l->ops.done;
	struct failure f = failure ? *failure : FAILURE_INIT;
	void *arg = l->arg;

	if (failure)
		kill_child(l);
	launch_free(l);
	done(arg, failure ? &f : NULL);
}

/* Nothing of the container's has run yet, and the child needs its disks no more. */
static void on_created(struct launch *l)
{
	struct process *p = l->process.process;
	struct failure f = FAILURE_INIT;
	int r = launch_group_restrict_devices(l->cgroup);

	if (r < 0) {
		failure_set(&f, FAILURE_UNKNOWN, -r, "restrict devices", "",
			"cannot restrict the devices of the container's cgroup: %s", strerror(-r));
		finish(l, &f);
		return;
	}
	l->created = true;
	process_started(p, l->pid);
	p->state = PROCESS_CREATED;
	waiter_release(p->waiter);
	l->held = false;
	loop_timer_disarm(&l->timer);
	l->ops.created(l->arg, l->pid);
}

static void on_report(struct loop_fd *src, uint32_t events)
{
	struct launch *l = container_of(src, struct launch, src);
	struct enter_report report;
	struct failure f = FAILURE_INIT;
	int fd = -1, r = enter_receive(l->fd, &report, &fd);

	if (r == -EAGAIN)
		return;
	if (r == 1 && report.kind == ENTER_REPORT_TTY) {
		r = streams_set_master(&l->process.process->io, fd);
		if (r == 0)
			return;
		failure_set(&f, FAILURE_SPAWN, -r, "make a terminal", "/dev/ptmx",
			"cannot make a terminal: /dev/ptmx of the container is none");
		finish(l, &f);
	} else if (r == 1 && report.kind == ENTER_REPORT_CREATED && !l->created) {
		on_created(l);
	} else if (r == 1 && report.kind == ENTER_REPORT_FAILURE) {
		finish(l, &report.failure);
	} else if (r == 0 && l->created && l->go_fd < 0) {
		finish(l, NULL);
	} else {
		failure_set(&f, FAILURE_SPAWN, r < 0 ? -r : EPROTO, "create", "",
			"the container's first process died before it was a program");
		finish(l, &f);
	}
}

static void on_deadline(struct loop_timer *timer)
{
	struct failure f = FAILURE_INIT;

	failure_set(&f, FAILURE_TIMEOUT, ETIMEDOUT, "create", "",
		"the container was not made within %d s: a file system does not answer",
		LIMIT_WORKER_MS / 1000);
	finish(container_of(timer, struct launch, timer), &f);
}

static int clone_now(struct launch *l, const struct process *p, const struct launch_spec *spec,
	int go, struct failure *f)
{
	auto_close int report = -1;
	int fds[2];

	l->cgroup = launch_group_make(spec->cgroups_path, &f->err);
	if (l->cgroup < 0)
		return l->cgroup;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(&f->err, errno, "cannot make a socket");
	l->fd = fds[0];
	report = fds[1];
	l->pid = clone_child(l->cgroup, &l->pidfd);
	if (l->pid == 0)
		launch_main(p, spec, report, go);
	return l->pid < 0 ? failure_set(f, FAILURE_SPAWN, -l->pid, "fork", "",
				    "cannot fork into new namespaces: %s", strerror(-l->pid))
			  : 0;
}

/* The staged child, or a new one. */
static int get_child(struct launch *l, const struct process *p, const struct launch_spec *spec,
	int go, struct failure *f)
{
	struct launch_stage *s = spec->stage;

	if (!stage_fits(s, spec) || order_create(s, p, spec, go) < 0)
		return clone_now(l, p, spec, go, f);
	loop_fd_remove(&s->src);
	l->fd = take_fd(&s->sock);
	l->pidfd = take_fd(&s->pidfd);
	l->cgroup = take_fd(&s->cgroup);
	l->pid = s->pid;
	return 0;
}

static int start(
	struct launch *l, struct process *p, const struct launch_spec *spec, struct failure *f)
{
	auto_close int go = -1;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(&f->err, errno, "cannot make a socket");
	l->go_fd = fds[0];
	go = fds[1];
	process_watch(p, &l->process, NULL);
	waiter_hold(p->waiter);
	l->held = true;
	r = get_child(l, p, spec, go, f);
	if (r == 0 && spec->req->resources &&
		(r = launch_group_limit(l->cgroup, spec->req->resources)) < 0)
		err_errno(&f->err, -r, "cannot set the limits of the cgroup '%s'",
			spec->cgroups_path);
	if (r < 0)
		return r;
	r = loop_fd_add(p->loop, &l->src, l->fd, EPOLLIN, on_report);
	if (r == 0)
		r = loop_timer_arm(p->loop, &l->timer, deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC),
			on_deadline);
	return r < 0 ? err_errno(&f->err, -r, "cannot watch the container's child") : 0;
}

int launch_start(struct process *p, const struct launch_spec *spec, const struct launch_ops *ops,
	void *arg, struct launch **ret_launch, struct failure *f)
{
	struct launch *l = calloc(1, sizeof(*l));
	int r;

	if (!l) {
		launch_stage_free(spec->stage);
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	}
	l->fd = l->go_fd = l->pidfd = l->cgroup = -1;
	l->ops = *ops;
	l->arg = arg;
	r = start(l, p, spec, f);
	launch_stage_free(spec->stage);
	if (r < 0) {
		if (l->pidfd >= 0)
			kill_child(l);
		launch_free(l);
		return r;
	}
	*ret_launch = l;
	return 0;
}

void launch_go(struct launch *l)
{
	/* A child that has died says so by its report's end. */
	(void)send(l->go_fd, "g", 1, MSG_NOSIGNAL);
	l->go_fd = safe_close(l->go_fd);
	l->process.process->state = PROCESS_STARTING;
	loop_timer_arm(l->process.process->loop, &l->timer,
		deadline_in(LIMIT_SPAWN_MS * NSEC_PER_MSEC), on_deadline);
}

struct launch *launch_cancel(struct launch *l)
{
	if (!l)
		return NULL;
	kill_child(l);
	launch_free(l);
	return NULL;
}
