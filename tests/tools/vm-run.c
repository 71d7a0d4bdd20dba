/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one VM by the driver, for tests: prints a line for whatever happens ("greeted SECONDS",
 * "session LINE", "console LINE", "notice TEXT", "error TEXT", "exited clean|unclean WHY", "pid N")
 * and takes lines on stdin: "!join",
 * "!leave", "!reconnect", "!kill", "!free", "!save FILE" ("saved" when done), "!plug
 * PATH:SERIAL[:ro]"
 * ("plugged"), "!unplug SERIAL DEADLINE" ("unplugged"), "!share TAG PATH[:ro]" ("shared"); all
 * others go to the agent's session.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "driver/accel.h"
#include "driver/driver.h"
#include "driver/ramcopy.h"
#include "driver/virtiofsd.h"
#include "vsock/device.h"

struct run {
	struct loop *loop;
	struct vm *vm;
	struct io_stream *stream;
	struct loop_fd input;
	char in[8192], out[8192], console[512];
	size_t in_len, out_len, console_len;
	int64_t started, deadline;
	enum vm_transport transport;
	int daemon; /* of a shared folder */
	const char *vsock;
	struct vsock_device *device;
	int vsock_fd; /* for the VMM */
};

/* Splits what comes into lines, each printed behind its tag. */
static void print_lines(
	const char *tag, char *buf, size_t size, size_t *len, const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] == '\n') {
			printf("%s %.*s\n", tag, (int)*len, buf);
			*len = 0;
		} else if (data[i] != '\r' && data[i] && *len < size) {
			buf[(*len)++] = data[i];
		}
	}
	fflush(stdout);
}

static void on_console(struct vm *vm, const void *data, size_t len, void *arg)
{
	struct run *run = arg;

	print_lines("console", run->console, sizeof(run->console), &run->console_len, data, len);
}

static void on_notice(struct vm *vm, const char *text, void *arg)
{
	printf("notice %s\n", text);
	fflush(stdout);
}

static void leave(struct run *run)
{
	run->stream = io_stream_free(run->stream);
	run->out_len = 0;
}

static void on_exited(struct vm *vm, bool clean, const char *why, void *arg)
{
	struct run *run = arg;

	printf("exited %s %s\n", clean ? "clean" : "unclean", why);
	leave(run);
	driver_qemu.free(vm);
	run->vm = NULL;
	loop_stop(run->loop, 0);
}

static void on_stream(void *arg, uint32_t events)
{
	struct run *run = arg;
	char buf[4096];
	ssize_t n = io_stream_read(run->stream, buf, sizeof(buf));

	if (n > 0)
		print_lines("session", run->out, sizeof(run->out), &run->out_len, buf, (size_t)n);
	else if (n != -EAGAIN)
		leave(run);
}

static void on_joined(struct io_stream *stream, const struct err *err, void *arg)
{
	struct run *run = arg;

	if (!stream) {
		printf("error %s\n", err->msg);
	} else {
		run->stream = stream;
		stream->on_event = on_stream;
		stream->arg = run;
		io_stream_want(stream, EPOLLIN);
		printf("greeted %.3f\n", (double)(clock_monotonic() - run->started) / 1e9);
	}
	fflush(stdout);
}

static void join(struct run *run, bool again)
{
	leave(run);
	driver_qemu.open_session(
		run->vm, run->transport, again, deadline_in(run->deadline), on_joined, run);
}

static void on_vsock(const struct err *err, void *arg)
{
	printf("%s%s\n", err ? "error " : "vsock is there", err ? err->msg : "");
	fflush(stdout);
}

static void on_no_vsock(struct vsock_device *dev, const char *why, void *arg)
{
	struct run *run = arg;

	run->device = vsock_device_free(dev);
}

static void give_vsock(struct run *run)
{
	const struct vsock_device_events events = { on_no_vsock, run };
	struct vm_vsock vsock = { .path = run->vsock };
	struct err err = ERR_INIT;
	int fds[2];

	if (fd_socketpair(fds) < 0 || vsock_device_new(run->loop, fds[1], run->vsock, 3, &events,
					      &run->device, &err) < 0) {
		printf("error %s\n", err.msg);
		exit(1);
	}
	run->vsock_fd = vsock.fd = fds[0];
	driver_qemu.vsock(run->vm, &vsock, deadline_in(run->deadline), on_vsock, run);
}

static void on_saved(const struct err *err, void *arg)
{
	if (err)
		printf("error %s\n", err->msg);
	else
		printf("saved\n");
	fflush(stdout);
}

static void save(struct run *run, const char *path)
{
	/* Closed with the process. */
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	driver_qemu.save(run->vm, fd, deadline_in(run->deadline), on_saved, run);
}

static void on_plugged(const struct err *err, void *arg)
{
	if (err)
		printf("error %s\n", err->msg);
	else
		printf("%s\n", (const char *)arg);
	fflush(stdout);
}

/* "PATH:SERIAL" or "PATH:SERIAL:ro", cut in place. */
static struct vm_disk parse_disk(char *text)
{
	char *serial = strchr(text, ':'), *mode;

	if (!serial)
		exit(2);
	*serial++ = 0;
	mode = strchr(serial, ':');
	if (mode)
		*mode = 0;
	return (struct vm_disk){ .path = text, .serial = serial, .read_only = mode != NULL };
}

static void unplug(struct run *run, char *words)
{
	char *time = strchr(words, ' ');
	int64_t deadline = run->deadline;

	if (time)
		*time++ = 0;
	if (time && parse_duration(time, &deadline) < 0)
		exit(2);
	driver_qemu.unplug(run->vm, words, deadline_in(deadline), on_plugged, "unplugged");
}

static void plug(struct run *run, char *words)
{
	struct vm_disk disk = parse_disk(words);

	driver_qemu.plug(run->vm, &disk, deadline_in(run->deadline), on_plugged, "plugged");
}

/* "!share TAG FOLDER[:ro]" */
static void share(struct run *run, char *words)
{
	struct virtiofsd_config config = { .run_dir = "/tmp", .log_fd = 2 };
	char *folder = strchr(words, ' '), *ro;
	struct err err = ERR_INIT;
	bool file;
	int pidfd;
	pid_t pid;

	if (!folder)
		exit(2);
	*folder++ = 0;
	ro = strstr(folder, ":ro");
	config.read_only = ro != NULL;
	if (ro)
		*ro = 0;
	config.source = folder;
	/* Until the program's end. */
	if (virtiofsd_start(&config, &pid, &pidfd, &run->daemon, &file, &err) < 0)
		on_plugged(&err, NULL);
	else
		driver_qemu.share(run->vm, words, run->daemon, deadline_in(run->deadline),
			on_plugged, "shared");
}

static void obey(struct run *run, char *line)
{
	struct iovec iov[2] = { { line, strlen(line) }, { (char *)"\n", 1 } };

	if (strncmp(line, "!save ", 6) == 0)
		save(run, line + 6);
	else if (strncmp(line, "!plug ", 6) == 0)
		plug(run, line + 6);
	else if (strncmp(line, "!share ", 7) == 0)
		share(run, line + 7);
	else if (strncmp(line, "!unplug ", 8) == 0)
		unplug(run, line + 8);
	else if (strcmp(line, "!kill") == 0)
		driver_qemu.kill(run->vm);
	else if (strcmp(line, "!join") == 0)
		join(run, false);
	else if (strcmp(line, "!reconnect") == 0)
		join(run, true);
	else if (strcmp(line, "!leave") == 0)
		leave(run);
	else if (strcmp(line, "!free") == 0)
		loop_stop(run->loop, 0);
	else if (!run->stream || io_stream_writev(run->stream, iov, 2) < 0)
		printf("error no session for '%s'\n", line);
	fflush(stdout);
}

static void on_input(struct loop_fd *src, uint32_t events)
{
	struct run *run = container_of(src, struct run, input);
	ssize_t n = read(0, run->in + run->in_len, sizeof(run->in) - 1 - run->in_len);
	char *nl;

	if (n <= 0) {
		loop_fd_remove(src);
		loop_stop(run->loop, 0);
		return;
	}
	run->in_len += (size_t)n;
	run->in[run->in_len] = 0;
	while (run->vm && (nl = strchr(run->in, '\n'))) {
		size_t used = (size_t)(nl - run->in) + 1;

		*nl = 0;
		obey(run, run->in);
		run->in_len -= used;
		memmove(run->in, run->in + used, run->in_len + 1);
	}
}

static void add_disk(struct vm_config *c, char *text)
{
	if (c->n_disks >= LIMIT_DISKS)
		exit(2);
	c->disks[c->n_disks++] = parse_disk(text);
}

/* The memory file's name. */
static int own_ram(struct vm_config *c, const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t before = clock_monotonic();
	struct err err = ERR_INIT;
	int r = fd < 0 ? -errno : ram_new(c->memory, &c->ram_fd, &err);

	if (r == 0)
		r = ram_copy(fd, c->ram_fd, &err);
	c->ram = VM_RAM_OWN;
	printf("copied %.3f\n", (double)(clock_monotonic() - before) / 1e9);
	return r;
}

enum {
	OPT_KERNEL = 256,
	OPT_INITRAMFS,
	OPT_ROOTFS,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_DISK,
	OPT_VMM,
	OPT_ACCEL,
	OPT_NET_FD,
	OPT_CMDLINE,
	OPT_DEADLINE,
	OPT_UNCONFINED,
	OPT_SHARED_RAM,
	OPT_PRIVATE_RAM,
	OPT_OWN_RAM,
	OPT_STATE,
	OPT_SLOTS,
	OPT_VSOCK,
};

static const struct option options[] = {
	{ "kernel", 1, NULL, OPT_KERNEL },
	{ "initramfs", 1, NULL, OPT_INITRAMFS },
	{ "agent-rootfs", 1, NULL, OPT_ROOTFS },
	{ "memory", 1, NULL, OPT_MEMORY },
	{ "cpus", 1, NULL, OPT_CPUS },
	{ "disk", 1, NULL, OPT_DISK },
	{ "vmm", 1, NULL, OPT_VMM },
	{ "accel", 1, NULL, OPT_ACCEL },
	{ "net-fd", 1, NULL, OPT_NET_FD },
	{ "cmdline", 1, NULL, OPT_CMDLINE },
	{ "deadline", 1, NULL, OPT_DEADLINE },
	{ "unconfined", 0, NULL, OPT_UNCONFINED },
	{ "shared-ram", 1, NULL, OPT_SHARED_RAM },
	{ "private-ram", 1, NULL, OPT_PRIVATE_RAM },
	{ "own-ram", 1, NULL, OPT_OWN_RAM },
	{ "state", 1, NULL, OPT_STATE },
	{ "slots", 1, NULL, OPT_SLOTS },
	{ "vsock", 1, NULL, OPT_VSOCK },
	{ 0 },
};

static void parse(int argc, char **argv, struct vm_config *c, struct run *run)
{
	unsigned fd = 0;
	int opt, r = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0 && r == 0) {
		switch (opt) {
		case OPT_KERNEL:
			c->kernel = optarg;
			break;
		case OPT_INITRAMFS:
			c->initramfs = optarg;
			break;
		case OPT_ROOTFS:
			c->agent_rootfs = optarg;
			break;
		case OPT_MEMORY:
			r = parse_size(optarg, &c->memory);
			break;
		case OPT_CPUS:
			r = parse_uint(optarg, 1, 64, &c->cpus);
			break;
		case OPT_DISK:
			add_disk(c, optarg);
			break;
		case OPT_VMM:
			c->vmm = optarg;
			break;
		case OPT_ACCEL:
			r = accel_parse(optarg, &c->accel);
			break;
		case OPT_NET_FD:
			r = parse_uint(optarg, 3, 1024, &fd);
			c->net_fd = (int)fd;
			break;
		case OPT_CMDLINE:
			c->cmdline = optarg;
			break;
		case OPT_DEADLINE:
			r = parse_duration(optarg, &run->deadline);
			break;
		case OPT_UNCONFINED:
			c->confine = false;
			break;
		case OPT_SHARED_RAM:
			c->ram = VM_RAM_SHARED;
			c->ram_path = optarg;
			break;
		case OPT_PRIVATE_RAM:
			c->ram = VM_RAM_PRIVATE;
			c->ram_fd = open(optarg, O_RDONLY | O_CLOEXEC);
			r = c->ram_fd < 0 ? -errno : 0;
			break;
		case OPT_OWN_RAM: /* behind --memory */
			r = own_ram(c, optarg);
			break;
		case OPT_SLOTS:
			r = parse_uint(optarg, 0, 1024, &c->slots);
			break;
		case OPT_VSOCK: /* behind --memory: the guest's ports by this socket */
			run->vsock = optarg;
			c->ram = VM_RAM_OWN;
			c->slots = 1;
			r = ram_new(c->memory, &c->ram_fd, NULL);
			break;
		case OPT_STATE:
			c->state_fd = open(optarg, O_RDONLY | O_CLOEXEC);
			r = c->state_fd < 0 ? -errno : 0;
			break;
		default:
			r = -EINVAL;
		}
	}
	if (r < 0)
		exit(2);
}

int main(int argc, char **argv)
{
	struct vm_config config = { .memory = 256 * MIB,
		.cpus = 1,
		.accel = VM_ACCEL_TCG,
		.net_fd = -1,
		.mac = { 0x52, 0x55, 0x0a, 0x00, 0x02, 0x0f },
		.state_fd = -1,
		.run_dir = "/",
		.confine = true };
	struct run run = { .deadline = 60 * NSEC_PER_SEC };
	struct vm_events events = {
		.console = on_console, .exited = on_exited, .notice = on_notice, .arg = &run
	};
	struct err err = ERR_INIT;
	int r;

	parse(argc, argv, &config, &run);
	config.tsc_khz = accel_tsc_khz();
	if (loop_new(&run.loop) < 0 || loop_fd_add(run.loop, &run.input, 0, EPOLLIN, on_input) < 0)
		return 1;
	run.started = clock_monotonic();
	r = driver_qemu.start(run.loop, &config, &events, &run.vm, &err);
	if (r < 0) {
		printf("error %s\n", err.msg);
		loop_free(run.loop);
		return 1;
	}
	printf("pid %d\n", (int)driver_qemu.pid(run.vm));
	fflush(stdout);
	if (run.vsock)
		give_vsock(&run);
	else
		join(&run, false);
	loop_run(run.loop);
	leave(&run);
	vsock_device_free(run.device);
	driver_qemu.free(run.vm);
	loop_free(run.loop);
	return 0;
}
