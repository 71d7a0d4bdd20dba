/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: four socketpairs join us to QEMU: QMP, the guest's console, the agent's serial
 * port, and (a pipe) QEMU's own complaints. QEMU is confined (confine.h) and finds its files under
 * fixed names and its sockets under fixed numbers, so that its arguments do not depend on the
 * sandbox. When it ends, what its sockets still hold is read first: the SHUTDOWN event tells a
 * power-off from a reset, and the console's last words a panic from a reboot.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/lockdown.h"
#include "base/parse.h"
#include "base/proc.h"
#include "base/trace.h"
#include "driver/accel.h"
#include "driver/confine.h"
#include "driver/console.h"
#include "driver/driver.h"
#include "driver/plug.h"
#include "driver/qemu-layout.h"
#include "driver/qmp.h"
#include "driver/ramguard.h"
#include "driver/session.h"
#include "driver/trim.h"

#define AGENT_VSOCK_PORT 1024
#define LOAD_TIME                                                                       \
	(30 * NSEC_PER_SEC) /* for QEMU to take a command that leads to a running guest \
			     */
#define STATE_NAME "state"  /* of a state file's descriptor, in QMP */
#define NOTICE_INTERVAL \
	(60 * NSEC_PER_SEC) /* of one kind; a guest can cause any number of disk errors */

struct vm {
	struct loop *loop;
	struct vm_events events;
	pid_t pid;
	int pidfd; /* ours; the loop's child source has another */
	struct loop_child child;
	struct qmp *qmp;
	struct loop_fd console_src, stderr_src;
	int console_fd, stderr_fd, agent_fd;
	struct console console;
	char complaints[LIMIT_VMM_STDERR]; /* the end of QEMU's stderr */
	size_t complaints_len;
	struct session *session;
	void (*session_cb)(struct io_stream *stream, const struct err *err, void *arg);
	void *session_arg;
	bool has_vsock;
	unsigned vsock_cid; /* of the kernel's, unless vsock_path is set */
	char *vsock_path;
	char shutdown[32];		/* reason of the SHUTDOWN event */
	char killed[LIMIT_ERR_MESSAGE]; /* why we killed it; empty: we did not */
	int64_t next_notice;
	struct loop_defer no_landlock;
	char serials[LIMIT_DISKS][24];			 /* of its disks, for notices */
	struct ramguard *guard;				 /* NULL: its memory is its own */
	struct plugs *plugs;				 /* NULL: it has no slots */
	struct trim *trim;				 /* NULL: its translated code stays */
	int trim_sock;					 /* ours, until trim has it */
	void (*saved)(const struct err *err, void *arg); /* while it is being saved */
	void *saved_arg;
	struct loop_timer saving;
};

/* ---- what comes out of QEMU ---- */

static void keep_complaints(struct vm *vm, const char *data, size_t len)
{
	size_t keep;

	if (len > sizeof(vm->complaints)) {
		data += len - sizeof(vm->complaints);
		len = sizeof(vm->complaints);
	}
	keep = MIN(vm->complaints_len, sizeof(vm->complaints) - len);
	memmove(vm->complaints, vm->complaints + vm->complaints_len - keep, keep);
	memcpy(vm->complaints + keep, data, len);
	vm->complaints_len = keep + len;
}

/* One read; false when there is nothing more for now. */
static bool read_stderr(struct vm *vm)
{
	char buf[1024];
	ssize_t n = read(vm->stderr_fd, buf, sizeof(buf));

	if (n > 0)
		keep_complaints(vm, buf, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		loop_fd_remove(&vm->stderr_src);
	return n > 0;
}

static bool read_console(struct vm *vm)
{
	char buf[8192];
	ssize_t n = recv(vm->console_fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n > 0) {
		console_feed(&vm->console, buf, (size_t)n);
		if (vm->events.console)
			vm->events.console(vm, buf, (size_t)n, vm->events.arg);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		loop_fd_remove(&vm->console_src);
	}
	return n > 0;
}

static void on_console(struct loop_fd *src, uint32_t events)
{
	read_console(container_of(src, struct vm, console_src));
}

static void on_stderr(struct loop_fd *src, uint32_t events)
{
	read_stderr(container_of(src, struct vm, stderr_src));
}

/* QEMU's name of a disk is "disk" and its number (qemu-args.c). */
static const char *disk_name(const struct vm *vm, const char *node)
{
	unsigned i;

	if (!node)
		return "disk";
	if (strncmp(node, "disk", 4) == 0 && parse_uint(node + 4, 0, LIMIT_DISKS - 1, &i) == 0 &&
		vm->serials[i][0])
		return vm->serials[i];
	return node;
}

static void on_block_error(struct vm *vm, json_t *data)
{
	const char *node = disk_name(vm, json_string_value(json_object_get(data, "node-name")));
	const char *reason = json_string_value(json_object_get(data, "reason"));
	char text[256];

	if (!vm->events.notice || clock_monotonic() < vm->next_notice)
		return;
	vm->next_notice = deadline_in(NOTICE_INTERVAL);
	/* QEMU sets nospace only where it would stop the VM for it; its words are strerror(3)'s. */
	if (json_is_true(json_object_get(data, "nospace")) ||
		(reason && strcmp(reason, strerror(ENOSPC)) == 0))
		snprintf(text, sizeof(text),
			"the host's disk is full: writes fail in the guest (%.20s)", node);
	else
		snprintf(text, sizeof(text),
			"the host cannot read or write a disk of the guest (%.20s: %.100s)", node,
			reason ? reason : "no reason given");
	vm->events.notice(vm, text, vm->events.arg);
}

/* The callback may free the VM. */
static void finish_save(struct vm *vm, const struct err *err)
{
	void (*saved)(const struct err *err, void *arg) = vm->saved;

	vm->saved = NULL;
	loop_timer_disarm(&vm->saving);
	if (saved)
		saved(err, vm->saved_arg);
}

static void on_migration(struct vm *vm, const char *status)
{
	struct err err = ERR_INIT;

	if (!vm->saved || !status)
		return;
	if (strcmp(status, "completed") == 0) {
		finish_save(vm, NULL);
	} else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0) {
		err_set(&err, EIO, "QEMU could not save the VM: is the disk full?");
		finish_save(vm, &err);
	}
}

static void on_event(struct qmp *qmp, const char *name, json_t *data, void *arg)
{
	struct vm *vm = arg;

	if (strcmp(name, "SHUTDOWN") == 0) {
		const char *reason = json_string_value(json_object_get(data, "reason"));

		snprintf(vm->shutdown, sizeof(vm->shutdown), "%s", reason ? reason : "unknown");
	} else if (strcmp(name, "BLOCK_IO_ERROR") == 0) {
		on_block_error(vm, data);
	} else if (strcmp(name, "DEVICE_DELETED") == 0) {
		const char *device = json_string_value(json_object_get(data, "device"));

		/* Each part of a device is told of; the whole has a name. */
		if (vm->plugs && device)
			plugs_deleted(vm->plugs, device);
	} else if (strcmp(name, "MIGRATION") == 0) {
		trace_step("VMM tells of the state");
		on_migration(vm, json_string_value(json_object_get(data, "status")));
	}
}

static void kill_because(struct vm *vm, const char *why)
{
	if (!vm->killed[0])
		snprintf(vm->killed, sizeof(vm->killed), "%s", why);
	syscall(SYS_pidfd_send_signal, vm->pidfd, SIGKILL, NULL, 0);
}

/* An ending QEMU closes QMP just before it ends: then its exit status says why. */
static bool qemu_is_ending(const struct err *err)
{
	return err->code == EPIPE || err->code == ECONNRESET;
}

static void on_qmp_closed(struct qmp *qmp, const struct err *err, void *arg)
{
	/* One that breaks the protocol is broken or in the guest's hands. */
	if (!qemu_is_ending(err))
		kill_because(arg, err->msg);
}

/* ---- its end ---- */

static const char *last_complaint(struct vm *vm)
{
	char *text = vm->complaints, *nl;
	size_t len = MIN(vm->complaints_len, sizeof(vm->complaints) - 1);

	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	text[len] = 0;
	nl = strrchr(text, '\n');
	return nl ? nl + 1 : text;
}

static bool explain(struct vm *vm, int wstatus, char *why, size_t size)
{
	const char *complaint = last_complaint(vm), *colon = *complaint ? ": " : "";

	if (vm->killed[0])
		snprintf(why, size, "%s", vm->killed);
	else if (WIFSIGNALED(wstatus))
		snprintf(why, size, "QEMU was killed by signal %d (%s)%s%.200s", WTERMSIG(wstatus),
			strsignal(WTERMSIG(wstatus)), colon, complaint);
	else if (WEXITSTATUS(wstatus))
		snprintf(why, size, "QEMU ended with status %d%s%.300s", WEXITSTATUS(wstatus),
			colon, complaint);
	else if (vm->console.panic[0])
		snprintf(why, size, "guest panicked: %s", vm->console.panic);
	else if (strcmp(vm->shutdown, "guest-reset") == 0)
		snprintf(why, size, "guest rebooted");
	else if (strcmp(vm->shutdown, "guest-shutdown") == 0)
		snprintf(why, size, "guest powered off");
	else
		snprintf(why, size, "QEMU ended (%s)%s%.200s",
			vm->shutdown[0] ? vm->shutdown : "without a reason", colon, complaint);
	return !vm->killed[0] && !vm->console.panic[0] && wstatus == 0 &&
	       strcmp(vm->shutdown, "guest-shutdown") == 0;
}

/* By a user or the OOM killer, not by what it did. */
static bool killed_from_outside(const struct vm *vm, int wstatus)
{
	return !vm->killed[0] && WIFSIGNALED(wstatus) &&
	       (WTERMSIG(wstatus) == SIGKILL || WTERMSIG(wstatus) == SIGTERM);
}

static void on_exit_status(struct loop_child *child, int wstatus)
{
	struct vm *vm = container_of(child, struct vm, child);
	struct err err = ERR_INIT;
	struct session *session = vm->session;
	char why[LIMIT_ERR_MESSAGE];
	bool clean;

	vm->pid = 0;
	vm->trim = trim_free(vm->trim);
	/* All of what it wrote is in the sockets by now, and their buffers bound it. */
	qmp_drain(vm->qmp);
	while (vm->console_src.loop && read_console(vm))
		;
	while (vm->stderr_src.loop && read_stderr(vm))
		;
	loop_fd_remove(&vm->console_src);
	loop_fd_remove(&vm->stderr_src);
	clean = explain(vm, wstatus, why, sizeof(why));
	if (session) {
		err_set(&err, killed_from_outside(vm, wstatus) ? EINTR : ECONNRESET,
			"the VM ended before the agent answered: %.400s", why);
		session_fail(session, &err);
	}
	if (vm->plugs) {
		err_set(&err, ECONNRESET, "the VM ended: %.400s", why);
		plugs_fail(vm->plugs, &err);
	}
	if (vm->saved) {
		err_set(&err, ECONNRESET, "the VM ended before it was saved: %.400s", why);
		finish_save(vm, &err);
	}
	if (vm->events.exited)
		vm->events.exited(vm, clean, why, vm->events.arg);
}

static void qemu_kill(struct vm *vm)
{
	if (vm->pid)
		kill_because(vm, "the VM was ended by micropod");
}

static pid_t qemu_pid(const struct vm *vm)
{
	return vm->pid;
}

static void qemu_free(struct vm *vm)
{
	if (!vm)
		return;
	vm->session = session_free(vm->session);
	loop_child_remove(&vm->child);
	loop_defer_cancel(&vm->no_landlock);
	if (vm->pid) {
		syscall(SYS_pidfd_send_signal, vm->pidfd, SIGKILL, NULL, 0);
		while (waitpid(vm->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	vm->qmp = qmp_free(vm->qmp);
	vm->plugs = plugs_free(vm->plugs);
	vm->guard = ramguard_free(vm->guard);
	vm->trim = trim_free(vm->trim);
	safe_close(vm->trim_sock);
	loop_timer_disarm(&vm->saving);
	loop_fd_remove(&vm->console_src);
	loop_fd_remove(&vm->stderr_src);
	safe_close(vm->console_fd);
	safe_close(vm->stderr_fd);
	safe_close(vm->agent_fd);
	safe_close(vm->pidfd);
	free(vm->vsock_path);
	free(vm);
}

/* ---- start ---- */

/* The descriptors on QEMU's side, until it has them. */
struct far_ends {
	int qmp, console, agent, complaints, guard, trim;
};

static void close_far_ends(struct far_ends *f)
{
	safe_close(f->qmp);
	safe_close(f->console);
	safe_close(f->agent);
	safe_close(f->complaints);
	safe_close(f->guard);
	safe_close(f->trim);
}

static int socket_pair(int *ret_ours, int *ret_theirs)
{
	int fds[2], r = fd_socketpair(fds);

	if (r == 0) {
		*ret_ours = fds[0];
		*ret_theirs = fds[1];
	}
	return r;
}

static int make_channels(struct vm *vm, struct far_ends *far, int *ret_qmp, struct err *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot make a pipe");
	vm->stderr_fd = fds[0];
	far->complaints = fds[1];
	r = fd_set_nonblock(vm->stderr_fd, true);
	if (r == 0)
		r = socket_pair(ret_qmp, &far->qmp);
	if (r == 0)
		r = socket_pair(&vm->console_fd, &far->console);
	if (r == 0)
		r = socket_pair(&vm->agent_fd, &far->agent);
	if (r == 0)
		r = fd_set_nonblock(vm->console_fd, true);
	return r < 0 ? err_errno(err, -r, "cannot make the sockets to QEMU") : 0;
}

static void pass_fd(struct confine_spec *spec, int from, int to)
{
	spec->fds[spec->n_fds++] = (struct confine_fd){ from, to };
}

/* Orders are whole or not there. */
static bool make_trim(
	struct vm *vm, const struct vm_config *c, const char *program, struct far_ends *far)
{
	int fds[2];

	if (c->accel != VM_ACCEL_TCG || !c->trim_plugin ||
		!trim_loads(c->state_dir, program, c->trim_plugin) ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return false;
	vm->trim_sock = fds[0];
	far->trim = fds[1];
	return true;
}

static int launch(struct vm *vm, const struct vm_config *c, struct far_ends *far, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	struct qemu_layout layout;
	int r = qemu_find_program(c->vmm, &program, err);

	if (r < 0)
		return r;
	r = qemu_layout_make(&layout, c, program, make_trim(vm, c, program, far));
	layout.view.io_uring = qemu_io_uring_works();
	if (r < 0)
		err_errno(err, -r, "cannot lay out the confinement");
	else
		r = qemu_args_build(c, &layout.view, &argv, err);
	if (r == 0) {
		struct confine_spec *spec = &layout.spec;

		spec->argv = strv_items(&argv);
		spec->stderr_fd = far->complaints;
		pass_fd(spec, far->qmp, QEMU_FD_QMP);
		pass_fd(spec, far->console, QEMU_FD_CONSOLE);
		pass_fd(spec, far->agent, QEMU_FD_AGENT);
		if (c->net_fd >= 0)
			pass_fd(spec, c->net_fd, QEMU_FD_NET);
		if (layout.view.trim)
			pass_fd(spec, far->trim, QEMU_FD_TRIM);
		spec->ramguard_sock = far->guard;
		spec->ramguard_own = c->ram == VM_RAM_OWN;
		r = confine_spawn(spec, &vm->pid, &vm->pidfd, err);
	}
	qemu_layout_deinit(&layout);
	return r;
}

static void on_no_landlock(struct loop_defer *defer)
{
	struct vm *vm = container_of(defer, struct vm, no_landlock);

	if (vm->events.notice)
		vm->events.notice(vm,
			"this kernel has no Landlock: QEMU is confined by namespaces and seccomp "
			"alone (boot with "
			"landlock in lsm=, or a kernel from 5.13 on)",
			vm->events.arg);
}

static int watch(struct vm *vm, int qmp_fd, struct err *err)
{
	struct qmp_events events = { .event = on_event, .closed = on_qmp_closed, .arg = vm };
	int r = qmp_new(vm->loop, qmp_fd, &events, &vm->qmp);
	int pidfd;

	if (r == 0)
		r = loop_fd_add(vm->loop, &vm->console_src, vm->console_fd, EPOLLIN, on_console);
	if (r == 0)
		r = loop_fd_add(vm->loop, &vm->stderr_src, vm->stderr_fd, EPOLLIN, on_stderr);
	if (r == 0) {
		pidfd = fcntl(vm->pidfd, F_DUPFD_CLOEXEC, 3);
		r = pidfd < 0
			    ? -errno
			    : loop_child_add(vm->loop, &vm->child, vm->pid, pidfd, on_exit_status);
	}
	/* From the loop: the caller does not have the VM yet. */
	if (r == 0 && !lockdown_landlock_abi())
		loop_defer_queue(vm->loop, &vm->no_landlock, on_no_landlock);
	return r < 0 ? err_errno(err, -r, "cannot watch QEMU") : 0;
}

static int guard_memory(struct vm *vm, int ram_fd, int sock, struct err *err)
{
	int r = ramguard_watch(vm->loop, sock, ram_fd, QEMU_RAM_PATH, &vm->guard);

	return r < 0 ? err_errno(err, -r, "cannot share a memory file with the VM") : 0;
}

/* A command without which there is no running guest: its refusal is the VM's end. */
static void on_load_step(json_t *value, const struct err *err, void *arg)
{
	if (!err)
		trace_step("VMM takes a command");
	else if (!qemu_is_ending(err))
		kill_because(arg, err->msg);
}

static json_t *capabilities(void)
{
	return json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability",
		"x-ignore-shared", "state", 1, "capability", "events", "state", 1);
}

/* All at once, as QEMU takes them one after the other. The state was saved running, so the guest
 * runs as soon as it is loaded. */
static int load_state(struct vm *vm, int state_fd, struct err *err)
{
	int64_t deadline = deadline_in(LOAD_TIME);
	int r = qmp_command(
		vm->qmp, "migrate-set-capabilities", capabilities(), deadline, on_load_step, vm);

	if (r == 0)
		r = qmp_command_fd(vm->qmp, "getfd", json_pack("{s:s}", "fdname", STATE_NAME),
			state_fd, deadline, on_load_step, vm);
	if (r == 0)
		r = qmp_command(vm->qmp, "migrate-incoming",
			json_pack("{s:s}", "uri", "fd:" STATE_NAME), deadline, on_load_step, vm);
	return r < 0 ? err_errno(err, -r, "cannot load the saved state of the VM") : 0;
}

static int qemu_start(struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err)
{
	struct far_ends far = { -1, -1, -1, -1, -1, -1 };
	struct vm *vm = calloc(1, sizeof(*vm));
	auto_close int guard = -1;
	int qmp_fd = -1, r;

	if (!vm)
		return err_errno(err, ENOMEM, "cannot start a VM");
	vm->loop = loop;
	vm->events = *events;
	vm->pidfd = vm->console_fd = vm->stderr_fd = vm->agent_fd = vm->trim_sock = -1;
	for (unsigned i = 0; i < config->n_disks; i++)
		snprintf(vm->serials[i], sizeof(vm->serials[i]), "%s", config->disks[i].serial);
	r = qemu_check_files(config, err);
	if (r == 0)
		r = make_channels(vm, &far, &qmp_fd, err);
	if (r == 0 && qemu_ram_by_descriptor(config) && (r = socket_pair(&guard, &far.guard)) < 0)
		err_errno(err, -r, "cannot make the sockets to QEMU");
	if (r == 0)
		r = launch(vm, config, &far, err);
	close_far_ends(&far);
	/* QEMU is held at the file's opening until the loop runs. */
	if (r == 0 && qemu_ram_by_descriptor(config))
		r = guard_memory(vm, config->ram_fd, guard, err);
	if (r == 0)
		r = watch(vm, take_fd(&qmp_fd), err);
	if (r == 0 && config->slots &&
		(r = plugs_new(loop, vm->qmp, config->slots, &vm->plugs)) < 0)
		err_errno(err, -r, "cannot start a VM");
	if (r == 0 && vm->trim_sock >= 0) {
		r = trim_new(loop, vm->pid, take_fd(&vm->trim_sock), &vm->trim);
		if (r < 0)
			err_errno(err, -r, "cannot watch QEMU");
	}
	if (r == 0 && config->state_fd >= 0)
		r = load_state(vm, config->state_fd, err);
	if (r < 0) {
		safe_close(qmp_fd);
		qemu_free(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

/* ---- sessions ---- */

static void on_session(struct io_stream *stream, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->session = NULL;
	vm->session_cb(stream, err, vm->session_arg);
}

static int join(struct vm *vm, enum vm_transport transport, bool reconnect, int64_t deadline,
	struct err *err)
{
	int r, fd;

	if (!vm->pid)
		return err_set(err, ECONNRESET, "the VM has ended");
	if (vm->session)
		return err_set(err, EBUSY, "the agent is being joined already");
	if (transport == VM_TRANSPORT_VSOCK && !vm->has_vsock)
		return err_set(err, ENODEV, "the VM has no vsock device");
	if (transport == VM_TRANSPORT_VSOCK && vm->vsock_path) {
		r = session_dial_hybrid(vm->loop, vm->vsock_path, AGENT_VSOCK_PORT, deadline,
			on_session, vm, &vm->session);
	} else if (transport == VM_TRANSPORT_VSOCK) {
		r = session_dial_vsock(vm->loop, vm->vsock_cid, AGENT_VSOCK_PORT, deadline,
			on_session, vm, &vm->session);
	} else {
		/* The port outlives its sessions, so each gets a descriptor of its own. */
		fd = fcntl(vm->agent_fd, F_DUPFD_CLOEXEC, 3);
		r = fd < 0 ? -errno
			   : session_greet(vm->loop, fd, reconnect, deadline, on_session, vm,
				     &vm->session);
	}
	return r < 0 ? err_errno(err, -r, "cannot join the agent") : 0;
}

static void qemu_open_session(struct vm *vm, enum vm_transport transport, bool reconnect,
	int64_t deadline, void (*cb)(struct io_stream *stream, const struct err *err, void *arg),
	void *arg)
{
	struct err err = ERR_INIT;

	if (!vm->session) {
		vm->session_cb = cb;
		vm->session_arg = arg;
	}
	if (join(vm, transport, reconnect, deadline, &err) < 0)
		cb(NULL, &err, arg);
}

/* ---- saving ---- */

static void on_save_step(json_t *value, const struct err *err, void *arg)
{
	if (err)
		finish_save(arg, err);
}

static void on_save_deadline(struct loop_timer *timer)
{
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT, "QEMU did not save the VM in time");
	finish_save(container_of(timer, struct vm, saving), &err);
}

static void qemu_save(struct vm *vm, int state_fd, int64_t deadline,
	void (*cb)(const struct err *err, void *arg), void *arg)
{
	struct err err = ERR_INIT;
	int r;

	vm->saved = cb;
	vm->saved_arg = arg;
	r = loop_timer_arm(vm->loop, &vm->saving, deadline, on_save_deadline);
	if (r == 0)
		r = qmp_command(vm->qmp, "migrate-set-capabilities", capabilities(), deadline,
			on_save_step, vm);
	if (r == 0)
		r = qmp_command_fd(vm->qmp, "getfd", json_pack("{s:s}", "fdname", STATE_NAME),
			state_fd, deadline, on_save_step, vm);
	if (r == 0)
		r = qmp_command(vm->qmp, "migrate", json_pack("{s:s}", "uri", "fd:" STATE_NAME),
			deadline, on_save_step, vm);
	if (r < 0) {
		err_errno(&err, -r, "cannot save the VM");
		finish_save(vm, &err);
	}
}

/* ---- devices that come and go ---- */

static int check_slots(const struct vm *vm, struct err *err)
{
	if (!vm->pid)
		return err_set(err, ECONNRESET, "the VM has ended");
	return vm->plugs
		       ? 0
		       : err_set(err, ENOTSUP, "the VM was made without slots for further devices");
}

static void qemu_plug(
	struct vm *vm, const struct vm_disk *disk, int64_t deadline, vm_done cb, void *arg)
{
	struct err err = ERR_INIT;

	if (check_slots(vm, &err) < 0 || plugs_add(vm->plugs, disk, deadline, cb, arg, &err) < 0)
		cb(&err, arg);
}

static void qemu_share(
	struct vm *vm, const char *tag, int daemon, int64_t deadline, vm_done cb, void *arg)
{
	struct err err = ERR_INIT;

	if (check_slots(vm, &err) < 0 ||
		plugs_share(vm->plugs, tag, daemon, deadline, cb, arg, &err) < 0)
		cb(&err, arg);
}

static void qemu_vsock(
	struct vm *vm, const struct vm_vsock *vsock, int64_t deadline, vm_done cb, void *arg)
{
	char *path = vsock->path ? strdup(vsock->path) : NULL;
	struct err err = ERR_INIT;

	if (vsock->path && !path) {
		err_errno(&err, ENOMEM, "cannot plug a vsock device into the VM");
		cb(&err, arg);
		return;
	}
	free(vm->vsock_path);
	vm->vsock_path = path;
	vm->vsock_cid = vsock->cid;
	vm->has_vsock = true;
	if (check_slots(vm, &err) < 0 || plugs_vsock(vm->plugs, vsock, deadline, cb, arg, &err) < 0)
		cb(&err, arg);
}

static void qemu_unplug(struct vm *vm, const char *serial, int64_t deadline, vm_done cb, void *arg)
{
	struct err err = ERR_INIT;

	if (check_slots(vm, &err) < 0 ||
		plugs_remove(vm->plugs, serial, deadline, cb, arg, &err) < 0)
		cb(&err, arg);
}

/* ---- what a saved state depends on ---- */

static int add_file_identity(struct strbuf *out, const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(err, errno, "cannot look at '%s'", path);
	strbuf_addf(out, "file %llu:%llu size %lld changed %lld.%09ld modified %lld.%09ld\n",
		(unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (long long)st.st_size,
		(long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
	return 0;
}

/* Under KVM the guest has seen this very processor, and what the host's kernel makes of it. */
static int add_host_identity(struct strbuf *out, struct err *err)
{
	auto_free char *text = NULL;
	struct utsname uts;
	char *save = NULL;
	int r = fs_read_file(AT_FDCWD, "/proc/cpuinfo", 4 * MIB, &text, NULL);

	if (r < 0 || uname(&uts) < 0)
		return err_errno(err, r < 0 ? -r : errno, "cannot tell which host this is");
	strbuf_addf(out, "host %s %s\n", uts.release, uts.version);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "model name", 10) == 0 || strncmp(line, "microcode", 9) == 0 ||
			strncmp(line, "flags", 5) == 0)
			strbuf_addf(out, "%s\n", line);
		if (strncmp(line, "flags", 5) == 0)
			break; /* of the first processor; the others are like it */
	}
	return 0;
}

static int qemu_identity(const struct vm_config *config, struct strbuf *out, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	struct vm_config c = *config;
	struct qemu_layout layout;
	int r = qemu_find_program(c.vmm, &program, err);

	if (r < 0)
		return r;
	/* Whatever is a sandbox' own, or differs between saving and going on, counts as one thing.
	 */
	c.confine = true;
	c.ram = VM_RAM_SHARED;
	c.ram_path = QEMU_RAM_PATH;
	c.state_fd = -1;
	/* Loaded or not, the state is the same. */
	r = qemu_layout_make(&layout, &c, program, false);
	if (r < 0)
		err_errno(err, -r, "cannot lay out the confinement");
	else
		r = qemu_args_build(&c, &layout.view, &argv, err);
	qemu_layout_deinit(&layout);
	for (size_t i = 0; i < argv.n && r == 0; i++)
		strbuf_addf(out, "%s\n", argv.v[i]);
	if (r == 0)
		r = add_file_identity(out, program, err);
	if (r == 0)
		r = add_file_identity(out, c.kernel, err);
	if (r == 0 && c.initramfs)
		r = add_file_identity(out, c.initramfs, err);
	if (r == 0 && c.agent_rootfs)
		r = add_file_identity(out, c.agent_rootfs, err);
	if (r == 0 && c.accel == VM_ACCEL_KVM)
		r = add_host_identity(out, err);
	if (r == 0 && strbuf_error(out))
		r = err_errno(err, ENOMEM, "cannot tell what a saved state depends on");
	return r;
}

static int qemu_probe(const char *vmm, char **ret_version, struct err *err)
{
	auto_free char *program = NULL, *out = NULL;
	char *version, *end;
	int r = qemu_find_program(vmm, &program, err);

	if (r < 0)
		return r;
	r = proc_run((const char *const[]){ program, "--version", NULL }, 4096, &out, err);
	if (r < 0)
		return err_wrap(err, "cannot ask QEMU for its version");
	version = strstr(out, "version ");
	if (!version)
		return err_set(
			err, EPROTO, "'%s' does not say which version of QEMU it is", program);
	version += strlen("version ");
	end = version + strcspn(version, " \n");
	r = confine_probe(err);
	if (r < 0)
		return r;
	*ret_version = strndup(version, (size_t)(end - version));
	return *ret_version ? 0 : err_errno(err, ENOMEM, "cannot keep QEMU's version");
}

const struct driver driver_qemu = {
	.kind = &vmm_kinds[VMM_QEMU],
	.probe = qemu_probe,
	.identity = qemu_identity,
	.start = qemu_start,
	.open_session = qemu_open_session,
	.save = qemu_save,
	.plug = qemu_plug,
	.share = qemu_share,
	.vsock = qemu_vsock,
	.unplug = qemu_unplug,
	.kill = qemu_kill,
	.pid = qemu_pid,
	.free = qemu_free,
};
