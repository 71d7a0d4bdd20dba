/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the root is put together (agent/launch-root.h), then come the steps that every
 * process of a container takes (agent/enter.h). A child that was made before its container is asked
 * for stops twice on the way: when all is there that needs no request, and when the disks are
 * mounted.
 */
#include "agent/launch-child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/enter.h"
#include "agent/launch-root.h"
#include "agent/reap.h"
#include "agent/sysctls.h"
#include "agent/worker.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define GO_FD	4
#define FREE_FD 5

/* Process */

static int arrange_fds(const struct process *p, int report, int go, struct failure *f)
{
	int from[FREE_FD] = { p->io.child[0], p->io.child[1], p->io.child[2], report, go };

	for (int i = 0; i < FREE_FD; i++) {
		if (from[i] < 0)
			from[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (from[i] >= 0)
			from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64);
		TRY(from[i], "arrange descriptors", "");
	}
	for (int i = 0; i < FREE_FD; i++)
		TRY(dup3(from[i], i, i < ENTER_REPORT_FD ? 0 : O_CLOEXEC), "arrange descriptors",
			"");
	child_close_fds(FREE_FD, NULL, 0);
	return 0;
}

/* Docker makes the folder that a process is to begin in. */
static void make_cwd(const char *cwd)
{
	char path[PATH_MAX];

	for (const char *p = cwd; cwd && (p = strchr(p + 1, '/'));) {
		snprintf(path, sizeof(path), "%.*s", (int)(p - cwd), cwd);
		mkdir(path, 0755);
	}
	/* What cannot be made cannot be entered either, which is told. */
	if (cwd && *cwd)
		mkdir(cwd, 0755);
}

/* The terminal is also the container's console. */
static int bind_console(struct failure *f)
{
	auto_close int fd = open("/dev/console", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);

	TRY(fd, "make", "/dev/console");
	TRY(mount("/proc/self/fd/0", "/dev/console", NULL, MS_BIND, NULL), "bind", "/dev/console");
	return 0;
}

static int join_keyring(const char *id, struct failure *f)
{
	char name[LIMIT_ID + 8];

	snprintf(name, sizeof(name), "_ses.%s", id);
	/* A kernel without keys has none to share. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) < 0 && errno != ENOSYS)
		return launch_failed(f, "join the session keyring", name, errno);
	return 0;
}

/* All that needs no request. */
static int stage(
	const char *id, const char *bundle, uint64_t shm_bytes, bool share_ipc, struct failure *f)
{
	int r = launch_root_stage(bundle, shm_bytes, share_ipc, f);

	if (r < 0)
		return r;
	TRY(setsid(), "start a session", "");
	return join_keyring(id, f);
}

static int become_process(const struct process *p, const struct launch_spec *spec,
	struct exec_settings *s, struct enter_times *times, struct failure *f)
{
	int r = 0;

	/* While the guest's /proc is there. */
	for (size_t i = 0; r == 0 && i < spec->req->n_sysctls; i++)
		r = sysctl_set(spec->req->sysctls[i]->key, spec->req->sysctls[i]->value, &f->err);
	if (r == 0)
		r = launch_root_enter(spec, f);
	if (r < 0)
		return r;
	times->root = clock_monotonic();
	TRY(sethostname(spec->hostname, strlen(spec->hostname)), "set the host name",
		spec->hostname);
	umask(022);
	if (p->io.tty)
		r = enter_terminal(p, f);
	if (r == 0 && p->io.tty)
		r = bind_console(f);
	if (r == 0)
		r = enter_find_user(s, f);
	if (r < 0)
		return r;
	times->user = clock_monotonic();
	if (s->user.uid != 0)
		s->effective = s->permitted = 0;
	make_cwd(s->cwd);
	r = enter_change_folder(s, f);
	if (r == 0)
		r = enter_drop_rights(s, f);
	times->rights = clock_monotonic();
	return r;
}

/* All that is left to do is done: tells so, and waits for the word to go. */
static int run_program(const struct process *p, const struct launch_spec *spec,
	const struct exec_settings *settings, const struct enter_times *times, struct failure *f)
{
	struct enter_report created = { .kind = ENTER_REPORT_CREATED, .times = *times };
	char byte;

	enter_send(&created, -1);
	if (read(GO_FD, &byte, 1) != 1)
		_exit(0); /* nobody wants it any more */
	if (spec->req->pause) {
		/* As execve(2) would: that it is closed says that it runs. */
		close(ENTER_REPORT_FD);
		_exit(reap_pause());
	}
	return enter_execute(p, settings, f);
}

static int mount_disks(const char *id, const API(RootDisks) * d, struct failure *f)
{
	const struct mounts_root_disks disks = bundle_root_disks(d);

	return launch_root_mount_disks(id, &disks, f);
}

_Noreturn void launch_main(
	const struct process *p, const struct launch_spec *spec, int report, int go)
{
	struct enter_report out = { .kind = ENTER_REPORT_FAILURE };
	struct exec_settings own =
		*spec->settings; /* what is changed in it is this process' copy */
	struct enter_times times = { .taken = clock_monotonic() };
	int r;

	child_reset_signals();
	umask(0); /* nodes and folders get the modes they are made with */
	r = arrange_fds(p, report, go, &out.failure);
	/* By the guest's /proc. */
	if (r == 0)
		r = enter_set_limits(&own, &out.failure);
	if (r == 0)
		r = stage(spec->id, spec->bundle, spec->req->shm_bytes, spec->req->share_ipc,
			&out.failure);
	if (r == 0 && spec->req->disks)
		r = mount_disks(spec->id, spec->req->disks, &out.failure);
	times.disks = clock_monotonic();
	if (r == 0)
		r = become_process(p, spec, &own, &times, &out.failure);
	if (r == 0)
		run_program(p, spec, &own, &times, &out.failure);
	enter_send(&out, -1);
	_exit(127);
}

/* Made before it is asked for */

/* What the parent has sent: the fds that came with it, in order, are the caller's. Returns the
 * bytes of the request, 0 when there is no parent any more. */
static size_t receive(
	struct launch_order *order, uint8_t *request, int fds[static LAUNCH_ORDER_FDS])
{
	union {
		char buf[CMSG_SPACE(LAUNCH_ORDER_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[] = { { order, sizeof(*order) }, { request, LIMIT_STAGE_REQUEST } };
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t n = recvmsg(ENTER_REPORT_FD, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	for (size_t i = 0; i < LAUNCH_ORDER_FDS; i++)
		fds[i] = -1;
	if (n < (ssize_t)sizeof(*order))
		_exit(0); /* the agent wants it no more */
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return (size_t)n - sizeof(*order);
}

/* With what it was asked for it goes on as every other. */
static int take_over(const struct launch_stage_spec *staged, const struct launch_order *order,
	const API(CreateContainerRequest) * req, const int *fds, struct enter_times *times,
	struct failure *f)
{
	struct launch_spec spec = {
		.req = req, .id = staged->id, .bundle = staged->bundle, .hostname = order->hostname
	};
	struct process p = { .io = { .tty = req->tty, .child = { fds[1], fds[2], fds[3] } } };
	struct exec_settings own = { 0 };
	int r = launch_settings(req, order->hostname, &own, &f->err);

	if (r == 0)
		r = launch_args(req, &p.args, &f->err);
	if (r < 0)
		return r;
	if (req->window) {
		p.rows = req->window->rows;
		p.columns = req->window->columns;
	}
	r = arrange_fds(&p, ENTER_REPORT_FD, fds[0], f);
	if (r == 0)
		r = enter_set_limits(&own, f);
	if (r == 0)
		r = become_process(&p, &spec, &own, times, f);
	return r < 0 ? r : run_program(&p, &spec, &own, times, f);
}

/* Does not return. */
static void serve_orders(const struct launch_stage_spec *spec, uint8_t *request)
{
	struct enter_report out = { .kind = ENTER_REPORT_FAILURE };
	API(CreateContainerRequest) * req;
	struct enter_times times = { 0 };
	struct launch_order order;
	int fds[LAUNCH_ORDER_FDS], r = 0;
	bool mounted = false;
	size_t len;

	for (;;) {
		len = receive(&order, request, fds);
		times.taken = clock_monotonic();
		if (!mounted && spec->disks) {
			r = mount_disks(spec->id, spec->disks, &out.failure);
			times.disks = clock_monotonic();
		}
		mounted = true;
		if (order.kind == LAUNCH_ORDER_CREATE)
			break;
	}
	req = micropod__agent__v1__create_container_request__unpack(NULL, len, request);
	if (r == 0 && !req)
		r = failure_set(&out.failure, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	if (r == 0)
		take_over(spec, &order, req, fds, &times, &out.failure);
	enter_send(&out, -1);
	_exit(127);
}

_Noreturn void launch_stage_main(const struct launch_stage_spec *spec, int report)
{
	struct enter_report out = { .kind = ENTER_REPORT_FAILURE };
	struct enter_report staged = { .kind = ENTER_REPORT_STAGED };
	const struct process nobody = { .io.child = { -1, -1, -1 } };
	uint8_t *request = malloc(LIMIT_STAGE_REQUEST);
	int r;

	child_reset_signals();
	umask(0);
	r = arrange_fds(&nobody, report, -1, &out.failure);
	if (r == 0 && !request)
		r = failure_set(&out.failure, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	if (r == 0)
		r = stage(spec->id, spec->bundle, 0, false, &out.failure);
	if (r == 0) {
		enter_send(&staged, -1);
		serve_orders(spec, request);
	}
	enter_send(&out, -1);
	_exit(127);
}
