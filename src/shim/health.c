/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "sandbox/events.h"

/* Docker's, where nothing is said. */
#define INTERVAL       (30 * NSEC_PER_SEC)
#define TIMEOUT	       (30 * NSEC_PER_SEC)
#define START_INTERVAL (5 * NSEC_PER_SEC)
#define RETRIES	       3

struct shim_health {
	struct shim *shim;
	struct loop_timer timer;
	struct rpc_call *call;	/* the check that is under way; a reference */
	int64_t started, began; /* CLOCK_MONOTONIC: the program; CLOCK_REALTIME: the check */
	struct strbuf out;
	bool exited, timed_out;
	int code;
};

static bool is_starting(const struct shim_health *h)
{
	const struct sandbox_config *c = &h->shim->box.config;

	return strcmp(h->shim->box.state.health, "starting") == 0 &&
	       clock_monotonic() - h->started < c->health_start_period_ns;
}

static void on_due(struct loop_timer *timer);

static void arm(struct shim_health *h)
{
	const struct sandbox_config *c = &h->shim->box.config;
	int64_t in = is_starting(h) ? (c->health_start_interval_ns ? c->health_start_interval_ns
								   : START_INTERVAL)
				    : (c->health_interval_ns ? c->health_interval_ns : INTERVAL);

	if (loop_timer_arm(h->shim->loop, &h->timer, deadline_in(in), on_due) < 0)
		log_warning("no health checks any more: out of memory");
}

/* The last few, as inspect shows them: "BEGIN END CODE OUTPUT". */
static void note(struct shim_health *h, int code)
{
	struct strv *log = &h->shim->box.state.health_log;

	if (log->n == LIMIT_HEALTH_LOG) {
		free(log->v[0]);
		memmove(log->v, log->v + 1, (log->n - 1) * sizeof(*log->v));
		log->v[--log->n] = NULL;
	}
	if (strv_addf(log, "%lld %lld %d %s", (long long)h->began, (long long)clock_realtime(),
		    code, h->out.data ? h->out.data : "") < 0)
		log_warning("a health check is not kept: out of memory");
}

static void become(struct shim_health *h, const char *health)
{
	struct sandbox_state *st = &h->shim->box.state;

	if (strcmp(st->health, health) == 0)
		return;
	log_info("health=%s", health);
	snprintf(st->health, sizeof(st->health), "%s", health);
	sandbox_event(h->shim->root, &h->shim->box.config, "health_status", "health", health);
}

static void judge(struct shim_health *h, int code)
{
	const struct sandbox_config *c = &h->shim->box.config;
	struct sandbox_state *st = &h->shim->box.state;
	uint64_t retries = c->health_retries ? c->health_retries : RETRIES;

	note(h, code);
	if (code == 0) {
		st->health_failing = 0;
		become(h, "healthy");
	} else if (!is_starting(h)) {
		st->health_failing++;
		if ((uint64_t)st->health_failing >= retries)
			become(h, "unhealthy");
	}
	shim_save_state(h->shim);
}

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ExecEvent *ev = (const Micropod__Agent__V1__ExecEvent *)msg;
	struct shim_health *h = arg;

	if (ev->kind_case == MICROPOD__AGENT__V1__EXEC_EVENT__KIND_OUTPUT) {
		size_t room = LIMIT_HEALTH_OUTPUT - MIN(h->out.len, (size_t)LIMIT_HEALTH_OUTPUT);
		size_t n = MIN(ev->output->data.len, room);

		/* A text; what is no text is shown as far as its first zero. */
		strbuf_add(&h->out, ev->output->data.data, n);
	} else if (ev->kind_case == MICROPOD__AGENT__V1__EXEC_EVENT__KIND_EXIT) {
		h->exited = true;
		h->code = ev->exit->code;
		h->timed_out = ev->exit->timed_out;
	}
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct shim_health *h = arg;

	rpc_call_unref(h->call);
	h->call = NULL;
	if (h->shim->ending || h->shim->exited)
		return;
	if (h->timed_out)
		strbuf_addf(&h->out, "%sHealth check took too long, and was killed",
			h->out.len ? "\n" : "");
	else if (!h->exited)
		strbuf_addf(&h->out, "%.400s", status->message);
	/* What cannot be run is a failure, too; a lost session is the sandbox', and told as such.
	 */
	if (h->exited || h->shim->agent)
		judge(h, !h->exited || h->timed_out ? -1 : h->code);
	arm(h);
}

static const struct rpc_call_ops check_ops = { .message = on_event, .done = on_done };

/* {"CMD", words...}, {"CMD-SHELL", command} */
static size_t set_args(const struct strv *test, ProtobufCBinaryData *args)
{
	static const char *const shell[] = { "/bin/sh", "-c" };
	size_t n = 0;

	if (strcmp(test->v[0], "CMD-SHELL") == 0)
		for (size_t i = 0; i < ARRAY_SIZE(shell); i++, n++)
			args[n] = (ProtobufCBinaryData){ strlen(shell[i]), (uint8_t *)shell[i] };
	for (size_t i = 1; i < test->n; i++, n++)
		args[n] = (ProtobufCBinaryData){ strlen(test->v[i]), (uint8_t *)test->v[i] };
	return n;
}

static int check(struct shim_health *h)
{
	Micropod__Agent__V1__ExecRequest req = MICROPOD__AGENT__V1__EXEC_REQUEST__INIT;
	Micropod__Agent__V1__ExecStart start = MICROPOD__AGENT__V1__EXEC_START__INIT;
	Micropod__Agent__V1__ProcessSpec process = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	const struct sandbox_config *c = &h->shim->box.config;
	int64_t timeout = c->health_timeout_ns ? c->health_timeout_ns : TIMEOUT;
	auto_free ProtobufCBinaryData *args = calloc(c->health_test.n + 2, sizeof(*args));
	struct rpc_call_opts opts = { .deadline = deadline_in(timeout + SHIM_CALL_DEADLINE),
		.retry = RPC_RETRY_NEVER };
	struct rpc_call *call;

	if (!args || rpc_channel_call(h->shim->agent, "/micropod.agent.v1.Agent/ExecInContainer",
			     &micropod__agent__v1__exec_event__descriptor, &opts, &check_ops, h,
			     &call) < 0)
		return -ENOMEM;
	h->call = rpc_call_ref(call);
	h->began = clock_realtime();
	h->exited = h->timed_out = false;
	strbuf_deinit(&h->out);
	process.args = args;
	process.n_args = set_args(&c->health_test, args);
	process.kill_after_ns = timeout;
	start.container_id = (char *)sandbox_container_id(c);
	start.process = &process;
	req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_START;
	req.start = &start;
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
	return 0;
}

static void on_due(struct loop_timer *timer)
{
	struct shim_health *h = container_of(timer, struct shim_health, timer);

	/* One that stands still is neither well nor ill. */
	if (h->shim->box.state.paused || !h->shim->agent || check(h) < 0)
		arm(h);
}

void shim_health_start(struct shim *shim)
{
	struct sandbox_state *st = &shim->box.state;

	if (!shim->adopt) {
		st->health[0] = 0;
		st->health_failing = 0;
		strv_deinit(&st->health_log);
	}
	if (!shim->box.config.health_test.n || shim->no_agent || shim->health)
		return;
	shim->health = calloc(1, sizeof(*shim->health));
	if (!shim->health) {
		log_warning("no health checks: out of memory");
		return;
	}
	shim->health->shim = shim;
	shim->health->started = clock_monotonic();
	if (!st->health[0])
		snprintf(st->health, sizeof(st->health), "starting");
	arm(shim->health);
}

void shim_health_end(struct shim *shim)
{
	struct shim_health *h = shim->health;

	if (!h)
		return;
	shim->health = NULL;
	loop_timer_disarm(&h->timer);
	if (h->call) {
		rpc_call_set_ops(h->call, NULL, NULL);
		rpc_call_cancel(h->call);
		rpc_call_unref(h->call);
	}
	strbuf_deinit(&h->out);
	free(h);
}
