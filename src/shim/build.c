/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: lock and folder (sandbox/template.h) -> VM with its memory in the folder's file and
 * two empty disks -> greeted session -> Quiesce -> state saved -> VM ended -> published. Any
 * failure on the way ends the VM and leaves why, so that it is told once and not tried at every
 * start.
 */
#include "shim/build.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "driver/accel.h"
#include "rpc/client.h"
#include "shim/guestnet.h"

#define BUILD_TIME (120 * NSEC_PER_SEC) /* in all; it runs beside others, and niced */

struct template_order {
	const char *root; /* path */
	struct machine machine;
	uint64_t max_bytes; /* of all templates */
	bool wait;	    /* for another that makes the same one; else it is left to that */
};

struct builder {
	struct template_order order;
	struct sandbox_root *root;
	struct loop *loop;
	struct loop_signals signals;
	struct loop_timer timer;
	struct template_build build;
	struct template_info info;
	char *disk_image, *disk_scratch; /* empty ones */
	int net_fd;			 /* the far end of the VM's network: nobody is there */
	struct vm *vm;
	struct io_stream *session;
	struct rpc_channel *agent;
	int64_t deadline;
	bool saved;
	struct err err; /* code 0: none yet */
};

static int parse(int argc, char **argv, struct template_order *o)
{
	int r = 0;

	for (int i = 1; i < argc && r == 0; i++) {
		if (strncmp(argv[i], "--root=", 7) == 0)
			o->root = argv[i] + 7;
		else if (strncmp(argv[i], "--max-bytes=", 12) == 0)
			r = parse_u64(argv[i] + 12, 0, UINT64_MAX, &o->max_bytes);
		else if (strcmp(argv[i], "--wait") == 0)
			o->wait = true;
		else
			r = machine_take_word(&o->machine, argv[i]);
	}
	return r < 0 || !o->root || !o->machine.kernel || !o->machine.memory || !o->machine.cpus
		       ? -EINVAL
		       : 0;
}

/* Steps */

static void fail(struct builder *b, const struct err *err)
{
	if (!b->err.code)
		b->err = *err;
	if (b->vm)
		b->order.machine.driver->kill(b->vm);
	else
		loop_stop(b->loop, 0);
}

static void on_deadline(struct loop_timer *timer)
{
	struct builder *b = container_of(timer, struct builder, timer);
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT, "the VM was not ready to be saved within %d s",
		(int)(BUILD_TIME / NSEC_PER_SEC));
	fail(b, &err);
}

static void on_signal(struct loop_signals *signals, const struct signalfd_siginfo *info)
{
	struct err err = ERR_INIT;

	err_set(&err, EINTR, "its making was stopped by signal %u", info->ssi_signo);
	fail(container_of(signals, struct builder, signals), &err);
}

static void on_exited(struct vm *vm, bool clean, const char *why, void *arg)
{
	struct builder *b = arg;

	if (!b->saved && !b->err.code)
		err_set(&b->err, EIO, "the VM ended: %.400s", why);
	loop_stop(b->loop, 0);
}

static void on_saved(const struct err *err, void *arg)
{
	struct builder *b = arg;

	if (err) {
		fail(b, err);
		return;
	}
	b->saved = true;
	b->order.machine.driver->kill(b->vm);
}

static void on_free_agent(struct loop_timer *timer)
{
	struct builder *b = container_of(timer, struct builder, timer);

	b->agent = rpc_channel_free(b->agent);
	loop_timer_arm(b->loop, &b->timer, b->deadline, on_deadline);
	b->order.machine.driver->save(b->vm, b->build.state_fd, b->deadline, on_saved, b);
}

static void on_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static void on_quiesced(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct builder *b = arg;
	struct err err = ERR_INIT;

	if (status->code != RPC_OK) {
		rpc_status_to_err(status, &err);
		err_wrap(&err, "the agent cannot quiesce");
		fail(b, &err);
		return;
	}
	/* Not from within the channel's own callback. */
	loop_timer_arm(b->loop, &b->timer, clock_monotonic(), on_free_agent);
}

static const struct rpc_call_ops quiesce_ops = { .message = on_answer, .done = on_quiesced };

static int call(struct builder *b, const char *method, const ProtobufCMessage *req,
	const ProtobufCMessageDescriptor *out, const struct rpc_call_ops *ops)
{
	struct rpc_call_opts opts = { .deadline = b->deadline, .retry = RPC_RETRY_NEVER };
	struct rpc_call *call;
	char path[96];
	int r;

	snprintf(path, sizeof(path), "/micropod.agent.v1.Agent/%s", method);
	r = rpc_channel_call(b->agent, path, out, &opts, ops, b, &call);
	if (r < 0)
		return r;
	rpc_call_send(call, req);
	rpc_call_half_close(call);
	rpc_call_start(call);
	return 0;
}

/* What all that go on from it have in common; they change name, clock and MAC address. */
static void on_network(struct rpc_call *c, const struct rpc_status *status, void *arg)
{
	Micropod__Agent__V1__QuiesceRequest req = MICROPOD__AGENT__V1__QUIESCE_REQUEST__INIT;
	Micropod__Agent__V1__RootDisks disks = MICROPOD__AGENT__V1__ROOT_DISKS__INIT;
	struct builder *b = arg;
	struct err err = ERR_INIT;
	int r;

	if (status->code != RPC_OK) {
		rpc_status_to_err(status, &err);
		err_wrap(&err, "cannot set up the guest's network");
		fail(b, &err);
		return;
	}
	disks.image_serial = (char *)MACHINE_IMAGE_SERIAL;
	disks.scratch_serial = (char *)MACHINE_SCRATCH_SERIAL;
	req.container_id = (char *)SANDBOX_CONTAINER_ID;
	req.disks = &disks;
	r = call(b, "Quiesce", &req.base, &micropod__agent__v1__quiesce_response__descriptor,
		&quiesce_ops);
	if (r < 0) {
		err_errno(&err, -r, "cannot talk to the agent");
		fail(b, &err);
	}
}

static const struct rpc_call_ops network_ops = { .message = on_answer, .done = on_network };

static int dial_once(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct builder *b = arg;

	if (!b->session)
		return err_set(err, EPIPE, "the session with the agent is lost");
	*ret_stream = take_ptr(b->session);
	return 0;
}

static void on_session(struct io_stream *stream, const struct err *err, void *arg)
{
	struct builder *b = arg;
	struct rpc_channel_opts channel = { .dial = dial_once, .arg = b, .no_redial = true };
	struct err oom = ERR_INIT;
	const struct sandbox_config alone = { .no_network = !b->order.machine.network };
	struct guestnet net;
	int r;

	if (!stream) {
		fail(b, err);
		return;
	}
	b->session = stream;
	guestnet_init(&net, &alone);
	r = rpc_channel_new(b->loop, &channel, &b->agent);
	if (r == 0)
		r = call(b, "ConfigureNetwork", &net.req.base,
			&micropod__agent__v1__configure_network_response__descriptor, &network_ops);
	if (r < 0) {
		err_errno(&oom, -r, "cannot talk to the agent");
		fail(b, &oom);
	}
}

/* Set up */

/* An empty disk, in the template's folder until the VM has it open. */
static int make_disk(struct builder *b, const char *name, char **ret_path, struct err *err)
{
	auto_close int fd = openat(b->build.dfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	size_t folder = strlen(b->build.ram_path) - strlen("ram");

	if (fd < 0 || ftruncate(fd, DISK_VIRTUAL_SIZE) < 0)
		return err_errno(err, errno, "cannot make an empty disk");
	if (asprintf(ret_path, "%.*s%s", (int)folder, b->build.ram_path, name) < 0) {
		*ret_path = NULL;
		return err_errno(err, ENOMEM, "cannot make an empty disk");
	}
	return 0;
}

static int start_vm(struct builder *b, struct err *err)
{
	const struct machine *m = &b->order.machine;
	const struct vm_events events = { .exited = on_exited, .arg = b };
	struct vm_config c;
	int fds[2] = { -1, -1 }, r = make_disk(b, "image.img", &b->disk_image, err);

	if (r == 0)
		r = make_disk(b, "scratch.img", &b->disk_scratch, err);
	if (r == 0 && m->network && (r = fd_socketpair(fds)) < 0)
		err_errno(err, -r, "cannot make a network");
	if (r < 0)
		return r;
	b->net_fd = fds[0];
	machine_config(m, &c);
	machine_add_disks(&c, b->disk_image, b->disk_scratch);
	c.net_fd = fds[1];
	c.ram = VM_RAM_SHARED;
	c.ram_path = b->build.ram_path;
	r = m->driver->start(b->loop, &c, &events, &b->vm, err);
	safe_close(fds[1]);
	return r;
}

static int set_up(struct builder *b, struct err *err)
{
	sigset_t mask;
	int r = loop_new(&b->loop);

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	if (r == 0)
		r = loop_signals_add(b->loop, &b->signals, &mask, on_signal);
	if (r == 0)
		r = loop_timer_arm(b->loop, &b->timer, b->deadline, on_deadline);
	return r < 0 ? err_errno(err, -r, "cannot set up the event loop") : 0;
}

static void run(struct builder *b)
{
	const struct machine *m = &b->order.machine;
	struct err err = ERR_INIT;
	char *version = NULL;
	int r = m->driver->probe(m->vmm, &version, &err);

	b->info = (struct template_info){ .memory = m->memory,
		.cpus = m->cpus,
		.slots = m->slots,
		.network = m->network,
		.kernel = (char *)m->kernel,
		.vmm = version,
		.accel = (char *)accel_name(m->accel),
		.runtime = (char *)m->runtime };
	if (r == 0)
		r = start_vm(b, &err);
	if (r < 0) {
		b->err = err;
		return;
	}
	m->driver->open_session(b->vm, VM_TRANSPORT_SERIAL, false, b->deadline, on_session, b);
	loop_run(b->loop);
	b->agent = rpc_channel_free(b->agent);
	io_stream_free(b->session);
	m->driver->free(b->vm);
	safe_close(b->net_fd);
	unlinkat(b->build.dfd, "image.img", 0);
	unlinkat(b->build.dfd, "scratch.img", 0);
}

static int finish(struct builder *b, struct err *err)
{
	char key[TEMPLATE_KEY_LEN + 1];

	memcpy(key, b->build.key, sizeof(key));
	if (b->err.code) {
		template_abort(&b->build, b->err.msg);
		*err = b->err;
		return -err->code;
	}
	if (template_publish(&b->build, &b->info, err) < 0)
		return -err->code;
	log_info("template %.12s is ready", key);
	return template_evict(b->root, b->order.max_bytes, key, err);
}

static int build(struct builder *b, struct err *err)
{
	char key[TEMPLATE_KEY_LEN + 1];
	int r = sandbox_root_open(b->order.root, &b->root, err);

	if (r == 0)
		r = machine_key(&b->order.machine, key, err);
	if (r == 0)
		r = template_begin(
			b->root, key, b->order.machine.memory, b->order.wait, &b->build, err);
	if (r == -EEXIST || (r == -EALREADY && !b->order.wait))
		return 0;
	if (r < 0)
		return r;
	b->deadline = deadline_in(BUILD_TIME);
	if (set_up(b, &b->err) == 0)
		run(b);
	r = finish(b, err);
	free(b->info.vmm);
	free(b->disk_image);
	free(b->disk_scratch);
	loop_signals_remove(&b->signals);
	loop_free(b->loop);
	return r;
}

int template_build_main(int argc, char **argv)
{
	struct builder b = { .order = { .max_bytes = TEMPLATE_LIMIT_DEFAULT,
				     .machine.driver = &driver_qemu },
		.net_fd = -1 };
	struct err err = ERR_INIT;
	int r;

	if (parse(argc, argv, &b.order) < 0) {
		fprintf(stderr, "micropod-shim: started by micropod, not by hand\n");
		return 1;
	}
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	log_init("template", 2, LOG_LEVEL_INFO);
	r = build(&b, &err);
	b.root = sandbox_root_free(b.root);
	if (r < 0)
		log_error("no template: %s", err.msg);
	return r < 0;
}
