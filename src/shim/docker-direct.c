/* SPDX-License-Identifier: Apache-2.0 */
/* Signals to a container without a session to an agent: the engine sends them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "shim/docker.h"

#define CALL_TIME (60 * NSEC_PER_SEC)

static void on_grace(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	shim->backend->kill(shim);
}

static void on_stop_sent(void *arg, json_t *answer, const struct err *err)
{
	/* It may have ended by itself just now; if not, the grace does it. */
	if (err)
		log_warning("cannot stop the container: %s", err->msg);
}

void docker_stop(struct shim *shim, const char *signal, int64_t grace_ns)
{
	struct docker *d = shim->backend_data;
	char after[64];

	snprintf(after, sizeof(after), "/kill?signal=%.32s", *signal ? signal : "SIGTERM");
	docker_ask(d, "POST", "/containers/", after, NULL, CALL_TIME, on_stop_sent);
	if (grace_ns >= 0)
		loop_timer_arm(shim->loop, &shim->timer, deadline_in(grace_ns), on_grace);
}

static void on_signalled(void *arg, json_t *answer, const struct err *err)
{
	Micropod__Sandbox__V1__KillResponse resp = MICROPOD__SANDBOX__V1__KILL_RESPONSE__INIT;
	struct rpc_call *call = arg;

	if (err)
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "%s", err->msg);
	else
		rpc_call_reply(call, &resp.base);
	rpc_call_unref(call);
}

void docker_signal(struct shim *shim, int number, struct rpc_call *call)
{
	struct docker *d = shim->backend_data;
	auto_free char *path = NULL;
	struct engine_request request = { .method = "POST",
		.timeout = CALL_TIME,
		.done = on_signalled,
		.arg = rpc_call_ref(call) };

	if (asprintf(&path, "/containers/%s/kill?signal=%d", d->record.container, number) < 0)
		path = NULL;
	request.path = path;
	if (!path || engine_send(d->engine, &request) < 0) {
		rpc_call_unref(call);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
	}
}
