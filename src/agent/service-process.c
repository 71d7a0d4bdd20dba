/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent/execs.h"
#include "agent/service.h"

struct process *service_find_process(
	struct rpc_call *call, struct agent *agent, const char *container_id, const char *exec_id)
{
	struct process *p = process_find(&agent->processes, container_id, exec_id);

	if (!p)
		reply_error(call, FAILURE_NOT_FOUND, ENOENT,
			container_find(agent, container_id) ? "exec_id" : "container_id",
			*exec_id ? exec_id : container_id, "no process '%s' in container '%s'",
			exec_id, container_id);
	return p;
}

int service_set_window(struct process *p, const API(WindowSize) * window)
{
	if (!window || !window->rows || !window->columns)
		return -EINVAL;
	if (!p->io.tty)
		return -ENOTTY;
	p->rows = window->rows;
	p->columns = window->columns;
	return p->io.out[STREAMS_OUT].fd < 0
		       ? 0
		       : streams_resize(&p->io, window->rows, window->columns);
}

void service_create_process(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(CreateProcessRequest) *req = (const void *)msg;
	API(CreateProcessResponse) out = MICROPOD__AGENT__V1__CREATE_PROCESS_RESPONSE__INIT;
	struct failure f = FAILURE_INIT;
	struct process *p;
	bool known;

	if (execs_create(agent, req->container_id, req->exec_id, req->process, &p, &known, &f) <
		0) {
		reply_failure(call, &f);
		return;
	}
	out.exec_id = p->exec_id;
	rpc_call_reply(call, &out.base);
}

/* A unary call that is answered when something about a process is known. */

struct pending {
	struct rpc_call *call;
	struct process_watch watch;
	/* Answers if it can. */
	bool (*answer)(struct pending *w, struct process *p);
};

static void on_pending_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct pending *w = arg;

	process_unwatch(&w->watch);
	rpc_call_unref(w->call);
	free(w);
}

static void on_pending(struct process_watch *watch)
{
	struct pending *w = container_of(watch, struct pending, watch);

	w->answer(w, watch->process);
}

static void wait_for(struct rpc_call *call, struct process *p,
	bool (*answer)(struct pending *w, struct process *p))
{
	static const struct rpc_call_ops ops = { .done = on_pending_done };
	struct pending *w = calloc(1, sizeof(*w));

	if (!w) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return;
	}
	w->call = rpc_call_ref(call);
	w->answer = answer;
	process_watch(p, &w->watch, on_pending);
	rpc_call_set_ops(call, &ops, w);
	answer(w, p);
}

static bool answer_started(struct pending *w, struct process *p)
{
	API(StartProcessResponse) out = MICROPOD__AGENT__V1__START_PROCESS_RESPONSE__INIT;
	const struct failure *f = NULL;
	int r = execs_started(p, &f);

	if (r == 0)
		return false;
	if (r < 0) {
		reply_failure(w->call, f);
	} else {
		out.pid = (uint32_t)p->pid;
		rpc_call_reply(w->call, &out.base);
	}
	return true;
}

void service_start_process(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(StartProcessRequest) *req = (const void *)msg;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);
	struct failure f = FAILURE_INIT;

	if (!p)
		return;
	if (execs_start(agent, p, &f) < 0)
		reply_failure(call, &f);
	else
		wait_for(call, p, answer_started);
}

static bool answer_exit(struct pending *w, struct process *p)
{
	API(WaitResponse) out = MICROPOD__AGENT__V1__WAIT_RESPONSE__INIT;
	const struct failure *f = NULL;
	API(Exit) how;

	if (process_exit_known(p)) {
		reply_fill_exit(&how, &p->exit);
		out.exit = &how;
		rpc_call_reply(w->call, &out.base);
	} else if (execs_started(p, &f) < 0) {
		reply_failure(w->call, f);
	} else if (!p->table && p->state == PROCESS_CREATED) {
		reply_error(w->call, FAILURE_NOT_FOUND, ENOENT, "exec_id", p->exec_id,
			"the process was deleted");
	} else {
		return false;
	}
	return true;
}

void service_wait(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(WaitRequest) *req = (const void *)msg;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);

	if (p)
		wait_for(call, p, answer_exit);
}

void service_close_input(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(CloseInputRequest) *req = (const void *)msg;
	API(CloseInputResponse) out = MICROPOD__AGENT__V1__CLOSE_INPUT_RESPONSE__INIT;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);

	if (!p)
		return;
	streams_input_close(&p->io);
	rpc_call_reply(call, &out.base);
}

void service_resize(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(ResizeRequest) *req = (const void *)msg;
	API(ResizeResponse) out = MICROPOD__AGENT__V1__RESIZE_RESPONSE__INIT;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);
	int r;

	if (!p)
		return;
	r = service_set_window(p, req->window);
	if (r == -EINVAL)
		reply_error(call, FAILURE_INVALID, EINVAL, "window", "",
			"window: rows and columns must be 1 to 65535");
	else if (r < 0)
		reply_error(call, FAILURE_CONFLICT, -r, "tty", p->exec_id, "cannot resize: %s",
			r == -ENOTTY ? "the process has no terminal" : strerror(-r));
	else
		rpc_call_reply(call, &out.base);
}

static int signal_process(struct agent *agent, struct process *p, const API(SignalRequest) * req)
{
	struct container *c = container_find(agent, req->container_id);
	struct process *other;
	int r;

	/* By pidfd for the first process of a container that is created and not started yet, too.
	 */
	if (c && container_init(c) == p)
		r = container_signal(c, req->signal);
	else
		r = process_signal(p, req->signal);
	if (r < 0 || !req->all || !c)
		return r;
	if (req->signal == SIGKILL) {
		container_kill(c);
		return 0;
	}
	list_foreach (other, &agent->processes.list, link)
		if (other != p && strcmp(other->container_id, req->container_id) == 0)
			process_signal(other, req->signal);
	return 0;
}

void service_signal(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(SignalRequest) *req = (const void *)msg;
	API(SignalResponse) out = MICROPOD__AGENT__V1__SIGNAL_RESPONSE__INIT;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);
	int r;

	if (!p)
		return;
	if (req->signal < 1 || req->signal > 64) {
		reply_error(call, FAILURE_INVALID, EINVAL, "signal", "", "signal: %d is none",
			req->signal);
		return;
	}
	r = signal_process(agent, p, req);
	if (r < 0)
		reply_error(call, FAILURE_CONFLICT, -r, "state", req->exec_id,
			"the process is not running");
	else
		rpc_call_reply(call, &out.base);
}

void service_delete_process(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(DeleteProcessRequest) *req = (const void *)msg;
	API(DeleteProcessResponse) out = MICROPOD__AGENT__V1__DELETE_PROCESS_RESPONSE__INIT;
	struct process *p = service_find_process(call, agent, req->container_id, req->exec_id);

	if (!p)
		return;
	if (!*req->exec_id || p->state == PROCESS_RUNNING || p->state == PROCESS_STARTING) {
		reply_error(call, FAILURE_CONFLICT, EBUSY, "state", req->exec_id, "%s",
			*req->exec_id ? "the process is running"
				      : "the first process goes with its container");
		return;
	}
	process_delete(p);
	rpc_call_reply(call, &out.base);
}

/* Listing: what is described is borrowed from the process but for the entries themselves. */

struct row {
	API(Process) out;
	API(Exit) exit;
	ProtobufCBinaryData *args;
	API(Process__LabelsEntry) * entries, **labels;
};

static int fill_row(struct row *row, struct process *p)
{
	size_t n = p->labels.n / 2;

	row->out = (API(Process))MICROPOD__AGENT__V1__PROCESS__INIT;
	row->args = calloc(p->args.n + 1, sizeof(*row->args));
	row->entries = calloc(n + 1, sizeof(*row->entries));
	row->labels = calloc(n + 1, sizeof(*row->labels));
	if (!row->args || !row->entries || !row->labels)
		return -ENOMEM;
	for (size_t i = 0; i < p->args.n; i++)
		row->args[i] =
			(ProtobufCBinaryData){ strlen(p->args.v[i]), (uint8_t *)p->args.v[i] };
	for (size_t i = 0; i < n; i++) {
		row->entries[i] =
			(API(Process__LabelsEntry))MICROPOD__AGENT__V1__PROCESS__LABELS_ENTRY__INIT;
		row->entries[i].key = p->labels.v[2 * i];
		row->entries[i].value = p->labels.v[2 * i + 1];
		row->labels[i] = &row->entries[i];
	}
	row->out.container_id = p->container_id;
	row->out.exec_id = p->exec_id;
	row->out.args = row->args;
	row->out.n_args = p->args.n;
	row->out.labels = row->labels;
	row->out.n_labels = n;
	row->out.pid = p->state == PROCESS_EXITED ? 0 : (uint32_t)p->pid;
	row->out.state = (char *)process_state_name(p);
	row->out.tty = p->io.tty;
	row->out.stdout_begin = p->io.out[STREAMS_OUT].ring.begin;
	row->out.stdout_end = p->io.out[STREAMS_OUT].ring.end;
	row->out.stderr_begin = p->io.out[STREAMS_ERR].ring.begin;
	row->out.stderr_end = p->io.out[STREAMS_ERR].ring.end;
	row->out.stdin_taken = p->io.taken;
	if (p->state == PROCESS_EXITED) {
		reply_fill_exit(&row->exit, &p->exit);
		row->out.exit = &row->exit;
	}
	return 0;
}

void service_list_processes(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ListProcessesRequest) *req = (const void *)msg;
	API(ListProcessesResponse) out = MICROPOD__AGENT__V1__LIST_PROCESSES_RESPONSE__INIT;
	struct agent *agent = arg;
	struct row *rows = calloc(agent->processes.n + 1, sizeof(*rows));
	API(Process) **list = calloc(agent->processes.n + 1, sizeof(*list));
	struct process *p;
	int r = rows && list ? 0 : -ENOMEM;

	list_foreach (p, &agent->processes.list, link) {
		if (r < 0 ||
			(*req->container_id && strcmp(req->container_id, p->container_id) != 0))
			continue;
		r = fill_row(&rows[out.n_processes], p);
		list[out.n_processes] = &rows[out.n_processes].out;
		out.n_processes++;
	}
	out.processes = list;
	if (*req->container_id && !container_find(agent, req->container_id))
		reply_error(call, FAILURE_NOT_FOUND, ENOENT, "container_id", req->container_id,
			"no container '%s'", req->container_id);
	else if (r < 0)
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	else
		rpc_call_reply(call, &out.base);
	for (size_t i = 0; rows && i < out.n_processes; i++) {
		free(rows[i].args);
		free(rows[i].entries);
		free(rows[i].labels);
	}
	free(rows);
	free(list);
}
