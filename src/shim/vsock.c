/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session with the agent over vsock: it begins over the serial port, by which the agent is told
 * to listen and the key that callers must show; the device is plugged in meanwhile. The host's
 * kernel serves it where it can, else we do, for the VM and whoever may reach its run folder.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.desc.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/trace.h"
#include "driver/session.h"
#include "shim/vm.h"
#include "vsock/device.h"

#define GUEST_CID    3 /* every guest's: its device has no other on it */
#define KEY_SIZE     32
#define KEY_METADATA "micropod-key-bin"
#define SOCKET_NAME  "vsock.sock"

struct shim_vsock {
	struct vsock_device *device; /* NULL: the kernel's */
	char *path;
	int fd; /* for the VMM; -1 once it has it */
	unsigned cid;
	uint8_t key[KEY_SIZE];
	bool listening, plugged;
	void (*done)(struct shim *shim);
};

static void on_failed(struct vsock_device *dev, const char *why, void *arg)
{
	struct shim *shim = arg;

	shim->vsock->device = vsock_device_free(dev);
	/* The VM's own end says more, and comes next. */
	if (!shim->ending && !shim->gone)
		log_info("vsock: %s", why);
}

static int serve(struct shim *shim, struct shim_vsock *v, struct err *err)
{
	const struct vsock_device_events events = { on_failed, shim };
	int fds[2], r;

	if (asprintf(&v->path, "%s/" SOCKET_NAME, shim->run_dir) < 0) {
		v->path = NULL;
		return err_errno(err, ENOMEM, "cannot serve the vsock device");
	}
	r = fd_socketpair(fds);
	if (r < 0)
		return err_errno(err, -r, "cannot serve the vsock device");
	v->fd = fds[0];
	return vsock_device_new(shim->loop, fds[1], v->path, GUEST_CID, &events, &v->device, err);
}

int shim_start_vsock(struct shim *shim, struct err *err)
{
	struct err none = ERR_INIT;
	struct shim_vsock *v;

	if (!shim->box.config.vsock)
		return 0;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_errno(err, ENOMEM, "cannot serve the vsock device");
	v->fd = -1;
	random_bytes(v->key, sizeof(v->key));
	shim->vsock = v;
	if (session_claim_cid(&v->fd, &v->cid, &none) == 0)
		return 0;
	return serve(shim, v, err);
}

void shim_stop_vsock(struct shim *shim)
{
	struct shim_vsock *v = shim->vsock;

	if (!v)
		return;
	vsock_device_free(v->device);
	safe_close(v->fd);
	free(v->path);
	free(v);
	shim->vsock = NULL;
}

/* ---- joining ---- */

static void ignore_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

/* One that refused the key refuses the next call, too, and that one is looked at. */
static void ignore_end(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
}

/* The first call of the connection: it makes us known to the agent. */
static int show_key(struct shim *shim)
{
	static const struct rpc_call_ops ops = { .message = ignore_answer, .done = ignore_end };
	Micropod__Agent__V1__InfoRequest req = MICROPOD__AGENT__V1__INFO_REQUEST__INIT;
	const struct rpc_call_opts opts = { .deadline = deadline_in(SHIM_CALL_DEADLINE),
		.retry = RPC_RETRY_NEVER };
	struct rpc_call *call;
	int r = rpc_channel_call(shim->agent, "/micropod.agent.v1.Agent/Info",
		&micropod__agent__v1__info_response__descriptor, &opts, &ops, shim, &call);

	if (r < 0)
		return r;
	rpc_call_add_metadata(call, KEY_METADATA, shim->vsock->key, KEY_SIZE);
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
	return 0;
}

int shim_vsock_session(struct shim *shim, struct io_stream *stream)
{
	int r = shim_make_channel(shim, stream);

	return r < 0 || !shim->vsock ? r : show_key(shim);
}

static void on_joined(struct io_stream *stream, const struct err *err, void *arg)
{
	struct shim *shim = arg;
	struct err oom = ERR_INIT;

	if (shim->ending || shim->gone) {
		io_stream_free(stream);
		return;
	}
	if (!stream) {
		shim_fail(shim, 125, err);
		return;
	}
	shim->agent = rpc_channel_free(shim->agent);
	shim->transport = VM_TRANSPORT_VSOCK;
	if (shim_vsock_session(shim, stream) < 0) {
		err_errno(&oom, ENOMEM, "cannot talk to the agent");
		shim_fail(shim, 125, &oom);
		return;
	}
	trace_step("agent joined over vsock");
	shim->vsock->done(shim);
}

static void join(struct shim *shim)
{
	if (!shim->vsock->listening || !shim->vsock->plugged)
		return;
	shim->driver->open_session(
		shim->vm, VM_TRANSPORT_VSOCK, false, shim->start_deadline, on_joined, shim);
}

static void on_plugged(const struct err *err, void *arg)
{
	struct shim *shim = arg;
	struct err why = ERR_INIT;

	/* The VM's end, if it is that, is told by itself. */
	if (shim->ending || shim->gone || !shim->vsock)
		return;
	shim->vsock->fd = safe_close(shim->vsock->fd);
	if (err) {
		why = *err;
		err_wrap(&why, "cannot give the VM a vsock device");
		shim_fail(shim, 125, &why);
		return;
	}
	trace_step("vsock plugged in");
	shim->vsock->plugged = true;
	join(shim);
}

static void on_listening(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	struct err err = ERR_INIT;

	if (shim->ending || shim->lost.code || !shim->vsock)
		return;
	if (!answer) {
		err_set(&err, EIO, "the agent cannot listen on vsock: %.400s", status->message);
		shim_fail(shim, 125, &err);
		return;
	}
	shim->vsock->listening = true;
	join(shim);
}

void shim_join_by_vsock(struct shim *shim, void (*done)(struct shim *shim))
{
	Micropod__Agent__V1__ListenVsockRequest req =
		MICROPOD__AGENT__V1__LISTEN_VSOCK_REQUEST__INIT;
	struct shim_vsock *v = shim->vsock;
	const struct vm_vsock device = { .path = v->path, .fd = v->fd, .cid = v->cid };

	v->done = done;
	req.key.data = v->key;
	req.key.len = sizeof(v->key);
	shim_agent_call(shim, "ListenVsock", &req.base,
		&micropod__agent__v1__listen_vsock_response__descriptor, SHIM_CALL_DEADLINE,
		on_listening);
	shim->driver->vsock(shim->vm, &device,
		MIN(shim->start_deadline, deadline_in(SHIM_CALL_DEADLINE)), on_plugged, shim);
}

const char *shim_vsock_path(const struct shim *shim)
{
	return shim->vsock ? shim->vsock->path : NULL;
}
