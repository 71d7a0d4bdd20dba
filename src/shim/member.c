/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox in a pod: its container runs in the VM of another, whose shim passes our calls on to
 * the agent there. One call to that shim stays open, for as long as our disks are in its VM
 * (pod.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "io/addr.h"
#include "shim/control.h"
#include "shim/vm.h"

#define DIAL_TIME  (5 * NSEC_PER_SEC)
#define LEAVE_TIME (40 * NSEC_PER_SEC)

struct member {
	struct rpc_channel *channel; /* to the pod's shim; the shim's agent while that runs */
	struct rpc_call *join;	     /* NULL: we are not there */
	struct shim *shim;
	struct loop_timer timer;
	bool joined;
};

static struct member *of(const struct shim *shim)
{
	return shim->backend_data;
}

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct shim *shim = arg;
	auto_free char *path = sandbox_socket(shim->root, shim->box.config.pod), *text = NULL;
	struct addr addr;
	int fd, r;

	if (!path || asprintf(&text, "unix:%s", path) < 0) {
		text = NULL;
		return err_errno(err, ENOMEM, "cannot reach the pod");
	}
	r = addr_parse(text, &addr, err);
	if (r < 0)
		return r;
	fd = addr_dial(&addr, deadline_in(DIAL_TIME), err);
	if (fd < 0)
		return err_wrap(err, "the pod's shim does not answer");
	r = io_stream_new_fd(loop, fd, ret_stream);
	return r < 0 ? err_errno(err, -r, "cannot reach the pod") : 0;
}

/* The pod's shim has gone, and with it the VM. */
static void on_disconnect(struct rpc_channel *channel, const char *why, void *arg)
{
	struct shim *shim = arg;
	struct member *m = of(shim);

	m->joined = false;
	if (!shim->gone)
		shim_gone(shim, "the pod's VM", why);
}

static void on_joined(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Sandbox__V1__JoinResponse *resp =
		(const Micropod__Sandbox__V1__JoinResponse *)msg;
	struct shim *shim = arg;

	if (of(shim)->joined || shim->ending)
		return;
	of(shim)->joined = true;
	free(shim->image_serial);
	free(shim->scratch_serial);
	shim->image_serial = strdup(resp->image_serial);
	shim->scratch_serial = strdup(resp->scratch_serial);
	shim->gone = false;
	shim_ask_for_container(shim);
}

static void on_left(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct shim *shim = arg;
	struct member *m = of(shim);
	struct err err = ERR_INIT;
	bool asked = !m->join;

	m->join = NULL;
	loop_timer_disarm(&m->timer);
	if (shim->gone)
		return;
	m->joined = false;
	if (!asked && !shim->ready && !shim->ending) {
		err_set(&err, EIO, "%s", status->message);
		shim_fail(shim, 125, &err);
		return;
	}
	if (asked)
		shim_gone(shim, "the container", "it has left its pod");
	else
		shim_gone(shim, "the pod's VM", status->message);
}

static const struct rpc_call_ops join_ops = { .message = on_joined, .done = on_left };

static void boot(struct shim *shim)
{
	struct rpc_channel_opts opts = {
		.dial = dial, .arg = shim, .no_redial = true, .on_disconnect = on_disconnect
	};
	Micropod__Sandbox__V1__JoinRequest req = MICROPOD__SANDBOX__V1__JOIN_REQUEST__INIT;
	struct rpc_call_opts call_opts = { .retry = RPC_RETRY_NEVER };
	struct member *m = calloc(1, sizeof(*m));
	struct err err = ERR_INIT;
	int r = m ? 0 : -ENOMEM;

	shim->backend_data = m;
	if (r == 0) {
		m->shim = shim;
		r = rpc_channel_new(shim->loop, &opts, &m->channel);
	}
	if (r == 0)
		r = rpc_channel_call(m->channel, "/micropod.sandbox.v1.Sandbox/Join",
			&micropod__sandbox__v1__join_response__descriptor, &call_opts, &join_ops,
			shim, &m->join);
	if (r < 0) {
		err_errno(&err, -r, "cannot reach the pod");
		shim_fail(shim, 125, &err);
		return;
	}
	shim->agent = m->channel;
	shim->driver = &driver_qemu;
	req.id = shim->box.config.id;
	rpc_call_send(m->join, &req.base);
	rpc_call_start(m->join);
}

static bool runs(const struct shim *shim)
{
	return of(shim) && of(shim)->join && !shim->gone;
}

static void on_leave_deadline(struct loop_timer *timer)
{
	struct member *m = container_of(timer, struct member, timer);

	m->joined = false;
	shim_gone(m->shim, "the container", "its pod does not let go of it");
}

/* The pod removes the container and takes the disks out; then the call ends. */
static void kill_it(struct shim *shim)
{
	struct member *m = of(shim);
	struct rpc_call *join = take_ptr(m->join);

	if (!join)
		return;
	loop_timer_arm(shim->loop, &m->timer, deadline_in(LEAVE_TIME), on_leave_deadline);
	rpc_call_half_close(join);
}

static void clean_up(struct shim *shim)
{
	if (of(shim))
		loop_timer_disarm(&of(shim)->timer);
}

/* There is no session of its own that could be made anew: what is lost is the pod. */
static void reconnect(struct shim *shim)
{
	shim_lost(shim, "the pod's VM does not answer");
}

static int check_limits(const struct shim *shim, struct err *err)
{
	return 0;
}

static void fill_status(struct shim *shim, Micropod__Sandbox__V1__StatusResponse *resp)
{
	resp->transport = (char *)"pod";
	resp->vmm = (char *)"";
}

const struct shim_backend shim_member = {
	.boot = boot,
	.shared_machine = true,
	.runs = runs,
	.kill = kill_it,
	.clean_up = clean_up,
	.reconnect = reconnect,
	.fill_status = fill_status,
	.change = shim_change_container,
	.check_limits = check_limits,
};
