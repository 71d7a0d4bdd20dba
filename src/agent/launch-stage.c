/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers that are made before they are asked for. How it works: the child of a stage does what
 * needs no request, tells so, and waits for orders on the socket of its reports.
 *
 * A rehearsal is a container without disks that does nothing, and is run while the real one waits
 * for its disks. Under emulation code that runs for the first time is dear, and the steps between
 * the disks and the program are thousands of lines of the kernel's: the rehearsal has them
 * translated on a CPU that would be idle.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/launch-child.h"
#include "agent/launch-group.h"
#include "agent/launch-internal.h"
#include "base/cleanup.h"
#include "base/fd.h"

/* The child */

void launch_child_init(struct launch_child *c)
{
	*c = (struct launch_child){ .sock = -1,
		.pidfd = -1,
		.group = -1,
		.devices = -1,
		.mnt_fd = -1,
		.cgroup = { .dir = -1, .v2_root = -1 } };
}

void launch_child_deinit(struct launch_child *c)
{
	safe_close(c->sock);
	safe_close(c->pidfd);
	safe_close(c->group);
	safe_close(c->devices);
	safe_close(c->mnt_fd);
	cgroup_close(&c->cgroup);
	launch_child_init(c);
}

void launch_child_kill(const struct launch_child *c)
{
	if (c->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

static pid_t clone_into(int cgroup, bool share_ipc, int *ret_pidfd)
{
	/* The cgroup namespace comes later: made here its root would be our own group. */
	struct clone_args args = { .exit_signal = SIGCHLD,
		.flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWPID |
			 CLONE_NEWUTS | (share_ipc ? 0 : CLONE_NEWIPC),
		.pidfd = (uintptr_t)ret_pidfd,
		.cgroup = (uint64_t)cgroup };
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : pid;
}

int launch_child_clone(struct launch_child *c, const char *cgroups_path, bool share_ipc,
	void (*child_main)(const void *arg, int report), const void *arg, struct failure *f)
{
	auto_close int report = -1;
	int fds[2];

	c->group = launch_group_make(cgroups_path, &f->err);
	if (c->group < 0)
		return c->group;
	c->devices = launch_group_load_devices();
	if (c->devices < 0)
		return failure_set(f, FAILURE_UNKNOWN, -c->devices, "restrict devices", "",
			"cannot load the rules for devices: %s", strerror(-c->devices));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(&f->err, errno, "cannot make a socket");
	c->sock = fds[0];
	report = fds[1];
	c->pid = clone_into(c->group, share_ipc, &c->pidfd);
	if (c->pid == 0) {
		child_main(arg, report);
		_exit(127);
	}
	return c->pid < 0 ? failure_set(f, FAILURE_SPAWN, -c->pid, "fork", "",
				    "cannot fork into new namespaces: %s", strerror(-c->pid))
			  : 0;
}

int launch_child_look(struct launch_child *c)
{
	char path[40];

	if (c->mnt_fd >= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)c->pid);
	c->mnt_fd = open(path, O_RDONLY | O_CLOEXEC);
	return c->mnt_fd < 0 ? -errno : cgroup_open(&c->cgroup, c->pid);
}

/* The stage */

struct launch_stage {
	struct launch_child child;
	struct loop_fd src;
	bool ready; /* it waits for orders */
	char id[LIMIT_ID + 1];
	bool has_disks;
	API(RootDisks) disks; /* strings owned */
	void (*done)(void *arg, const struct failure *f);
	void *arg;
};

struct launch_stage *launch_stage_free(struct launch_stage *s)
{
	if (!s)
		return NULL;
	loop_fd_remove(&s->src);
	launch_child_kill(&s->child);
	launch_child_deinit(&s->child);
	if (s->has_disks) {
		free(s->disks.image_serial);
		free(s->disks.scratch_serial);
	}
	free(s);
	return NULL;
}

/*
 * What can be found out about it, or done for it, beforehand. A container without disks may have
 * its rules for devices now; with the first rules the kernel changes its own code, which is dear.
 */
static int settle(struct launch_stage *s, struct failure *f)
{
	int r = launch_child_look(&s->child);

	if (r == 0 && !s->has_disks)
		r = launch_group_restrict_devices(s->child.group, s->child.devices);
	return r < 0 ? failure_set(f, FAILURE_UNKNOWN, -r, "create", s->id,
			       "cannot watch what is to become container '%s': %s", s->id,
			       strerror(-r))
		     : 0;
}

/* Its first report; after that only an end can come. */
static void on_stage_report(struct loop_fd *src, uint32_t events)
{
	struct launch_stage *s = container_of(src, struct launch_stage, src);
	void (*done)(void *, const struct failure *) = s->done;
	struct enter_report report;
	struct failure f = FAILURE_INIT;
	int fd = -1, r = enter_receive(s->child.sock, &report, &fd);

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
		r = settle(s, &f);
	else if (r == 1 && report.kind == ENTER_REPORT_FAILURE)
		f = report.failure;
	else
		failure_set(&f, FAILURE_SPAWN, EPROTO, "create", s->id,
			"what was to become container '%s' died", s->id);
	done(s->arg, f.err.code ? &f : NULL);
}

static void stage_main(const void *arg, int report)
{
	launch_stage_main(arg, report);
}

static int start_stage(struct launch_stage *s, struct loop *loop,
	const struct launch_stage_spec *spec, struct failure *f)
{
	int r;

	if (spec->disks) {
		s->disks = *spec->disks;
		s->has_disks = true;
		s->disks.image_serial = strdup(spec->disks->image_serial);
		s->disks.scratch_serial = strdup(spec->disks->scratch_serial);
		if (!s->disks.image_serial || !s->disks.scratch_serial)
			return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	}
	r = launch_child_clone(&s->child, spec->cgroups_path, false, stage_main, spec, f);
	if (r < 0)
		return r;
	r = loop_fd_add(loop, &s->src, s->child.sock, EPOLLIN, on_stage_report);
	return r < 0 ? err_errno(&f->err, -r, "cannot watch a socket") : 0;
}

int launch_stage_new(struct loop *loop, const struct launch_stage_spec *spec,
	void (*done)(void *arg, const struct failure *f), void *arg,
	struct launch_stage **ret_stage, struct failure *f)
{
	struct launch_stage *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	launch_child_init(&s->child);
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
	(void)send(s->child.sock, &order, sizeof(order), MSG_NOSIGNAL);
}

static bool same_disks(const struct launch_stage *s, const API(RootDisks) * d)
{
	if (!s->has_disks || !d)
		return s->has_disks == (d != NULL);
	return !*d->image_tag && strcmp(d->image_serial, s->disks.image_serial) == 0 &&
	       strcmp(d->scratch_serial, s->disks.scratch_serial) == 0 &&
	       d->tmpfs_bytes == s->disks.tmpfs_bytes && d->read_only == s->disks.read_only;
}

static bool fits(const struct launch_stage *s, const struct launch_spec *spec)
{
	return s && s->ready && strcmp(s->id, spec->id) == 0 && !spec->req->shm_bytes &&
	       !spec->req->share_ipc && same_disks(s, spec->req->disks) &&
	       protobuf_c_message_get_packed_size(&spec->req->base) <= LIMIT_STAGE_REQUEST;
}

/* Tells the child what it is to be. 0 or -errno: it is not there any more. */
static int order_create(int sock, const int fds[static LAUNCH_ORDER_FDS], const char *hostname,
	const API(CreateContainerRequest) * req)
{
	struct launch_order order = { .kind = LAUNCH_ORDER_CREATE };
	union {
		char buf[CMSG_SPACE(LAUNCH_ORDER_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	size_t len = protobuf_c_message_get_packed_size(&req->base);
	auto_free uint8_t *request = malloc(len + 1);
	struct iovec iov[] = { { &order, sizeof(order) }, { request, len } };
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	if (!request)
		return -ENOMEM;
	snprintf(order.hostname, sizeof(order.hostname), "%s", hostname);
	protobuf_c_message_pack(&req->base, request);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(LAUNCH_ORDER_FDS * sizeof(int));
	memcpy(CMSG_DATA(c), fds, LAUNCH_ORDER_FDS * sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int launch_stage_take(struct launch_stage *s, const struct process *p,
	const struct launch_spec *spec, int go, struct launch_child *ret_child)
{
	const int fds[] = { go, p->io.child[0], p->io.child[1], p->io.child[2] };
	int r = fits(s, spec) ? order_create(s->child.sock, fds, spec->hostname, spec->req)
			      : -ENOENT;

	if (r < 0)
		return r;
	loop_fd_remove(&s->src);
	*ret_child = s->child;
	launch_child_init(&s->child);
	return 0;
}

/* The rehearsal */

void launch_stage_rehearse(struct launch_stage *s)
{
	API(CreateContainerRequest) req = MICROPOD__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	/* Ourselves, as a program that ends at once. */
	char *words[] = { (char *)"/proc/self/exe", (char *)LAUNCH_REHEARSAL_VERB };
	auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC), near = -1, far = -1;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return;
	near = fds[0];
	far = fds[1];
	req.container_id = s->id;
	req.process_args = words;
	req.n_process_args = ARRAY_SIZE(words);
	req.rootfs_path = (char *)LAUNCH_REHEARSAL_ROOT;
	/* Nobody waits for it, and what goes wrong with it is nobody's loss. */
	if (null >= 0 && write(near, "g", 1) == 1)
		(void)order_create(
			s->child.sock, (const int[]){ far, null, null, null }, "rehearsal", &req);
}
