/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the cgroup is made and limited first, so that the child is born in it. The parent
 * hears from the child over a socket: a terminal's master, that all is made, or why it is not; end
 * of file is execve(2)'s doing. Between made and execve the child waits for a byte.
 */
#include "agent/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/cgroups.h"
#include "agent/enter.h"
#include "agent/launch-child.h"
#include "agent/settings.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "oci/caps.h"

#define CPU_PERIOD_US 100000

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

/* The cgroup */

static int put(int dir, const char *file, const char *fmt, ...) PRINTF(3, 4);
static int put(int dir, const char *file, const char *fmt, ...)
{
	auto_close int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	char text[128];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fd < 0 || write(fd, text, (size_t)n) < 0 ? -errno : 0;
}

/* Docker's shares (2 to 262144) to cgroup v2's weight (1 to 10000), as runtimes convert them. */
static uint64_t weight_of(uint64_t shares)
{
	shares = MIN(MAX(shares, 2), 262144);
	return 1 + (shares - 2) * 9999 / 262142;
}

static int limit(int dir, const API(Resources) * res)
{
	int r = 0;

	if (res->memory_bytes) {
		r = put(dir, "memory.max", "%llu", (unsigned long long)res->memory_bytes);
		if (r == 0 && res->memory_swap_bytes >= 0)
			r = put(dir, "memory.swap.max", "%llu",
				(unsigned long long)((uint64_t)res->memory_swap_bytes >
								     res->memory_bytes
							     ? (uint64_t)res->memory_swap_bytes -
								       res->memory_bytes
							     : 0));
		/* A kernel without swap has no such limit. */
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && res->cpu_milli)
		r = put(dir, "cpu.max", "%llu %d",
			(unsigned long long)res->cpu_milli * (CPU_PERIOD_US / 1000), CPU_PERIOD_US);
	if (r == 0 && res->cpu_shares)
		r = put(dir, "cpu.weight", "%llu", (unsigned long long)weight_of(res->cpu_shares));
	if (r == 0 && *res->cpuset)
		r = put(dir, "cpuset.cpus", "%s", res->cpuset);
	if (r == 0 && res->pids > 0)
		r = put(dir, "pids.max", "%lld", (long long)res->pids);
	return r;
}

#define INSN(c, d, s, o, i)                                                              \
	(struct bpf_insn)                                                                \
	{                                                                                \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (int)(i) \
	}
#define LOAD_FIELD(reg, field)                          \
	INSN(BPF_LDX | BPF_MEM | BPF_W, reg, BPF_REG_1, \
		offsetof(struct bpf_cgroup_dev_ctx, field), 0)
#define IF_EQUAL(reg, value, skip)     INSN(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, skip, value)
#define IF_NOT_EQUAL(reg, value, skip) INSN(BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, value)
#define RETURN(value)                                              \
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value), \
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/*
 * Docker's device rules: any node may be made; null, zero, full, random, urandom, tty, console,
 * ptmx, terminals and net/tun may be used, nothing else.
 */
static int restrict_devices(int dir)
{
	const struct bpf_insn program[] = {
		LOAD_FIELD(BPF_REG_2, access_type),
		LOAD_FIELD(BPF_REG_3, major),
		LOAD_FIELD(BPF_REG_4, minor),
		/* r5: the access, r2: the type */
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_5, BPF_REG_2, 0, 0),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_5, 0, 0, 16),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff),
		/* Skips lead to one of the two ends. */
		IF_EQUAL(BPF_REG_5, BPF_DEVCG_ACC_MKNOD, 16),
		IF_NOT_EQUAL(BPF_REG_2, BPF_DEVCG_DEV_CHAR, 13),
		IF_EQUAL(BPF_REG_3, 136, 14),
		IF_NOT_EQUAL(BPF_REG_3, 1, 5),
		IF_EQUAL(BPF_REG_4, 3, 12),
		IF_EQUAL(BPF_REG_4, 5, 11),
		IF_EQUAL(BPF_REG_4, 7, 10),
		IF_EQUAL(BPF_REG_4, 8, 9),
		IF_EQUAL(BPF_REG_4, 9, 8),
		IF_NOT_EQUAL(BPF_REG_3, 5, 3),
		IF_EQUAL(BPF_REG_4, 0, 6),
		IF_EQUAL(BPF_REG_4, 1, 5),
		IF_EQUAL(BPF_REG_4, 2, 4),
		IF_NOT_EQUAL(BPF_REG_3, 10, 1),
		IF_EQUAL(BPF_REG_4, 200, 2),
		RETURN(0),
		RETURN(1),
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)program,
		.insn_cnt = ARRAY_SIZE(program),
		.license = (uintptr_t) "" };
	auto_close int prog = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	union bpf_attr attach = { .target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)prog,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI };

	if (prog < 0)
		return -errno;
	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0 ? -errno : 0;
}

/* Returns the group's descriptor, or -errno with err. */
static int make_cgroup(const struct launch_spec *spec, struct err *err)
{
	char path[LIMIT_ID + 64];
	auto_close int dir = -1;
	int r;

	snprintf(path, sizeof(path), CGROUP_ROOT "%s", spec->cgroups_path);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make the cgroup '%s'", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, errno, "cannot open the cgroup '%s'", path);
	r = spec->req->resources ? limit(dir, spec->req->resources) : 0;
	return r < 0 ? err_errno(err, -r, "cannot set the limits of the cgroup '%s'", path)
		     : take_fd(&dir);
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
	int r = restrict_devices(l->cgroup);

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

int launch_start(struct process *p, const struct launch_spec *spec, const struct launch_ops *ops,
	void *arg, struct launch **ret_launch, struct failure *f)
{
	struct launch *l = calloc(1, sizeof(*l));
	auto_close int report = -1, go = -1;
	int fds[2], go_fds[2], r = 0;

	if (!l)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	l->fd = l->go_fd = l->pidfd = l->cgroup = -1;
	l->ops = *ops;
	l->arg = arg;
	l->cgroup = r = make_cgroup(spec, &f->err);
	if (r < 0) {
		f->kind = FAILURE_UNKNOWN;
		launch_free(l);
		return r;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0) {
		l->fd = fds[0];
		report = fds[1];
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go_fds) == 0) {
		l->go_fd = go_fds[0];
		go = go_fds[1];
	}
	r = l->fd < 0 || l->go_fd < 0 ? -errno
				      : loop_fd_add(p->loop, &l->src, l->fd, EPOLLIN, on_report);
	if (r == 0)
		r = loop_timer_arm(p->loop, &l->timer, deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC),
			on_deadline);
	process_watch(p, &l->process, NULL);
	if (r == 0) {
		waiter_hold(p->waiter);
		l->held = true;
		l->pid = clone_child(l->cgroup, &l->pidfd);
		if (l->pid == 0)
			launch_main(p, spec, report, go);
		r = l->pid < 0 ? l->pid : 0;
	}
	if (r < 0) {
		launch_free(l);
		return failure_set(f, FAILURE_SPAWN, -r, "fork", "",
			"cannot fork into new namespaces: %s", strerror(-r));
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
