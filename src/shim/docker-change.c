/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a container that the engine makes: it stands still, agent and all, or has other
 * limits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "shim/control.h"
#include "shim/docker.h"

#define CALL_TIME (60 * NSEC_PER_SEC)

static void on_changed(void *arg, json_t *answer, const struct err *err)
{
	shim_changed(arg, err);
}

static json_t *limits(const struct sandbox_config *c)
{
	json_t *body = json_object();

	if (c->memory)
		json_object_set_new(body, "Memory", json_integer((json_int_t)c->memory));
	if (c->memory_swap)
		json_object_set_new(body, "MemorySwap", json_integer((json_int_t)c->memory_swap));
	if (c->cpu_milli)
		json_object_set_new(
			body, "NanoCpus", json_integer((json_int_t)c->cpu_milli * 1000000));
	if (c->cpu_shares)
		json_object_set_new(body, "CpuShares", json_integer((json_int_t)c->cpu_shares));
	if (c->pids_limit)
		json_object_set_new(body, "PidsLimit", json_integer((json_int_t)c->pids_limit));
	if (c->cpuset)
		json_object_set_new(body, "CpusetCpus", json_string(c->cpuset));
	return body;
}

void docker_change(struct shim *shim, struct shim_change *change)
{
	static const char *const verbs[] = {
		[SHIM_PAUSE] = "pause",
		[SHIM_UNPAUSE] = "unpause",
		[SHIM_UPDATE] = "update",
	};
	struct docker *d = shim->backend_data;
	auto_free char *path = NULL;
	struct engine_request request = {
		.method = "POST", .timeout = CALL_TIME, .done = on_changed, .arg = change
	};
	struct err err = ERR_INIT;

	if (asprintf(&path, "/containers/%s/%s", d->record.container, verbs[change->kind]) < 0)
		path = NULL;
	request.path = path;
	if (change->kind == SHIM_UPDATE)
		request.body = limits(&shim->box.config);
	if (!path || engine_send(d->engine, &request) < 0) {
		err_set(&err, ENOMEM, "out of memory");
		shim_changed(change, &err);
	}
}

int docker_check_limits(const struct shim *shim, struct err *err)
{
	return 0;
}
