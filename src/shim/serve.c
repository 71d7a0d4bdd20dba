/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.proto, and the agent's methods passed through. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.desc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "io/addr.h"
#include "oci/signal.h"
#include "rpc/proxy.h"
#include "sandbox.desc.h"
#include "sandbox/events.h"
#include "shim/control.h"

/* Calls to the agent */

struct agent_call {
	struct shim *shim;
	void (*cb)(
		struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status);
	bool answered;
	int64_t started;
};

static void on_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct agent_call *c = arg;
	struct rpc_status ok = RPC_STATUS_OK;

	if (c->answered)
		return;
	c->answered = true;
	c->cb(c->shim, msg, &ok);
}

static void on_answered(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct rpc_status none = { .code = RPC_INTERNAL, .message = "the agent sent no answer" };
	struct agent_call *c = arg;

	log_info("agent id=%llu %s status=%s ms=%.1f", (unsigned long long)rpc_call_id(call),
		rpc_call_path(call), rpc_code_name(status->code),
		(double)(clock_monotonic() - c->started) / 1e6);

	if (!c->answered)
		c->cb(c->shim, NULL, status->code == RPC_OK ? &none : status);
	free(c);
}

static const struct rpc_call_ops agent_call_ops = { .message = on_answer, .done = on_answered };

void shim_agent_call(struct shim *shim, const char *method, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *out, int64_t timeout_ns,
	void (*cb)(
		struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status))
{
	struct rpc_status failed = { .code = RPC_RESOURCE_EXHAUSTED, .message = "out of memory" };
	struct rpc_call_opts opts = { .deadline = deadline_in(timeout_ns),
		.retry = RPC_RETRY_NEVER };
	struct agent_call *c = calloc(1, sizeof(*c));
	struct rpc_call *call;
	char path[96];

	snprintf(path, sizeof(path), "/micropod.agent.v1.Agent/%s", method);
	if (!c || rpc_channel_call(shim->agent, path, out, &opts, &agent_call_ops, c, &call) < 0) {
		free(c);
		cb(shim, NULL, &failed);
		return;
	}
	c->shim = shim;
	c->cb = cb;
	c->started = clock_monotonic();
	rpc_call_send(call, request);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

/* Waiters */

static void answer(struct shim *shim, struct shim_waiter *w)
{
	const struct sandbox_state *st = &shim->box.state;
	Micropod__Sandbox__V1__WaitResponse wait = MICROPOD__SANDBOX__V1__WAIT_RESPONSE__INIT;
	Micropod__Sandbox__V1__StopResponse stop = MICROPOD__SANDBOX__V1__STOP_RESPONSE__INIT;

	if (w->what == SHIM_WAIT_EXIT) {
		wait.exit_code = st->exit_code;
		wait.oom_killed = st->oom_killed;
		wait.error = (char *)st->error;
		rpc_call_reply(w->call, &wait.base);
	} else {
		stop.exit_code = st->exit_code;
		rpc_call_reply(w->call, &stop.base);
	}
}

static void waiter_free(struct shim_waiter *w)
{
	list_remove(&w->link);
	rpc_call_unref(w->call);
	free(w);
}

static void on_answer_sent(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
}

/* The waiter is freed before its call is done. */
static const struct rpc_call_ops answered_ops = { .done = on_answer_sent };

void shim_answer_waiters(struct shim *shim, enum shim_wait what)
{
	struct shim_waiter *w, *tmp;

	list_foreach_safe (w, tmp, &shim->waiters, link) {
		if (w->what != what)
			continue;
		rpc_call_set_ops(w->call, &answered_ops, NULL);
		answer(shim, w);
		waiter_free(w);
	}
}

static void on_waiter_gone(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	waiter_free(arg);
}

static const struct rpc_call_ops waiter_ops = { .done = on_waiter_gone };

static void wait_for(struct shim *shim, struct rpc_call *call, enum shim_wait what)
{
	struct shim_waiter *w = calloc(1, sizeof(*w));

	if (!w) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	w->call = rpc_call_ref(call);
	w->what = what;
	list_add_tail(&shim->waiters, &w->link);
	rpc_call_set_ops(call, &waiter_ops, w);
}

/* Methods */

static void do_wait(struct rpc_call *call, const ProtobufCMessage *req, void *arg)
{
	struct shim *shim = arg;

	wait_for(shim, call, SHIM_WAIT_EXIT);
	if (shim->ending && !shim->remove)
		shim_answer_waiters(shim, SHIM_WAIT_EXIT);
}

static void on_stop_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__StopContainerEvent *ev =
		(const Micropod__Agent__V1__StopContainerEvent *)msg;

	log_info("stop stage=%s", ev->stage);
}

static void on_stop_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct shim *shim = arg;
	char why[LIMIT_ERR_MESSAGE];

	/* On success the container's exit comes by Attach, after its last output. */
	if (status->code == RPC_OK || shim->ending)
		return;
	snprintf(why, sizeof(why),
		"stopped by force: the agent could not stop the container: %.400s",
		status->message);
	shim_lost(shim, why);
}

static const struct rpc_call_ops stop_ops = { .message = on_stop_event, .done = on_stop_done };

void shim_stop_container(struct shim *shim, const char *signal, int64_t grace_ns)
{
	Micropod__Agent__V1__StopContainerRequest req =
		MICROPOD__AGENT__V1__STOP_CONTAINER_REQUEST__INIT;
	struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };
	struct rpc_call *call;

	shim->stopping = true;
	/* One that stands still could not act on the signal. */
	if (shim->box.state.paused) {
		shim_go_on_and_stop(shim, signal, grace_ns);
		return;
	}
	if (!(shim->agent || shim->no_agent) || !shim->started) {
		shim_lost(shim, "stopped before its process had started");
		return;
	}
	if (!shim->exited) {
		shim->box.state.phase = SANDBOX_STOPPING;
		shim_save_state(shim);
	}
	req.container_id = (char *)sandbox_container_id(&shim->box.config);
	/* Of a container that it has not made the agent does not know it. */
	if (!*signal && shim->box.config.stop_signal)
		signal = shim->box.config.stop_signal;
	if (shim->no_agent) {
		shim->backend->stop(shim, signal, grace_ns);
		return;
	}
	req.signal = (char *)signal;
	req.grace_ns = grace_ns;
	if (grace_ns >= 0)
		opts.deadline = deadline_in(grace_ns + SHIM_CALL_DEADLINE);
	if (rpc_channel_call(shim->agent, "/micropod.agent.v1.Agent/StopContainer",
		    &micropod__agent__v1__stop_container_event__descriptor, &opts, &stop_ops, shim,
		    &call) < 0) {
		shim_lost(shim, "out of memory");
		return;
	}
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

static void do_stop(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Micropod__Sandbox__V1__StopRequest *req =
		(const Micropod__Sandbox__V1__StopRequest *)msg;
	struct shim *shim = arg;

	wait_for(shim, call, SHIM_WAIT_GONE);
	shim->no_restart = true;
	if (req->remove)
		shim->remove = true;
	if (shim->restarting)
		shim_restart_cancel(shim);
	if (!shim->ending)
		shim_stop_container(shim, req->signal, req->grace_ns);
}

static void on_kill_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	Micropod__Sandbox__V1__KillResponse resp = MICROPOD__SANDBOX__V1__KILL_RESPONSE__INIT;
	struct rpc_call *ours = arg;

	if (status->code == RPC_OK)
		rpc_call_reply(ours, &resp.base);
	else
		rpc_call_finish(ours, status);
	rpc_call_unref(ours);
}

static void ignore_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static const struct rpc_call_ops kill_ops = { .message = ignore_message, .done = on_kill_done };

static int stop_signal(const struct shim *shim)
{
	int number = SIGTERM;

	if (shim->box.config.stop_signal)
		oci_signal_parse(shim->box.config.stop_signal, &number);
	return number;
}

static void do_kill(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Micropod__Sandbox__V1__KillRequest *req =
		(const Micropod__Sandbox__V1__KillRequest *)msg;
	Micropod__Agent__V1__SignalRequest sig = MICROPOD__AGENT__V1__SIGNAL_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(SHIM_CALL_DEADLINE),
		.retry = RPC_RETRY_NEVER };
	struct shim *shim = arg;
	struct rpc_call *out;
	int number = 0;
	char text[16];

	if (oci_signal_parse(req->signal[0] ? req->signal : "SIGKILL", &number) < 0) {
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "'%s' is no signal", req->signal);
		return;
	}
	if (!(shim->agent || shim->no_agent) || !shim->started || shim->exited) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "sandbox '%s' is not running",
			shim->box.config.name);
		return;
	}
	snprintf(text, sizeof(text), "%d", number);
	sandbox_event(shim->root, &shim->box.config, "kill", "signal", text);
	/* As Docker: who ends it does not want it started again. */
	if (number == SIGKILL || number == stop_signal(shim))
		shim->no_restart = true;
	/* An engine has the agent stand still, too. */
	if (shim->no_agent || (shim->box.state.paused && shim->backend->signal)) {
		shim->backend->signal(shim, number, call);
		return;
	}
	sig.container_id = (char *)sandbox_container_id(&shim->box.config);
	sig.signal = number;
	if (rpc_channel_call(shim->agent, "/micropod.agent.v1.Agent/Signal",
		    &micropod__agent__v1__signal_response__descriptor, &opts, &kill_ops,
		    rpc_call_ref(call), &out) < 0) {
		rpc_call_unref(call);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	rpc_call_send(out, &sig.base);
	rpc_call_half_close(out);
	rpc_call_start(out);
}

static void do_extend(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Micropod__Sandbox__V1__ExtendRequest *req =
		(const Micropod__Sandbox__V1__ExtendRequest *)msg;
	Micropod__Sandbox__V1__ExtendResponse resp = MICROPOD__SANDBOX__V1__EXTEND_RESPONSE__INIT;
	struct shim *shim = arg;

	if (!shim->started || shim->exited || shim->stopping)
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "sandbox '%s' is not running",
			shim->box.config.name);
	else if (req->time_ns > LIMIT_LIFETIME)
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "that is too long");
	else if (shim_extend(shim, req->time_ns, &resp.deadline_ns) < 0)
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' has no limit: it was made without --lifetime and "
			"--idle-timeout",
			shim->box.config.name);
	else
		rpc_call_reply(call, &resp.base);
}

/* The command line of a foreground run is there, and reads along by now. */
static void do_start(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	Micropod__Sandbox__V1__StartResponse out = MICROPOD__SANDBOX__V1__START_RESPONSE__INIT;
	struct shim *shim = arg;

	if (!shim->started || !shim->awaited) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' has been started already", shim->box.config.name);
		return;
	}
	out.pid = shim->pid;
	shim_command_line_is_here(shim);
	rpc_call_reply(call, &out.base);
}

/* Status: answered from what is known, and whether the agent answers just now. */

struct status_call {
	struct shim *shim;
	struct rpc_call *call;
	uint64_t agent_rss;
};

static void answer_status(
	struct shim *shim, struct rpc_call *call, bool connected, uint64_t agent_rss)
{
	Micropod__Sandbox__V1__StatusResponse resp = MICROPOD__SANDBOX__V1__STATUS_RESPONSE__INIT;
	const struct sandbox_state *st = &shim->box.state;

	resp.id = shim->box.config.id;
	resp.state = (char *)sandbox_phase_name(st->phase);
	resp.agent_connected = connected;
	resp.agent_version = shim->agent_version ? shim->agent_version : (char *)"";
	resp.api_generation = shim->api_generation;
	resp.runtime = shim->runtime ? shim->runtime : (char *)"";
	resp.pid = shim->pid;
	resp.kernel = shim->kernel ? shim->kernel : (char *)"";
	resp.shim_version = (char *)MICROPOD_VERSION;
	resp.started_ns = st->started_ns;
	shim->backend->fill_status(shim, &resp);
	resp.notice = shim->notice;
	resp.agent_rss_bytes = agent_rss;
	rpc_call_reply(call, &resp.base);
}

static void on_status_info(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct status_call *c = arg;

	answer_status(c->shim, c->call, status->code == RPC_OK, c->agent_rss);
	rpc_call_unref(c->call);
	free(c);
}

static void on_info(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct status_call *c = arg;

	c->agent_rss = ((const Micropod__Agent__V1__InfoResponse *)msg)->rss_bytes;
}

static const struct rpc_call_ops status_ops = { .message = on_info, .done = on_status_info };

static void do_status(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	Micropod__Agent__V1__InfoRequest req = MICROPOD__AGENT__V1__INFO_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(2 * NSEC_PER_SEC),
		.retry = RPC_RETRY_NEVER };
	struct status_call *c = calloc(1, sizeof(*c));
	struct shim *shim = arg;
	struct rpc_call *info;

	if (!c || !shim->agent ||
		rpc_channel_call(shim->agent, "/micropod.agent.v1.Agent/Info",
			&micropod__agent__v1__info_response__descriptor, &opts, &status_ops, c,
			&info) < 0) {
		free(c);
		answer_status(shim, call, false, 0);
		return;
	}
	c->shim = shim;
	c->call = rpc_call_ref(call);
	rpc_call_send(info, &req.base);
	rpc_call_half_close(info);
	rpc_call_start(info);
}

static void open_join(struct rpc_call *call, void *arg)
{
	struct shim *shim = arg;

	if (shim->join)
		shim->join(call, shim);
	else
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION, "sandbox '%s' is no pod",
			shim->box.config.name);
}

#define METHOD(n, fn, snake)                                                                 \
	{                                                                                    \
		.name = n, .in = &micropod__sandbox__v1__##snake##_request__descriptor,      \
		.out = &micropod__sandbox__v1__##snake##_response__descriptor, .request = fn \
	}

static const struct rpc_method methods[] = {
	METHOD("Status", do_status, status),
	METHOD("Start", do_start, start),
	METHOD("Stop", do_stop, stop),
	METHOD("Kill", do_kill, kill),
	METHOD("Pause", shim_do_pause, pause),
	METHOD("Unpause", shim_do_unpause, unpause),
	METHOD("Update", shim_do_update, update),
	METHOD("Rename", shim_do_rename, rename),
	METHOD("Extend", do_extend, extend),
	METHOD("Wait", do_wait, wait),
	{ .name = "Join",
		.in = &micropod__sandbox__v1__join_request__descriptor,
		.out = &micropod__sandbox__v1__join_response__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = open_join },
};

static const struct rpc_service service = {
	.name = "micropod.sandbox.v1.Sandbox",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};

/* Calls whose readers are waited for when the container has ended. */
static bool reads_output(const char *path)
{
	static const char *const readers[] = { "/Attach", "/GetContainerLogs", "/ExecInContainer" };
	const char *method = strrchr(path, '/');

	for (size_t i = 0; method && i < ARRAY_SIZE(readers); i++)
		if (strcmp(method, readers[i]) == 0)
			return true;
	return false;
}

static bool is_agents(const char *path)
{
	return strncmp(path, "/micropod.agent.v1.Agent/", 25) == 0 ||
	       strncmp(path, "/api.Agent/", 11) == 0;
}

/* Whether somebody who makes this call uses the sandbox; who only looks does not. */
static bool is_use(const char *path)
{
	const char *method = strrchr(path, '/');

	return is_agents(path) && strcmp(method, "/Info") != 0 && strcmp(method, "/Stats") != 0;
}

static bool pass_through(struct rpc_call *call, void *arg)
{
	struct shim *shim = arg;
	const char *path = rpc_call_path(call);

	if (!is_agents(path))
		return false;
	shim->readers += reads_output(path);
	if (is_use(path))
		shim_used(shim);
	if (shim->restarting) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' is restarting: wait until it runs", shim->box.config.name);
		return true;
	}
	if (shim->box.state.paused && shim_needs_going(path)) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' is paused: let it go on first (micropod unpause %s)",
			shim->box.config.name, shim->box.config.name);
		return true;
	}
	if (shim->no_agent) {
		rpc_call_finish_code(call, RPC_FAILED_PRECONDITION,
			"sandbox '%s' has no agent here: %s", shim->box.config.name,
			shim->no_agent);
		return true;
	}
	if (!shim->agent) {
		rpc_call_finish_code(call, RPC_UNAVAILABLE,
			"sandbox '%s': the agent is not connected", shim->box.config.name);
		return true;
	}
	return rpc_proxy_call(call, shim->agent);
}

static void on_call(const struct rpc_call *call, const struct rpc_status *status,
	int64_t duration_ns, void *arg)
{
	log_info("rpc id=%llu %s status=%s ms=%.1f", (unsigned long long)rpc_call_id(call),
		rpc_call_path(call), rpc_code_name(status->code), (double)duration_ns / 1e6);
	if (is_use(rpc_call_path(call)))
		shim_unused(arg);
	if (reads_output(rpc_call_path(call)))
		shim_reader_done(arg);
}

int shim_serve(struct shim *shim, struct err *err)
{
	const struct rpc_descriptors agent_set = { agent_desc, agent_desc_len },
				     sandbox_set = { sandbox_desc, sandbox_desc_len };
	struct rpc_server_opts opts = { .on_call = on_call, .fallback = pass_through, .arg = shim };
	auto_free char *path = sandbox_socket(shim->root, shim->box.config.id), *text = NULL;
	struct addr addr;
	int fd, r;

	if (!path || asprintf(&text, "unix:%s", path) < 0)
		return err_errno(err, ENOMEM, "cannot serve");
	r = addr_parse(text, &addr, err);
	if (r < 0)
		return r;
	fd = addr_listen(&addr, 0600, err);
	if (fd < 0)
		return fd;
	r = rpc_server_new(shim->loop, &opts, &shim->server);
	if (r == 0)
		r = rpc_server_add_service(shim->server, &service, NULL, shim);
	if (r == 0)
		r = rpc_server_add_descriptors(shim->server, &agent_set);
	if (r == 0)
		r = rpc_server_add_descriptors(shim->server, &sandbox_set);
	if (r < 0) {
		safe_close(fd);
		return err_errno(err, -r, "cannot serve");
	}
	r = rpc_server_listen(shim->server, fd);
	return r < 0 ? err_errno(err, -r, "cannot serve on %s", path) : 0;
}
