/* SPDX-License-Identifier: Apache-2.0 */
/* What can be changed while it runs: standing still, limits, the name. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/events.h"
#include "shim/control.h"

bool shim_needs_going(const char *path)
{
	static const char *const methods[] = { "ExecInContainer", "CreateProcess", "StartProcess",
		"StatFile", "ListFiles", "ReadFile", "WriteFile", "MakeFolder", "MoveFile",
		"RemoveFile", "WatchFiles", "GetTree", "PutTree", "ListPorts" };
	const char *method = strrchr(path, '/');

	for (size_t i = 0; method && i < ARRAY_SIZE(methods); i++)
		if (strcmp(method + 1, methods[i]) == 0)
			return true;
	return false;
}

static void reply(struct rpc_call *call, enum shim_change_kind kind)
{
	Micropod__Sandbox__V1__UnpauseResponse unpause =
		MICROPOD__SANDBOX__V1__UNPAUSE_RESPONSE__INIT;
	Micropod__Sandbox__V1__PauseResponse pause = MICROPOD__SANDBOX__V1__PAUSE_RESPONSE__INIT;
	Micropod__Sandbox__V1__UpdateResponse update = MICROPOD__SANDBOX__V1__UPDATE_RESPONSE__INIT;

	rpc_call_reply(call, kind == SHIM_PAUSE	    ? &pause.base
			     : kind == SHIM_UNPAUSE ? &unpause.base
						    : &update.base);
}

void shim_changed(struct shim_change *change, const struct err *err)
{
	static const char *const actions[] = {
		[SHIM_PAUSE] = "pause",
		[SHIM_UNPAUSE] = "unpause",
		[SHIM_UPDATE] = "update",
	};
	struct shim *shim = change->shim;

	if (!err && !shim->ending) {
		if (change->kind != SHIM_UPDATE)
			shim->box.state.paused = change->kind == SHIM_PAUSE;
		shim_save_state(shim);
		sandbox_event(shim->root, &shim->box.config, actions[change->kind], NULL, NULL);
	}
	if (change->call && err)
		rpc_call_finish_code(change->call, RPC_FAILED_PRECONDITION, "%s", err->msg);
	else if (change->call)
		reply(change->call, change->kind);
	else if (err)
		log_warning("%s", err->msg);
	if (change->call)
		rpc_call_unref(change->call);
	free(change);
	if (!shim->stop_held)
		return;
	/* Whether or not it goes on: what does not is killed after the grace. */
	shim->stop_held = shim->box.state.paused = false;
	if (!shim->ending)
		shim_stop_container(shim, shim->held_signal, shim->held_grace);
}

static void change(struct shim *shim, enum shim_change_kind kind, struct rpc_call *call)
{
	struct shim_change *c = calloc(1, sizeof(*c));

	if (!c) {
		if (call)
			rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	c->shim = shim;
	c->kind = kind;
	c->call = call ? rpc_call_ref(call) : NULL;
	shim->backend->change(shim, c);
}

void shim_go_on_and_stop(struct shim *shim, const char *signal, int64_t grace_ns)
{
	snprintf(shim->held_signal, sizeof(shim->held_signal), "%s", signal);
	shim->held_grace = grace_ns;
	if (shim->stop_held)
		return;
	shim->stop_held = true;
	change(shim, SHIM_UNPAUSE, NULL);
}

/* Whether it runs, and is not on its way out; else the call is answered. */
static bool runs(const struct shim *shim, struct rpc_call *call)
{
	if (shim->started && !shim->exited && !shim->stopping && !shim->restarting)
		return true;
	rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "sandbox '%s' is not running",
		shim->box.config.name);
	return false;
}

void shim_do_pause(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	struct shim *shim = arg;

	if (!runs(shim, call))
		return;
	if (shim->box.state.paused)
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' is paused already", shim->box.config.name);
	else
		change(shim, SHIM_PAUSE, call);
}

void shim_do_unpause(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	struct shim *shim = arg;

	if (!runs(shim, call))
		return;
	if (!shim->box.state.paused)
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "sandbox '%s' is not paused",
			shim->box.config.name);
	else
		change(shim, SHIM_UNPAUSE, call);
}

/* Update */

/* What an update may change. */
struct limits {
	uint64_t memory, cpu_milli, cpu_shares, restart_max;
	int64_t memory_swap, pids_limit;
	char *cpuset, *restart;
};

static struct limits take(const struct sandbox_config *c)
{
	return (struct limits){ c->memory, c->cpu_milli, c->cpu_shares, c->restart_max,
		c->memory_swap, c->pids_limit, c->cpuset, c->restart };
}

static void give(struct sandbox_config *c, const struct limits *l)
{
	c->memory = l->memory;
	c->cpu_milli = l->cpu_milli;
	c->cpu_shares = l->cpu_shares;
	c->restart_max = l->restart_max;
	c->memory_swap = l->memory_swap;
	c->pids_limit = l->pids_limit;
	c->cpuset = l->cpuset;
	c->restart = l->restart;
}

/* Strings that are new are malloc'd. */
static int apply(struct limits *l, const Micropod__Sandbox__V1__UpdateRequest *req)
{
	if (req->memory_bytes)
		l->memory = req->memory_bytes;
	if (req->memory_swap_bytes)
		l->memory_swap = req->memory_swap_bytes;
	if (req->cpu_milli)
		l->cpu_milli = req->cpu_milli;
	if (req->cpu_shares)
		l->cpu_shares = req->cpu_shares;
	if (req->pids)
		l->pids_limit = req->pids;
	if (*req->restart) {
		l->restart_max = req->restart_max;
		l->restart = strcmp(req->restart, "no") == 0 ? NULL : strdup(req->restart);
	}
	if (*req->cpuset)
		l->cpuset = strdup(req->cpuset);
	return (*req->cpuset && !l->cpuset) ||
			       (*req->restart && !l->restart && strcmp(req->restart, "no") != 0)
		       ? -ENOMEM
		       : 0;
}

static void drop_new(const struct limits *l, const struct limits *before)
{
	if (l->cpuset != before->cpuset)
		free(l->cpuset);
	if (l->restart != before->restart)
		free(l->restart);
}

void shim_do_update(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Micropod__Sandbox__V1__UpdateRequest *req =
		(const Micropod__Sandbox__V1__UpdateRequest *)msg;
	struct shim *shim = arg;
	struct sandbox_config *c = &shim->box.config;
	struct limits before = take(c), after = before;
	struct err err = ERR_INIT;
	int r;

	if (!runs(shim, call))
		return;
	r = apply(&after, req);
	if (r < 0)
		err_errno(&err, -r, "cannot change sandbox '%s'", c->name);
	give(c, &after);
	if (r == 0)
		r = shim->backend->check_limits(shim, &err);
	if (r == 0)
		r = sandbox_save_config(shim->root, c, &err);
	if (r < 0) {
		give(c, &before);
		drop_new(&after, &before);
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "%s", err.msg);
		return;
	}
	drop_new(&before, &after);
	change(shim, SHIM_UPDATE, call);
}

void shim_do_rename(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	Micropod__Sandbox__V1__RenameResponse out = MICROPOD__SANDBOX__V1__RENAME_RESPONSE__INIT;
	const Micropod__Sandbox__V1__RenameRequest *req =
		(const Micropod__Sandbox__V1__RenameRequest *)msg;
	struct shim *shim = arg;
	struct err err = ERR_INIT;
	int r = sandbox_rename(shim->root, &shim->box.config, req->name, &err);

	if (r < 0)
		rpc_call_finish_code(call,
			r == -EEXIST ? RPC_ALREADY_EXISTS : RPC_FAILED_PRECONDITION, "%s", err.msg);
	else
		rpc_call_reply(call, &out.base);
}
