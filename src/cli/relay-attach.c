/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: three calls stand open: Wait at the shim, Attach at the agent for output, SendInput
 * at the agent for input. The shim outlives its session with the agent: when Attach or SendInput
 * end UNAVAILABLE while Wait stands, they are made again from the offset that was reached. What was
 * sent is kept (LIMIT_STDIN_UNTAKEN at most) until a SendInput has ended and said that it was
 * taken. It is over when Wait has its answer and Attach has ended.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "cli/boxes.h"
#include "cli/relay.h"

#define AGAIN_AFTER (100 * NSEC_PER_MSEC)

struct attach {
	struct relay relay;
	struct cli *cli;
	const char *id;
	bool joined; /* it ran already; others may send input too: ours has no offset of its own */

	struct rpc_call *output;
	uint64_t offset[2]; /* next byte of stdout, stderr */
	bool output_done;   /* with the exit, or for good */
	bool last_try;	    /* it has ended, and nothing came since the call was made again */
	bool have_exit;
	int exit_code;

	bool started, waited;
	int wait_code;
	struct err wait_error;

	struct rpc_call *input;
	char *kept;	       /* input from offset taken on */
	size_t kept_len, sent; /* of which sent in this call */
	uint64_t taken;
	bool input_closing; /* the call is half-closed: its answer says what was taken */
	bool input_end;	    /* after kept comes the end */
	bool input_dead;    /* nobody takes input any more */
	struct loop_timer again;
};

static struct attach *of(struct relay *relay)
{
	return container_of(relay, struct attach, relay);
}

static void check_over(struct attach *a)
{
	struct err err = a->wait_error;

	if (!a->waited || !a->output_done)
		return;
	if (!a->have_exit && !err.code && a->started)
		err_set(&err, EIO,
			"the last output of sandbox '%s' may be missing here: see micropod logs %s",
			a->relay.client->name, a->relay.client->name);
	if (err.code)
		relay_fail(&a->relay, a->wait_code, &err);
	else
		relay_finish(&a->relay, a->wait_code);
}

static void on_again(struct loop_timer *timer);

static void later(struct attach *a)
{
	loop_timer_arm(a->relay.client->loop, &a->again, deadline_in(AGAIN_AFTER), on_again);
}

/* Output */

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ProcessEvent *ev =
		(const Micropod__Agent__V1__ProcessEvent *)msg;
	struct attach *a = arg;

	if (ev->kind_case == MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_OUTPUT) {
		const Micropod__Agent__V1__Output *o = ev->output;

		a->offset[o->stream == MICROPOD__AGENT__V1__STREAM__STREAM_STDERR] =
			o->offset + o->data.len;
		a->last_try = false;
		relay_output(&a->relay, o, call);
	} else if (ev->kind_case == MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_EXIT) {
		a->have_exit = true;
		a->exit_code = ev->exit->code;
	}
}

static void on_output_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct attach *a = arg;

	log_debug("output ended: %s %s", rpc_code_name(status->code), status->message);
	a->output = NULL;
	/* Also when it has ended: what is left of its output can still be had, as long as some
	 * comes each time. */
	if (!a->have_exit && !a->last_try && status->code == RPC_UNAVAILABLE) {
		a->last_try = a->waited;
		later(a);
		return;
	}
	/* It runs, and there is nothing to attach to. */
	if (status->code == RPC_FAILED_PRECONDITION && a->joined && !a->waited) {
		struct err err = ERR_INIT;
		int code = client_failure(status, a->relay.client->name, &err);

		relay_fail(&a->relay, code, &err);
		return;
	}
	a->output_done = true;
	check_over(a);
}

static const struct rpc_call_ops output_ops = { .message = on_event, .done = on_output_done };

static int start_output(struct attach *a)
{
	Micropod__Agent__V1__AttachRequest req = MICROPOD__AGENT__V1__ATTACH_REQUEST__INIT;
	int r = rpc_channel_call(a->relay.client->channel, AGENT_METHOD("Attach"),
		&micropod__agent__v1__process_event__descriptor, NULL, &output_ops, a, &a->output);

	if (r < 0)
		return r;
	req.container_id = a->relay.client->container;
	req.stdout_offset = a->offset[0];
	req.stderr_offset = a->offset[1];
	rpc_call_send(a->output, &req.base);
	rpc_call_half_close(a->output);
	rpc_call_start(a->output);
	return 0;
}

/* Calls whose answer is the whole story */

static void ignore_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static void ignore_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	if (status->code != RPC_OK)
		log_debug("%s: %s %s", rpc_call_path(call), rpc_code_name(status->code),
			status->message);
}

static const struct rpc_call_ops ignore_ops = { .message = ignore_message, .done = ignore_done };

static int call_once(struct attach *a, const char *path, const ProtobufCMessage *req,
	const ProtobufCMessageDescriptor *out, const struct rpc_call_ops *ops)
{
	struct rpc_call *call;
	int r = rpc_channel_call(a->relay.client->channel, path, out, NULL, ops, a, &call);

	if (r < 0)
		return r;
	rpc_call_send(call, req);
	rpc_call_half_close(call);
	rpc_call_start(call);
	return 0;
}

/* Input */

static void on_input_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct attach *a = arg;
	uint64_t taken = ((const Micropod__Agent__V1__SendInputResponse *)msg)->taken;

	if (a->joined || taken < a->taken || taken > a->taken + a->kept_len)
		return; /* not of our input */
	a->kept_len -= (size_t)(taken - a->taken);
	memmove(a->kept, a->kept + (taken - a->taken), a->kept_len);
	a->taken = taken;
}

static void pump_input(struct attach *a);

static void on_input_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct attach *a = arg;

	a->input = NULL;
	/* What was sent together with others' counts as taken, also when nobody can say: twice is
	 * worse than not at all. */
	if (a->joined) {
		a->kept_len -= a->sent;
		memmove(a->kept, a->kept + a->sent, a->kept_len);
	}
	a->sent = 0;
	a->input_closing = false;
	if (status->code == RPC_UNAVAILABLE && !a->waited) {
		later(a);
		return;
	}
	if (status->code != RPC_OK) {
		/* The process has closed its stdin, or has ended. */
		log_debug("input ended: %s %s", rpc_code_name(status->code), status->message);
		a->input_dead = true;
	}
	pump_input(a);
}

static void on_input_writable(struct rpc_call *call, void *arg)
{
	pump_input(arg);
}

static const struct rpc_call_ops input_ops = {
	.message = on_input_answer, .writable = on_input_writable, .done = on_input_done
};

static void send_kept(struct attach *a)
{
	Micropod__Agent__V1__SendInputRequest req = MICROPOD__AGENT__V1__SEND_INPUT_REQUEST__INIT;

	while (a->sent < a->kept_len && rpc_call_writable(a->input)) {
		size_t n = MIN(a->kept_len - a->sent, LIMIT_OUTPUT_CHUNK);

		req.container_id = a->relay.client->container;
		req.data.data = (uint8_t *)a->kept + a->sent;
		req.data.len = n;
		req.offset = a->taken + a->sent;
		req.offset_set = !a->joined;
		if (rpc_call_send(a->input, &req.base) < 0)
			return;
		a->sent += n;
	}
}

/* A full step of input fits. */
static bool has_room(const struct attach *a)
{
	return LIMIT_STDIN_UNTAKEN - a->kept_len >= LIMIT_OUTPUT_CHUNK;
}

static void pump_input(struct attach *a)
{
	if (a->relay.over || a->input_dead || a->input_closing)
		goto changed;
	if (a->kept_len && !a->input) {
		if (rpc_channel_call(a->relay.client->channel, AGENT_METHOD("SendInput"),
			    &micropod__agent__v1__send_input_response__descriptor, NULL, &input_ops,
			    a, &a->input) < 0) {
			a->input_dead = true;
			goto changed;
		}
		rpc_call_start(a->input);
	}
	if (a->input)
		send_kept(a);
	/* Full, or at the end: the answer to a closed call says what may be forgotten. */
	if (a->input && a->sent == a->kept_len && (!has_room(a) || a->input_end)) {
		a->input_closing = true;
		rpc_call_half_close(a->input);
	} else if (!a->input && !a->kept_len && a->input_end && a->joined) {
		/* Others may have more for it, as with Docker. */
		a->input_dead = true;
	} else if (!a->input && !a->kept_len && a->input_end) {
		Micropod__Agent__V1__CloseInputRequest req =
			MICROPOD__AGENT__V1__CLOSE_INPUT_REQUEST__INIT;

		req.container_id = a->relay.client->container;
		a->input_dead = true;
		call_once(a, AGENT_METHOD("CloseInput"), &req.base,
			&micropod__agent__v1__close_input_response__descriptor, &ignore_ops);
	}
changed:
	relay_input_changed(&a->relay);
}

static bool can_send(struct relay *relay)
{
	struct attach *a = of(relay);

	return !a->input_dead && !a->input_end && !a->input_closing && has_room(a);
}

static void send_input(struct relay *relay, const void *data, size_t len)
{
	struct attach *a = of(relay);

	if (data) {
		memcpy(a->kept + a->kept_len, data, len);
		a->kept_len += len;
	} else {
		a->input_end = true;
	}
	pump_input(a);
}

static void on_again(struct loop_timer *timer)
{
	struct attach *a = container_of(timer, struct attach, again);

	if (a->relay.over)
		return;
	if (!a->output && !a->output_done && start_output(a) < 0) {
		a->output_done = true;
		check_over(a);
	}
	if (!a->waited && !a->input && a->relay.input)
		pump_input(a);
}

/* Resize, signals */

static void resize(struct relay *relay, uint32_t rows, uint32_t columns)
{
	Micropod__Agent__V1__ResizeRequest req = MICROPOD__AGENT__V1__RESIZE_REQUEST__INIT;
	Micropod__Agent__V1__WindowSize window = MICROPOD__AGENT__V1__WINDOW_SIZE__INIT;

	window.rows = rows;
	window.columns = columns;
	req.container_id = relay->client->container;
	req.window = &window;
	call_once(of(relay), AGENT_METHOD("Resize"), &req.base,
		&micropod__agent__v1__resize_response__descriptor, &ignore_ops);
}

static void send_signal(struct relay *relay, int sig)
{
	Micropod__Sandbox__V1__KillRequest req = MICROPOD__SANDBOX__V1__KILL_REQUEST__INIT;
	char number[16];

	snprintf(number, sizeof(number), "%d", sig);
	req.signal = number;
	call_once(of(relay), SANDBOX_METHOD("Kill"), &req.base,
		&micropod__sandbox__v1__kill_response__descriptor, &ignore_ops);
}

static const struct relay_kind attach_kind = {
	.can_send = can_send, .send = send_input, .resize = resize, .signal = send_signal
};

/* Start and Wait */

static void on_wait_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Sandbox__V1__WaitResponse *w =
		(const Micropod__Sandbox__V1__WaitResponse *)msg;
	struct attach *a = arg;

	trace_step("exit heard");
	a->waited = true;
	a->wait_code = w->exit_code;
	if (w->error[0])
		err_set(&a->wait_error, EIO, "sandbox '%s': %s", a->relay.client->name, w->error);
}

/* A shim that was killed after the exit has written it down. */
static bool recorded_exit(struct attach *a)
{
	struct err err = ERR_INIT;
	struct sandbox box;
	bool exited;

	if (boxes_load(a->cli, a->id, &box, &err) < 0)
		return false;
	exited = box.state.phase == SANDBOX_EXITED || box.state.phase == SANDBOX_RESTARTING;
	if (exited)
		a->wait_code = box.state.exit_code;
	if (exited && box.state.error[0])
		err_set(&a->wait_error, EIO, "sandbox '%s': %s", a->relay.client->name,
			box.state.error);
	sandbox_deinit(&box);
	return exited;
}

static void on_wait_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct attach *a = arg;

	/* The shim is gone. What the agent said of the exit still holds, and what is on the disk;
	 * without that nobody knows. */
	if (!a->waited && a->have_exit)
		a->wait_code = a->exit_code;
	else if (!a->waited && !recorded_exit(a))
		a->wait_code = client_failure(status, a->relay.client->name, &a->wait_error);
	a->waited = true;
	check_over(a);
}

static const struct rpc_call_ops wait_ops = { .message = on_wait_answer, .done = on_wait_done };

static void on_start_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct attach *a = arg;

	trace_step("start heard");
	a->started = true;
}

static void on_start_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct attach *a = arg;
	struct err err = ERR_INIT;
	int code;

	if (a->started) {
		relay_send_size(&a->relay);
		if (relay_go(&a->relay, &err) < 0)
			relay_fail(&a->relay, EXIT_MICROPOD, &err);
		return;
	}
	code = client_failure(status, a->relay.client->name, &err);
	relay_fail(&a->relay, code, &err);
}

static const struct rpc_call_ops start_ops = { .message = on_start_answer, .done = on_start_done };

/* It runs: from now on. */
static int join_all(struct attach *a, struct err *err)
{
	Micropod__Sandbox__V1__WaitRequest wait = MICROPOD__SANDBOX__V1__WAIT_REQUEST__INIT;
	int r = call_once(a, SANDBOX_METHOD("Wait"), &wait.base,
		&micropod__sandbox__v1__wait_response__descriptor, &wait_ops);

	a->started = true;
	a->offset[0] = a->offset[1] = UINT64_MAX;
	if (r == 0)
		r = start_output(a);
	if (r < 0)
		return err_errno(err, -r, "cannot attach to sandbox '%s'", a->relay.client->name);
	relay_send_size(&a->relay);
	return relay_go(&a->relay, err);
}

/* In this order on one connection: the shim hears that we are here when we read along. */
static int start_all(struct attach *a)
{
	Micropod__Sandbox__V1__WaitRequest wait = MICROPOD__SANDBOX__V1__WAIT_REQUEST__INIT;
	Micropod__Sandbox__V1__StartRequest start = MICROPOD__SANDBOX__V1__START_REQUEST__INIT;
	int r = call_once(a, SANDBOX_METHOD("Wait"), &wait.base,
		&micropod__sandbox__v1__wait_response__descriptor, &wait_ops);

	if (r == 0)
		r = start_output(a);
	/* So that a program that looks at once finds the right size; if it is too early, the one
	 * after the start counts. */
	if (r == 0)
		relay_send_size(&a->relay);
	if (r == 0)
		r = call_once(a, SANDBOX_METHOD("Start"), &start.base,
			&micropod__sandbox__v1__start_response__descriptor, &start_ops);
	return r;
}

int relay_attach(
	struct cli *cli, const struct sandbox *box, struct relay_opts *opts, struct err *err)
{
	struct attach a = { .kept = malloc(LIMIT_STDIN_UNTAKEN),
		.cli = cli,
		.id = box->config.id,
		.joined = opts->join };
	struct client client;
	int r;

	opts->started = opts->left = false;
	if (!a.kept)
		r = err_errno(err, ENOMEM, "cannot attach to sandbox '%s'", box->config.name);
	else if (opts->join)
		r = client_open(cli, box, &client, err);
	else
		r = client_connect(cli, box, &client, err);
	if (r < 0) {
		free(a.kept);
		return r;
	}
	r = relay_init(&a.relay, &attach_kind, &client, box->config.tty, opts->input,
		opts->sig_proxy, err);
	if (box->config.tty)
		a.relay.keys = opts->keys;
	if (r == 0)
		r = relay_raw(&a.relay, err);
	trace_step("connected to the shim");
	if (r == 0 && opts->join) {
		r = join_all(&a, err);
	} else if (r == 0) {
		r = start_all(&a);
		if (r < 0)
			err_errno(err, -r, "cannot attach to sandbox '%s'", box->config.name);
	}
	if (r == 0)
		r = relay_run(&a.relay, err);
	opts->started = a.started;
	opts->left = a.relay.left;
	a.relay.over = true;
	loop_timer_disarm(&a.again);
	relay_deinit(&a.relay);
	client_close(&client);
	free(a.kept);
	return r;
}
