/* SPDX-License-Identifier: Apache-2.0 */
/* How it works: one call carries everything: the first message says what to run, later ones are
 * input, sizes and signals. */
#include <errno.h>
#include <string.h>

#include "cli/relay.h"

#define EXEC_START_TIME (LIMIT_SPAWN_MS * NSEC_PER_MSEC + 10 * NSEC_PER_SEC)

struct exec {
	struct relay relay;
	struct rpc_call *call;
	bool started, have_exit, oom_killed, timed_out;
	int exit_code;
	struct loop_timer silence; /* until it has started */
};

static struct exec *of(struct relay *relay)
{
	return container_of(relay, struct exec, relay);
}

static void send_request(struct relay *relay, Micropod__Agent__V1__ExecRequest *req)
{
	if (of(relay)->call)
		rpc_call_send(of(relay)->call, &req->base);
}

static bool can_send(struct relay *relay)
{
	return of(relay)->call && rpc_call_writable(of(relay)->call);
}

static void send_input(struct relay *relay, const void *data, size_t len)
{
	Micropod__Agent__V1__ExecRequest req = MICROPOD__AGENT__V1__EXEC_REQUEST__INIT;

	if (data) {
		req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_STDIN;
		req.stdin.data = (uint8_t *)data;
		req.stdin.len = len;
	} else {
		req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_CLOSE_STDIN;
		req.close_stdin = true;
	}
	send_request(relay, &req);
}

static void resize(struct relay *relay, uint32_t rows, uint32_t columns)
{
	Micropod__Agent__V1__ExecRequest req = MICROPOD__AGENT__V1__EXEC_REQUEST__INIT;
	Micropod__Agent__V1__WindowSize window = MICROPOD__AGENT__V1__WINDOW_SIZE__INIT;

	window.rows = rows;
	window.columns = columns;
	req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_RESIZE;
	req.resize = &window;
	send_request(relay, &req);
}

static void send_signal(struct relay *relay, int sig)
{
	Micropod__Agent__V1__ExecRequest req = MICROPOD__AGENT__V1__EXEC_REQUEST__INIT;

	req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_SIGNAL;
	req.signal = sig;
	send_request(relay, &req);
}

static const struct relay_kind exec_kind = {
	.can_send = can_send, .send = send_input, .resize = resize, .signal = send_signal
};

/* The agent has a deadline of its own for a start: it is not there, or has no time at all. */
static void on_silence(struct loop_timer *timer)
{
	struct exec *e = container_of(timer, struct exec, silence);
	const char *name = e->relay.client->name;
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT,
		"sandbox '%s': the agent does not answer: stop it (micropod stop %s) or remove it "
		"(micropod rm -f %s)",
		name, name, name);
	relay_fail(&e->relay, EXIT_MICROPOD, &err);
}

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ExecEvent *ev = (const Micropod__Agent__V1__ExecEvent *)msg;
	struct exec *e = arg;
	struct err err = ERR_INIT;

	switch (ev->kind_case) {
	case MICROPOD__AGENT__V1__EXEC_EVENT__KIND_STARTED:
		if (!e->started && relay_go(&e->relay, &err) < 0)
			relay_fail(&e->relay, EXIT_MICROPOD, &err);
		e->started = true;
		loop_timer_disarm(&e->silence);
		break;
	case MICROPOD__AGENT__V1__EXEC_EVENT__KIND_OUTPUT:
		relay_output(&e->relay, ev->output, call);
		break;
	case MICROPOD__AGENT__V1__EXEC_EVENT__KIND_EXIT:
		e->have_exit = true;
		e->exit_code = ev->exit->code;
		e->oom_killed = ev->exit->oom_killed;
		e->timed_out = ev->exit->timed_out;
		break;
	default:
		break; /* of a newer agent */
	}
}

static void on_writable(struct rpc_call *call, void *arg)
{
	struct exec *e = arg;

	relay_input_changed(&e->relay);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct exec *e = arg;
	struct err err = ERR_INIT;
	int code;

	e->call = NULL;
	loop_timer_disarm(&e->silence);
	if (e->oom_killed) {
		err_set(&err, ENOMEM,
			"sandbox '%s': the command was killed by the guest's OOM killer: its "
			"memory is too small, raise -m",
			e->relay.client->name);
		relay_fail(&e->relay, e->exit_code, &err);
		return;
	}
	if (e->timed_out) {
		err_set(&err, ETIMEDOUT,
			"sandbox '%s': the command was killed: it took longer than --timeout says",
			e->relay.client->name);
		relay_fail(&e->relay, EXIT_TIMEOUT, &err);
		return;
	}
	if (e->have_exit) {
		relay_finish(&e->relay, e->exit_code);
		return;
	}
	code = client_failure(status, e->relay.client->name, &err);
	if (status->code == RPC_OK)
		err_set(&err, EPROTO, "sandbox '%s': the agent did not say how the command ended",
			e->relay.client->name);
	relay_fail(&e->relay, code, &err);
}

static const struct rpc_call_ops exec_ops = {
	.message = on_event, .writable = on_writable, .done = on_done
};

int relay_exec(struct client *client, Micropod__Agent__V1__ExecStart *start,
	const struct detach_keys *keys, struct err *err)
{
	Micropod__Agent__V1__ExecRequest req = MICROPOD__AGENT__V1__EXEC_REQUEST__INIT;
	struct exec e = { 0 };
	int r = relay_init(&e.relay, &exec_kind, client, start->process->tty,
		start->process->open_stdin, true, err);

	if (keys && start->process->tty)
		e.relay.keys = *keys;
	if (r == 0)
		r = relay_raw(&e.relay, err);
	if (r == 0) {
		r = rpc_channel_call(client->channel, AGENT_METHOD("ExecInContainer"),
			&micropod__agent__v1__exec_event__descriptor, NULL, &exec_ops, &e, &e.call);
		if (r < 0)
			err_errno(err, -r, "cannot run in sandbox '%s'", client->name);
	}
	if (r == 0) {
		req.kind_case = MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_START;
		req.start = start;
		rpc_call_send(e.call, &req.base);
		rpc_call_start(e.call);
		loop_timer_arm(client->loop, &e.silence, deadline_in(EXEC_START_TIME), on_silence);
		r = relay_run(&e.relay, err);
	}
	e.relay.over = true;
	loop_timer_disarm(&e.silence);
	relay_deinit(&e.relay);
	client->channel = rpc_channel_free(client->channel);
	return r;
}
