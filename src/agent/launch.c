/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the cgroup is made and limited first, so that the child is born in it. The parent
 * hears from the child over a socket: a terminal's master, that all is made, or why it is not; end
 * of file is execve(2)'s doing. Between made and execve the child waits for a byte.
 */
#include "agent/launch.h"

#include <errno.h>
#include <fcntl.h>
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
#include "agent/launch-internal.h"
#include "agent/launch-root.h"
#include "agent/settings.h"
#include "agent/volumes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "oci/caps.h"

bool launch_covers(const API(CreateContainerRequest) * req)
{
	for (size_t i = 0; i < req->n_mounts; i++)
		if (!volumes_is(req->mounts[i]) && !launch_root_is_tmpfs(req->mounts[i]))
			return false;
	return !req->oci_spec.len && !req->privileged && !req->init && !req->n_devices;
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
	/* By which its process is known. */
	if (r == 0 && req->pause && !args->n)
		r = strv_add(args, "pause");
	return r < 0 ? err_errno(err, -r, "args") : 0;
}

struct launch {
	struct process_watch process; /* a reference */
	struct loop_fd src;
	struct loop_timer timer;
	struct launch_child child;
	int go_fd;
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
	launch_child_deinit(&l->child);
	safe_close(l->go_fd);
	process_unwatch(&l->process);
	free(l);
}

static void finish(struct launch *l, const struct failure *failure)
{
	void (*done)(void *, const struct failure *) = l->ops.done;
	struct failure f = failure ? *failure : FAILURE_INIT;
	void *arg = l->arg;

	if (failure)
		launch_child_kill(&l->child);
	launch_free(l);
	done(arg, failure ? &f : NULL);
}

/* Nothing of the container's has run yet, and the child needs its disks no more. */
static void on_created(struct launch *l, const struct enter_times *times)
{
	struct process *p = l->process.process;
	struct launch_made made;
	struct failure f = FAILURE_INIT;
	int r = launch_group_restrict_devices(l->child.group, l->child.devices);

	if (r < 0) {
		failure_set(&f, FAILURE_UNKNOWN, -r, "restrict devices", "",
			"cannot restrict the devices of the container's cgroup: %s", strerror(-r));
		finish(l, &f);
		return;
	}
	r = launch_child_look(&l->child);
	if (r < 0) {
		failure_set(&f, FAILURE_UNKNOWN, -r, "create", "", "cannot watch the container: %s",
			strerror(-r));
		finish(l, &f);
		return;
	}
	l->created = true;
	process_started(p, l->child.pid);
	p->state = PROCESS_CREATED;
	waiter_release(p->waiter);
	l->held = false;
	loop_timer_disarm(&l->timer);
	made = (struct launch_made){ .pid = l->child.pid,
		.pidfd = fcntl(l->child.pidfd, F_DUPFD_CLOEXEC, 3),
		.mnt_fd = take_fd(&l->child.mnt_fd),
		.cgroup = l->child.cgroup,
		.times = *times };
	l->child.cgroup = (struct cgroup){ .dir = -1, .v2_root = -1 };
	l->ops.created(l->arg, &made);
}

static void on_report(struct loop_fd *src, uint32_t events)
{
	struct launch *l = container_of(src, struct launch, src);
	struct enter_report report;
	struct failure f = FAILURE_INIT;
	int fd = -1, r = enter_receive(l->child.sock, &report, &fd);

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
		on_created(l, &report.times);
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

struct clone_arg {
	const struct process *process;
	const struct launch_spec *spec;
	int go;
};

static void child_main(const void *arg, int report)
{
	const struct clone_arg *a = arg;

	launch_main(a->process, a->spec, report, a->go);
}

/* The staged child, or a new one. */
static int get_child(struct launch *l, const struct process *p, const struct launch_spec *spec,
	int go, struct failure *f)
{
	const struct clone_arg arg = { p, spec, go };

	return launch_stage_take(spec->stage, p, spec, go, &l->child) == 0
		       ? 0
		       : launch_child_clone(&l->child, spec->cgroups_path, spec->req->share_ipc,
				 child_main, &arg, f);
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
		(r = launch_group_limit(l->child.group, spec->req->resources)) < 0)
		err_errno(&f->err, -r, "cannot set the limits of the cgroup '%s'",
			spec->cgroups_path);
	if (r < 0)
		return r;
	r = loop_fd_add(p->loop, &l->src, l->child.sock, EPOLLIN, on_report);
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
	launch_child_init(&l->child);
	l->go_fd = -1;
	l->ops = *ops;
	l->arg = arg;
	r = start(l, p, spec, f);
	launch_stage_free(spec->stage);
	if (r < 0) {
		launch_child_kill(&l->child);
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
	launch_child_kill(&l->child);
	launch_free(l);
	return NULL;
}
