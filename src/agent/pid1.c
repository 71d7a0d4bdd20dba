/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the program may run up to three times before it serves, each time a little further:
 * from the initramfs; from the agent's own disk, if there is one; and from the sealed copy of
 * itself. Each step looks at what is there already.
 */
#include "agent/pid1.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/cgroups.h"
#include "agent/modules.h"
#include "agent/mounts.h"
#include "agent/netif.h"
#include "agent/seal.h"
#include "agent/serial.h"
#include "agent/shutdown.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"

#define DEVICE_WAIT_NS (30 * NSEC_PER_SEC) /* for a disk or port that the host promised */
#define STOP_EXTRA_NS \
	(5 * NSEC_PER_SEC) /* beyond the grace, for what does not end although killed */
#define SIGNAL_GRACE_NS (10 * NSEC_PER_SEC) /* when a signal ends the machine */
#define FILES_MAX	1048576

struct pid1 {
	struct loop *loop;
	struct loop_signals signals;
	struct loop_timer deadline;
	const struct pid1_ops *ops;
	struct cmdline cmdline;
	struct serial *serial;
	void *agent;
	bool ending;
};

/* The time of a step since the kernel's start, with micropod.trace. */
static void trace(const struct pid1 *p, const char *step)
{
	int64_t now = clock_monotonic();

	if (p->cmdline.trace)
		dprintf(2, "micropod-trace %lld.%03lld ms %s\n", (long long)(now / NSEC_PER_MSEC),
			(long long)(now / NSEC_PER_USEC % 1000), step);
}

/* Boot */

static void block_signals(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

/* The kernel opens /dev/console as 0 to 2 only if it finds it in the root. */
static void open_console(void)
{
	int fd;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	do
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
	while (fd >= 0 && fd < 2);
	if (fd > 2)
		close(fd);
}

static void read_cmdline(struct pid1 *p)
{
	auto_free char *text = NULL;
	struct err err = ERR_INIT;
	size_t len;
	int r = fs_read_file(AT_FDCWD, "/proc/cmdline", 64 * KIB, &text, &len);

	if (r < 0)
		shutdown_fatal("cannot read the kernel's command line: %s", strerror(-r));
	if (cmdline_parse(text, len, &p->cmdline) < 0)
		shutdown_fatal("the kernel's command line has a micropod.* key with a value that "
			       "is not known");
	if (p->cmdline.reset)
		shutdown_by_reset();
	if (p->cmdline.disks[0] && mounts_name_disks(p->cmdline.disks, &err) < 0)
		shutdown_fatal("%s", err.msg);
	log_init("agent", 2, p->cmdline.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
}

static void raise_limits(void)
{
	struct rlimit files = { FILES_MAX, FILES_MAX };

	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		log_warning("cannot raise the number of open files: %s", strerror(errno));
}

/* What wakes an idle guest for nothing: each waking costs an emulated one much. A kernel without
 * one of these has nothing to set. */
static void quieten(void)
{
	/* Lockups are seen from outside, and nobody reads the guest's log. */
	fs_set("/proc/sys/kernel/watchdog", "0");
	fs_set("/proc/sys/vm/stat_interval", "10"); /* seconds */
	/* Compaction happens when it is wanted; looking for it in advance is a timer twice a
	 * second. */
	fs_set("/proc/sys/vm/compaction_proactiveness", "0");
}

/* Becomes the agent of the disk that the command line names. */
static _Noreturn void boot_from_disk(const struct pid1 *p, char **argv)
{
	struct err err = ERR_INIT;

	if (modules_load(MODULES_DIR, MODULES_ORDER, &err) < 0 ||
		mounts_enter_disk(p->cmdline.root, deadline_in(DEVICE_WAIT_NS), &err) < 0)
		shutdown_fatal("%s", err.msg);
	trace(p, "agent's disk mounted");
	execv("/sbin/init", argv);
	shutdown_fatal("the agent's disk has no program /sbin/init that can be executed: %s",
		strerror(errno));
}

/* Loading modules beside the rest, in a child on a second CPU, was tried: no quicker under
 * emulation. */
static int prepare_machine(const struct pid1 *p, enum mounts_root root, struct err *err)
{
	struct err module = ERR_INIT;
	int r;

	/* A module that cannot be loaded may be one that nothing here needs: what does need it will
	 * say so. */
	if (modules_load(MODULES_DIR, MODULES_ORDER, &module) < 0)
		log_warning("%s", module.msg);
	if ((p->cmdline.late || p->cmdline.vsock) &&
		modules_load(MODULES_DIR, MODULES_LATE, &module) < 0)
		log_warning("%s", module.msg);
	trace(p, "modules loaded");
	r = root == MOUNTS_ROOT_INITRAMFS ? mounts_leave_initramfs(err) : 0;
	if (r == 0 && root == MOUNTS_ROOT_INITRAMFS)
		mounts_give_back_memory();
	if (r == 0)
		r = mounts_rest(root, err);
	trace(p, "file systems mounted");
	if (r == 0)
		r = cgroups_setup(err);
	trace(p, "cgroups made");
	if (r == 0)
		r = netif_loopback_up(err);
	if (r == 0)
		r = netif_sysctls(err);
	if (r == 0)
		r = netif_hostname("micropod", err);
	trace(p, "loopback up");
	return r;
}

/* The sessions of the serial port */

static int on_session(void *arg, struct io_stream *stream)
{
	struct pid1 *p = arg;

	trace(p, "greeted");
	return p->ops->session(p->agent, stream);
}

static void on_session_end(void *arg)
{
	struct pid1 *p = arg;

	p->ops->session_end(p->agent);
}

/* The end */

static void on_deadline(struct loop_timer *timer)
{
	struct pid1 *p = container_of(timer, struct pid1, deadline);

	log_warning("not everything ended in time: powering off all the same");
	loop_stop(p->loop, 0);
}

void pid1_shutdown(struct pid1 *p, int64_t grace_ns)
{
	int64_t limit;

	if (p->ending)
		return;
	p->ending = true;
	if (__builtin_add_overflow(MAX(grace_ns, 0), STOP_EXTRA_NS, &limit))
		limit = INT64_MAX;
	/* Without a deadline there is no promise to end: then at once. */
	if (loop_timer_arm(p->loop, &p->deadline, deadline_in(limit), on_deadline) < 0)
		loop_stop(p->loop, 0);
	p->ops->stop(p->agent, grace_ns);
}

void pid1_stopped(struct pid1 *p)
{
	loop_stop(p->loop, 0);
}

static void on_signal(struct loop_signals *signals, const struct signalfd_siginfo *info)
{
	struct pid1 *p = container_of(signals, struct pid1, signals);

	log_info("signal %u: shutting down", info->ssi_signo);
	pid1_shutdown(p, SIGNAL_GRACE_NS);
}

static int watch_signals(struct pid1 *p)
{
	sigset_t mask;

	/* With ctrl-alt-del off the kernel sends SIGINT for it; SIGPWR and SIGTERM are other ways
	 * to ask. */
	reboot(RB_DISABLE_CAD);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGPWR);
	return loop_signals_add(p->loop, &p->signals, &mask, on_signal);
}

static void open_serial_port(struct pid1 *p)
{
	const struct serial_ops ops = { .begin = on_session, .end = on_session_end, .arg = p };
	struct err err = ERR_INIT;
	int r, port = serial_open_port("/sys/class/virtio-ports", SERIAL_PORT_NAME,
		       deadline_in(DEVICE_WAIT_NS), &err);

	if (port < 0)
		shutdown_fatal("%s", err.msg);
	r = serial_new(p->loop, port, &ops, &p->serial);
	if (r < 0)
		shutdown_fatal("cannot serve the serial port: %s", strerror(-r));
	trace(p, "serial port open");
}

static void serve(struct pid1 *p)
{
	struct err err = ERR_INIT;
	int r = loop_new(&p->loop);

	if (r == 0)
		r = watch_signals(p);
	if (r < 0)
		shutdown_fatal("cannot make the event loop: %s", strerror(-r));
	if (p->ops->start(p, p->loop, &p->cmdline, &p->agent, &err) < 0)
		shutdown_fatal("%s", err.msg);
	trace(p, "services made");
	if (!p->cmdline.vsock)
		open_serial_port(p);
	else if (p->ops->listen(p->agent, &err) < 0)
		shutdown_fatal("%s", err.msg);
	log_debug("serving");
	r = loop_run(p->loop);
	if (r < 0)
		shutdown_fatal("the event loop failed: %s", strerror(-r));
}

int agent_init_main(int argc, char **argv, const struct pid1_ops *ops)
{
	static struct pid1 pid1;
	struct err err = ERR_INIT;
	enum mounts_root root;

	if (getpid() != 1) {
		dprintf(2, "micropod-agent init: runs as PID 1 of a VM and nowhere else\n");
		return 2;
	}
	block_signals();
	pid1.ops = ops;
	if (mounts_proc(&err) < 0)
		shutdown_fatal("%s", err.msg);
	read_cmdline(&pid1);
	trace(&pid1, "program started");
	root = mounts_which_root();
	if (root == MOUNTS_ROOT_INITRAMFS && pid1.cmdline.root[0]) {
		if (mounts_devices(&err) < 0)
			shutdown_fatal("%s", err.msg);
		boot_from_disk(&pid1, argv);
	}
	if (agent_seal_self(argv, &err) < 0 || mounts_devices(&err) < 0)
		shutdown_fatal("%s", err.msg);
	open_console();
	trace(&pid1, "sealed");
	raise_limits();
	quieten();
	if (prepare_machine(&pid1, root, &err) < 0)
		shutdown_fatal("%s", err.msg);
	serve(&pid1);
	shutdown_power_off();
}
