/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: all three calls are a thin layer over a process object, so that nothing is lost
 * when a call is: output stays in the rings, input that was taken is counted. Input stops being
 * read from a call while the process' queue is full, or its terminal is not there yet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/attach.h"
#include "agent/execs.h"
#include "agent/service.h"

#undef stdin /* a macro of musl's, a field of ours */

/* Output to ExecEvent and ProcessEvent, which differ in type only. */

static void fill_output(
	API(Output) * out, API(Gap) * gap, enum streams_id stream, const struct ring_piece *p)
{
	*out = (API(Output))MICROPOD__AGENT__V1__OUTPUT__INIT;
	out->stream = stream == STREAMS_OUT ? MICROPOD__AGENT__V1__STREAM__STREAM_STDOUT
					    : MICROPOD__AGENT__V1__STREAM__STREAM_STDERR;
	out->offset = p->offset;
	out->data = (ProtobufCBinaryData){ p->len, (uint8_t *)p->data };
	out->time_ns = p->last_time;
	if (p->gap_to > p->gap_from) {
		*gap = (API(Gap))MICROPOD__AGENT__V1__GAP__INIT;
		gap->from = p->gap_from;
		gap->to = p->gap_to;
		out->gap = gap;
	}
}

/* Calls on a process: exec, attach, input */

struct pcall {
	struct rpc_call *call; /* a reference */
	struct agent *agent;
	struct process_watch watch;
	struct attach *attach;
	bool known;   /* the process was there before: input it has taken already is skipped */
	bool started; /* exec: Started is sent */
	bool paused;
	uint64_t in_at; /* exec: offset of the next input byte in this call */
};

static struct pcall *pcall_new(
	struct rpc_call *call, struct agent *agent, const struct rpc_call_ops *ops)
{
	struct pcall *x = calloc(1, sizeof(*x));

	if (!x) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return NULL;
	}
	x->call = rpc_call_ref(call);
	x->agent = agent;
	rpc_call_set_ops(call, ops, x);
	return x;
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct pcall *x = arg;

	attach_free(x->attach);
	process_unwatch(&x->watch);
	rpc_call_unref(x->call);
	free(x);
}

static void on_writable(struct rpc_call *call, void *arg)
{
	attach_writable(((struct pcall *)arg)->attach);
}

static void finished(void *arg)
{
	struct pcall *x = arg;

	x->attach = NULL;
	rpc_call_finish_code(x->call, RPC_OK, "%s", "");
}

static void set_paused(struct pcall *x, bool pause)
{
	if (x->paused == pause)
		return;
	x->paused = pause;
	if (pause)
		rpc_call_pause(x->call);
	else
		rpc_call_resume(x->call);
}

static void refuse_reader(struct rpc_call *call, int r)
{
	reply_error(call, r == -ENOSPC ? FAILURE_LIMIT : FAILURE_UNKNOWN, -r, "readers", "",
		"cannot attach: %s",
		r == -ENOSPC ? "the process has too many readers" : strerror(-r));
}

/* ExecInContainer */

static bool exec_send_output(void *arg, enum streams_id stream, const struct ring_piece *p)
{
	API(ExecEvent) event = MICROPOD__AGENT__V1__EXEC_EVENT__INIT;
	API(Output) out;
	API(Gap) gap;

	fill_output(&out, &gap, stream, p);
	event.kind_case = MICROPOD__AGENT__V1__EXEC_EVENT__KIND_OUTPUT;
	event.output = &out;
	return rpc_call_send(((struct pcall *)arg)->call, &event.base) == 0;
}

static bool exec_send_exit(void *arg, const struct process_exit *how)
{
	API(ExecEvent) event = MICROPOD__AGENT__V1__EXEC_EVENT__INIT;
	API(Exit) out;

	reply_fill_exit(&out, how);
	event.kind_case = MICROPOD__AGENT__V1__EXEC_EVENT__KIND_EXIT;
	event.exit = &out;
	return rpc_call_send(((struct pcall *)arg)->call, &event.base) == 0;
}

static void exec_begin(struct pcall *x, struct process *p)
{
	API(ExecEvent) event = MICROPOD__AGENT__V1__EXEC_EVENT__INIT;
	API(Started) started = MICROPOD__AGENT__V1__STARTED__INIT;
	struct attach_opts o = { .send_output = exec_send_output,
		.send_exit = exec_send_exit,
		.finished = finished,
		.arg = x,
		.call = x->call };
	int r;

	started.exec_id = p->exec_id;
	started.pid = (uint32_t)p->pid;
	event.kind_case = MICROPOD__AGENT__V1__EXEC_EVENT__KIND_STARTED;
	event.started = &started;
	x->started = true;
	rpc_call_send(x->call, &event.base);
	r = attach_new(p, &o, &x->attach);
	if (r < 0)
		refuse_reader(x->call, r);
}

static void on_exec_change(struct process_watch *watch)
{
	struct pcall *x = container_of(watch, struct pcall, watch);
	struct process *p = watch->process;
	const struct failure *f = NULL;
	int r = x->started ? 1 : execs_started(p, &f);

	if (r < 0) {
		struct failure copy = *f;

		/* Its id is free again: an exec that never ran leaves nothing. */
		process_delete(p);
		reply_failure(x->call, &copy);
		return;
	}
	if (r == 0)
		return;
	if (!x->started)
		exec_begin(x, p);
	set_paused(x, streams_input_full(&p->io));
}

/* A flat message of the first contract as what it means. */
static int exec_first(struct pcall *x, const API(ExecRequest) * req, struct failure *f)
{
	API(ProcessSpec) flat = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	const API(ProcessSpec) *spec = &flat;
	const char *container_id = req->container_id, *exec_id = "";
	struct process *p;
	int r;

	if (req->kind_case == MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_START) {
		container_id = req->start->container_id;
		exec_id = req->start->exec_id;
		spec = req->start->process;
	} else if (req->kind_case != MICROPOD__AGENT__V1__EXEC_REQUEST__KIND__NOT_SET ||
		   !*req->container_id) {
		return failure_set(f, FAILURE_INVALID, EINVAL, "start", "",
			"start: the first message must say what to run");
	} else {
		flat.n_args = req->n_process_args;
		flat.args = calloc(req->n_process_args + 1, sizeof(*flat.args));
		if (!flat.args)
			return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		for (size_t i = 0; i < flat.n_args; i++)
			flat.args[i] = (ProtobufCBinaryData){ strlen(req->process_args[i]),
				(uint8_t *)req->process_args[i] };
	}
	r = execs_create(x->agent, container_id, exec_id, spec, &p, &x->known, f);
	free(flat.args);
	if (r < 0)
		return r;
	r = execs_start(x->agent, p, f);
	if (r < 0) {
		if (!x->known)
			process_delete(p);
		return r;
	}
	process_watch(p, &x->watch, on_exec_change);
	set_paused(x, true);
	process_notify(p);
	return 0;
}

static void exec_input(struct pcall *x, const ProtobufCBinaryData *data)
{
	struct process *p = x->watch.process;
	size_t skip = 0;

	/* A repeated call sends its input from the start again. */
	if (x->known && p->io.taken > x->in_at)
		skip = (size_t)MIN(p->io.taken - x->in_at, data->len);
	x->in_at += data->len;
	/* Input for a stdin that is closed is dropped, as a pipe would. */
	if (skip < data->len)
		streams_input(&p->io, data->data + skip, data->len - skip);
	set_paused(x, streams_input_full(&p->io));
}

static void on_exec_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const API(ExecRequest) *req = (const void *)msg;
	struct pcall *x = arg;
	struct process *p = x->watch.process;
	struct failure f = FAILURE_INIT;

	if (!p) {
		if (exec_first(x, req, &f) < 0)
			reply_failure(call, &f);
		return;
	}
	switch (req->kind_case) {
	case MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_STDIN:
		exec_input(x, &req->stdin);
		break;
	case MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_RESIZE:
		service_set_window(p, req->resize); /* the terminal may have gone already */
		break;
	case MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_SIGNAL:
		if (req->signal < 1 || req->signal > 64)
			reply_error(call, FAILURE_INVALID, EINVAL, "signal", "",
				"signal: %d is none", req->signal);
		else
			process_signal(p, req->signal);
		break;
	case MICROPOD__AGENT__V1__EXEC_REQUEST__KIND_CLOSE_STDIN:
		if (req->close_stdin)
			streams_input_close(&p->io);
		break;
	default:
		reply_error(call, FAILURE_INVALID, EINVAL, "kind", "",
			"only the first message may say what to run");
	}
}

static void on_exec_end(struct rpc_call *call, void *arg)
{
	struct pcall *x = arg;

	if (x->watch.process)
		streams_input_close(&x->watch.process->io);
	else
		reply_error(call, FAILURE_INVALID, EINVAL, "start", "", "start: no message came");
}

void service_exec(struct rpc_call *call, void *agent)
{
	static const struct rpc_call_ops ops = { .message = on_exec_message,
		.end = on_exec_end,
		.writable = on_writable,
		.done = on_done };

	pcall_new(call, agent, &ops);
}

/* Attach */

static bool attach_send_output(void *arg, enum streams_id stream, const struct ring_piece *p)
{
	API(ProcessEvent) event = MICROPOD__AGENT__V1__PROCESS_EVENT__INIT;
	API(Output) out;
	API(Gap) gap;

	fill_output(&out, &gap, stream, p);
	event.kind_case = MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_OUTPUT;
	event.output = &out;
	return rpc_call_send(((struct pcall *)arg)->call, &event.base) == 0;
}

static bool attach_send_exit(void *arg, const struct process_exit *how)
{
	API(ProcessEvent) event = MICROPOD__AGENT__V1__PROCESS_EVENT__INIT;
	API(Exit) out;

	reply_fill_exit(&out, how);
	event.kind_case = MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_EXIT;
	event.exit = &out;
	return rpc_call_send(((struct pcall *)arg)->call, &event.base) == 0;
}

static void hold(struct process *p, const API(AttachRequest) * req)
{
	const uint64_t from[STREAMS_MAX] = { req->stdout_offset, req->stderr_offset };

	for (int i = 0; i < STREAMS_MAX; i++)
		if (!p->held[i].ring)
			ring_attach(&p->io.out[i].ring, &p->held[i],
				req->from_end ? p->io.out[i].ring.end : from[i]);
}

void service_attach(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	static const struct rpc_call_ops ops = { .writable = on_writable, .done = on_done };
	const API(AttachRequest) *req = (const void *)msg;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);
	struct attach_opts o = { .offset = { req->stdout_offset, req->stderr_offset },
		.from_end = req->from_end,
		.no_follow = req->no_follow,
		.send_output = attach_send_output,
		.send_exit = attach_send_exit,
		.finished = finished,
		.call = call };
	struct pcall *x = p ? pcall_new(call, agent, &ops) : NULL;
	int r;

	if (!x)
		return;
	o.arg = x;
	if (req->acknowledged)
		hold(p, req);
	r = attach_new(p, &o, &x->attach);
	if (r < 0)
		refuse_reader(call, r);
}

/* Acknowledge */

void service_acknowledge(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(AcknowledgeRequest) *req = (const void *)msg;
	API(AcknowledgeResponse) out = MICROPOD__AGENT__V1__ACKNOWLEDGE_RESPONSE__INIT;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);
	const uint64_t at[STREAMS_MAX] = { req->stdout_offset, req->stderr_offset };

	for (int i = 0; p && i < STREAMS_MAX; i++) {
		if (at[i] > p->io.out[i].ring.end) {
			reply_error(call, FAILURE_INVALID, EINVAL, "offset", p->exec_id,
				"offset: %llu bytes more than there were",
				(unsigned long long)(at[i] - p->io.out[i].ring.end));
			return;
		}
	}
	if (!p)
		return;
	for (int i = 0; i < STREAMS_MAX; i++) {
		if (p->held[i].ring && at[i] > p->held[i].offset)
			ring_advance(&p->held[i], at[i]);
		if (req->release)
			ring_detach(&p->held[i]);
	}
	streams_output_room(&p->io);
	process_notify(p);
	rpc_call_reply(call, &out.base);
}

/* SendInput */

static void on_input_change(struct process_watch *watch)
{
	struct pcall *x = container_of(watch, struct pcall, watch);

	set_paused(x, streams_input_full(&watch->process->io));
}

static void on_input_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const API(SendInputRequest) *req = (const void *)msg;
	struct pcall *x = arg;
	struct process *p = x->watch.process;
	size_t skip = 0;

	if (!p) {
		p = service_find_process(call, x->agent, req->container_id, req->exec_id);
		if (!p)
			return;
		process_watch(p, &x->watch, on_input_change);
	}
	if (req->resize)
		service_set_window(p, req->resize);
	if (req->offset_set && req->offset > p->io.taken) {
		reply_error(call, FAILURE_CONFLICT, ERANGE, "offset", p->exec_id,
			"offset: %llu bytes of input are missing before it",
			(unsigned long long)(req->offset - p->io.taken));
		return;
	}
	if (req->offset_set)
		skip = (size_t)MIN(p->io.taken - req->offset, req->data.len);
	if (skip < req->data.len &&
		streams_input(&p->io, req->data.data + skip, req->data.len - skip) < 0) {
		reply_error(call, FAILURE_CONFLICT, EPIPE, "stdin", p->exec_id,
			"stdin of the process is closed");
		return;
	}
	set_paused(x, streams_input_full(&p->io));
}

static void on_input_end(struct rpc_call *call, void *arg)
{
	struct pcall *x = arg;
	API(SendInputResponse) out = MICROPOD__AGENT__V1__SEND_INPUT_RESPONSE__INIT;

	if (!x->watch.process) {
		reply_error(call, FAILURE_INVALID, EINVAL, "container_id", "",
			"container_id: no message came");
		return;
	}
	out.taken = x->watch.process->io.taken;
	rpc_call_reply(call, &out.base);
}

void service_send_input(struct rpc_call *call, void *agent)
{
	static const struct rpc_call_ops ops = {
		.message = on_input_message, .end = on_input_end, .done = on_done
	};

	pcall_new(call, agent, &ops);
}
