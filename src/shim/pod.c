/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod's side: sandboxes whose containers run in this VM. Each has one call open for as long as
 * it is here, so that nothing is left of one whose shim is killed: the call's end, however it
 * comes, has its container removed and its disks taken out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "shim/vm.h"

#define PLUG_TIME   (30 * NSEC_PER_SEC)
#define SERIAL_SIZE 24

struct guest {
	struct list link; /* in shim->guests */
	struct shim *shim;
	struct rpc_call *call; /* a reference; NULL: it is over */
	struct sandbox box;
	char image[SERIAL_SIZE], scratch[SERIAL_SIZE];
	unsigned plugged, unplugging; /* disks */
	bool asked, plugging, leaving;
	struct guest *before; /* an earlier stay of the same, whose disks are on their way out */
};

static void leave(struct guest *g);
static void plug_next(struct guest *g);

static void guest_free(struct guest *g)
{
	list_remove(&g->link);
	if (g->call)
		rpc_call_unref(g->call);
	sandbox_deinit(&g->box);
	free(g);
}

/* ---- leaving ---- */

/* Nothing of it is left. Who has come back meanwhile waits for that. */
static void gone(struct guest *g)
{
	struct guest *other;

	log_info("sandbox '%s' has left", g->box.config.name);
	list_foreach (other, &g->shim->guests, link) {
		if (other->before != g)
			continue;
		other->before = NULL;
		plug_next(other);
		break;
	}
	guest_free(g);
}

static void on_unplugged(const struct err *err, void *arg)
{
	struct guest *g = arg;

	if (err)
		log_warning("a disk of '%s' does not go: %s", g->box.config.name, err->msg);
	if (--g->unplugging == 0)
		gone(g);
}

/* A guest takes its time to let go of a device (pciehp: five seconds), and nobody has to wait for
 * that: the container is gone. */
static void unplug(struct guest *g)
{
	struct shim *shim = g->shim;

	if (g->call) {
		rpc_call_finish_code(g->call, RPC_OK, "%s", "");
		rpc_call_set_ops(g->call, NULL, NULL);
		rpc_call_unref(take_ptr(g->call));
	}
	g->unplugging = shim->gone ? 0 : g->plugged;
	if (!g->unplugging) {
		gone(g);
		return;
	}
	if (g->plugged > 1)
		shim->driver->unplug(shim->vm, g->scratch, deadline_in(PLUG_TIME), on_unplugged, g);
	shim->driver->unplug(shim->vm, g->image, deadline_in(PLUG_TIME), on_unplugged, g);
}

static void on_deleted(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct guest *g = arg;

	if (status->code != RPC_OK && status->code != RPC_NOT_FOUND)
		log_warning("the container of '%s' cannot be removed: %s", g->box.config.name,
			status->message);
	unplug(g);
}

static void on_delete_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static const struct rpc_call_ops delete_ops = { .message = on_delete_answer, .done = on_deleted };

static void leave(struct guest *g)
{
	Micropod__Agent__V1__DeleteContainerRequest req =
		MICROPOD__AGENT__V1__DELETE_CONTAINER_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(SHIM_CALL_DEADLINE),
		.retry = RPC_RETRY_NEVER };
	struct rpc_call *call;

	if (g->leaving || g->plugging)
		return;
	g->leaving = true;
	g->before = NULL;
	if (!g->plugged || !g->shim->agent || g->shim->gone ||
		rpc_channel_call(g->shim->agent, "/micropod.agent.v1.Agent/DeleteContainer",
			&micropod__agent__v1__delete_container_response__descriptor, &opts,
			&delete_ops, g, &call) < 0) {
		unplug(g);
		return;
	}
	req.container_id = g->box.config.id;
	req.force = true;
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

/* ---- joining ---- */

static void on_plugged(const struct err *err, void *arg)
{
	struct guest *g = arg;

	g->plugging = false;
	if (!err)
		g->plugged++;
	if (err && g->call)
		rpc_call_finish_code(g->call, RPC_INTERNAL,
			"pod '%s' cannot be given a disk of sandbox '%s': %s",
			g->shim->box.config.name, g->box.config.name, err->msg);
	/* The caller may have gone meanwhile. */
	if (err || !g->call)
		leave(g);
	else
		plug_next(g);
}

static void plug_next(struct guest *g)
{
	Micropod__Sandbox__V1__JoinResponse resp = MICROPOD__SANDBOX__V1__JOIN_RESPONSE__INIT;
	auto_free char *scratch = NULL;
	struct vm_disk disk = { .serial = g->image, .read_only = true };

	if (g->plugged == 2) {
		log_info("sandbox '%s' has joined", g->box.config.name);
		resp.image_serial = g->image;
		resp.scratch_serial = g->scratch;
		rpc_call_send(g->call, &resp.base);
		return;
	}
	disk.path = g->box.config.image_disk;
	if (g->plugged) {
		scratch = sandbox_path(g->shim->root, g->box.config.id, "scratch.img");
		disk = (struct vm_disk){ .serial = g->scratch, .path = scratch };
	}
	g->plugging = true;
	g->shim->driver->plug(g->shim->vm, &disk, deadline_in(PLUG_TIME), on_plugged, g);
}

/* Those that have disks here, or are on their way in or out. */
static unsigned count_others(const struct guest *g)
{
	const struct guest *other;
	unsigned n = 0;

	list_foreach (other, &g->shim->guests, link)
		n += other != g && (other->plugged || other->plugging);
	return n;
}

/* What a caller says is checked against what the sandbox' configuration says. */
static void on_request(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Sandbox__V1__JoinRequest *req =
		(const Micropod__Sandbox__V1__JoinRequest *)msg;
	struct guest *g = arg, *other;
	struct shim *shim = g->shim;
	struct err err = ERR_INIT;

	if (g->asked)
		return;
	g->asked = true;
	if (sandbox_load(shim->root, req->id, &g->box, &err) < 0) {
		rpc_call_finish_code(call, RPC_NOT_FOUND, "%s", err.msg);
		return;
	}
	if (!g->box.config.pod || strcmp(g->box.config.pod, shim->box.config.id) != 0) {
		rpc_call_finish_code(call, RPC_PERMISSION_DENIED,
			"sandbox '%s' does not belong to pod '%s'", g->box.config.name,
			shim->box.config.name);
		return;
	}
	if (!shim->started || shim->ending) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "pod '%s' is not running",
			shim->box.config.name);
		return;
	}
	snprintf(g->image, sizeof(g->image), "i-%.*s", ID_SHOWN_LEN, g->box.config.id);
	snprintf(g->scratch, sizeof(g->scratch), "s-%.*s", ID_SHOWN_LEN, g->box.config.id);
	list_foreach (other, &shim->guests, link)
		if (other != g && strcmp(other->image, g->image) == 0)
			g->before = other;
	if (g->before)
		leave(g->before);
	else if (count_others(g) >= LIMIT_POD_MEMBERS)
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED,
			"pod '%s' has %d sandboxes running, and cannot have more",
			shim->box.config.name, LIMIT_POD_MEMBERS);
	else
		plug_next(g);
}

static void on_end(struct rpc_call *call, void *arg)
{
	leave(arg);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct guest *g = arg;

	rpc_call_unref(take_ptr(g->call));
	leave(g);
}

void shim_do_join(struct rpc_call *call, void *arg)
{
	static const struct rpc_call_ops ops = {
		.message = on_request, .end = on_end, .done = on_done
	};
	struct guest *g = calloc(1, sizeof(*g));

	if (!g) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	g->shim = arg;
	list_add_tail(&g->shim->guests, &g->link);
	g->call = rpc_call_ref(call);
	rpc_call_set_ops(call, &ops, g);
}
