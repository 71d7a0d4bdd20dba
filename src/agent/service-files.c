/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: each call is a process object that runs a tool (agent/files.h, agent/tree.h) in the
 * container, and is deleted with the call. What it writes goes through its ring, which waits for
 * the call's reader; what a call carries goes to its stdin, and the call waits for it. A call that
 * breaks ends the tool before its stdin ends, so that half a file is never taken for a whole one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/attach.h"
#include "agent/execs.h"
#include "agent/files.h"
#include "agent/service.h"
#include "agent/tree.h"

#undef stdin /* a macro of musl's, a field of ours */

#define WORDS_MAX      5
#define WORDS_OF_ERROR 400
#define TOOLS_PREFIX   "micropod: " /* of what a tree's tool complains of */

struct words {
	ProtobufCBinaryData v[WORDS_MAX];
	size_t n;
	char numbers[2][24];
	size_t n_numbers;
};

struct filecall {
	struct rpc_call *call; /* a reference; NULL: it is over, and the process is not yet */
	struct agent *agent;
	struct process_watch watch;
	struct attach *attach;
	bool (*first)(struct filecall *f, const ProtobufCMessage *msg); /* of a stream in */
	bool is_tree;	     /* its output is data, not frames */
	bool answers_at_end; /* PutTree */
	bool paused;
	struct strbuf frame;
	struct strbuf said; /* on stderr */
	struct failure failure;
	int code;
};

/* Words of the tool */

static void add(struct words *w, const char *word)
{
	w->v[w->n++] = (ProtobufCBinaryData){ strlen(word), (uint8_t *)(uintptr_t)word };
}

static void add_bytes(struct words *w, const ProtobufCBinaryData *word)
{
	w->v[w->n++] = *word;
}

static void add_number(struct words *w, uint64_t number)
{
	char *text = w->numbers[w->n_numbers++];

	snprintf(text, sizeof(w->numbers[0]), "%llu", (unsigned long long)number);
	add(w, text);
}

static bool path_is_good(struct rpc_call *call, const char *field, const ProtobufCBinaryData *path)
{
	if (path->len && path->data[0] == '/' && path->len < 4096 &&
		!memchr(path->data, 0, path->len))
		return true;
	reply_error(
		call, FAILURE_INVALID, EINVAL, field, "", "%s: must be an absolute path", field);
	return false;
}

/* The call and its process */

static void filecall_free(struct filecall *f)
{
	strbuf_deinit(&f->frame);
	strbuf_deinit(&f->said);
	free(f);
}

static void on_call_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct filecall *f = arg;
	struct process *p = f->watch.process;

	f->attach = attach_free(f->attach);
	rpc_call_unref(f->call);
	f->call = NULL;
	if (!p) {
		filecall_free(f);
		return;
	}
	/* SIGTERM: it may have something to clean up. */
	if (p->state != PROCESS_EXITED) {
		process_signal(p, f->first ? SIGTERM : SIGKILL);
		process_signal(p, SIGCONT);
	}
	/* It may never have read: nobody else will. */
	process_notify(p);
}

static void on_writable(struct rpc_call *call, void *arg)
{
	attach_writable(((struct filecall *)arg)->attach);
}

static void set_paused(struct filecall *f, bool pause)
{
	if (f->paused == pause)
		return;
	f->paused = pause;
	if (pause)
		rpc_call_pause(f->call);
	else
		rpc_call_resume(f->call);
}

/* Output */

static void take_failure(struct filecall *f, const uint8_t *data, size_t len)
{
	API(Failure) *in = (void *)protobuf_c_message_unpack(
		&micropod__agent__v1__failure__descriptor, NULL, len, data);

	if (!in)
		return;
	failure_set(&f->failure, (enum failure_kind)in->kind,
		in->errno_value > 0 ? in->errno_value : EIO, in->step, in->object, "%s",
		in->message);
	protobuf_c_message_free_unpacked(&in->base, NULL);
}

static bool take_frames(struct filecall *f)
{
	size_t len = 0;
	char kind = 0;
	int r;

	while ((r = files_frame(f->frame.data, f->frame.len, &kind, &len)) > 0) {
		const uint8_t *message = (const uint8_t *)f->frame.data + FILES_HEAD;

		if (kind == FILES_FAILURE)
			take_failure(f, message, len);
		else if (rpc_call_send_raw(f->call, message, len) < 0)
			return false;
		strbuf_consume(&f->frame, FILES_HEAD + len);
	}
	return r == 0;
}

static bool send_output(void *arg, enum streams_id stream, const struct ring_piece *p)
{
	API(FileData) data = MICROPOD__AGENT__V1__FILE_DATA__INIT;
	struct filecall *f = arg;

	if (stream == STREAMS_ERR) {
		if (f->said.len < WORDS_OF_ERROR)
			strbuf_add(&f->said, p->data, MIN(p->len, (size_t)WORDS_OF_ERROR));
		return true;
	}
	if (f->is_tree) {
		data.data = (ProtobufCBinaryData){ p->len, (uint8_t *)(uintptr_t)p->data };
		return rpc_call_send(f->call, &data.base) == 0;
	}
	strbuf_add(&f->frame, p->data, p->len);
	if (strbuf_error(&f->frame) < 0 || !take_frames(f)) {
		reply_error(f->call, FAILURE_UNKNOWN, EIO, "answer", "",
			"the process that reads the container's files has given nonsense");
		return false;
	}
	return true;
}

static bool send_exit(void *arg, const struct process_exit *how)
{
	((struct filecall *)arg)->code = how->code;
	return true;
}

static void finished(void *arg)
{
	API(PutTreeResponse) put = MICROPOD__AGENT__V1__PUT_TREE_RESPONSE__INIT;
	struct filecall *f = arg;
	const char *said = f->said.data ? f->said.data : "";
	size_t skip = strlen(TOOLS_PREFIX);

	f->attach = NULL;
	if (f->failure.err.code)
		reply_failure(f->call, &f->failure);
	else if (f->code && strncmp(said, TOOLS_PREFIX, skip) == 0)
		reply_error(f->call, FAILURE_UNKNOWN, EIO, "tool", "", "%.*s",
			(int)strcspn(said + skip, "\n"), said + skip);
	else if (f->code)
		reply_error(f->call, FAILURE_UNKNOWN, EIO, "tool", "", "its process ended with %d",
			f->code);
	else if (f->answers_at_end)
		rpc_call_reply(f->call, &put.base);
	else
		rpc_call_finish_code(f->call, RPC_OK, "%s", "");
}

static void on_change(struct process_watch *watch)
{
	struct filecall *f = container_of(watch, struct filecall, watch);
	struct process *p = watch->process;
	const struct failure *why = NULL;
	int r = execs_started(p, &why);

	if (r < 0 || (!f->call && process_exit_known(p))) {
		struct failure copy = why ? *why : FAILURE_INIT;
		bool over = !f->call;

		process_delete(p);
		process_unwatch(&f->watch);
		if (!over)
			reply_failure(f->call, &copy);
		else
			filecall_free(f);
		return;
	}
	if (f->call)
		set_paused(f, streams_input_full(&p->io));
}

/* f's process, with these words for its tool. false: the call was answered. */
static bool begin(struct filecall *f, const API(FileScope) * scope, tree_tool tool, struct words *w)
{
	API(ProcessSpec) spec = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	struct attach_opts o = { .send_output = send_output,
		.send_exit = send_exit,
		.finished = finished,
		.arg = f,
		.call = f->call };
	struct failure why = FAILURE_INIT;
	struct process *p = NULL;
	bool known;
	int r;

	spec.n_args = w->n;
	spec.args = w->v;
	spec.user = scope ? scope->user : NULL;
	spec.open_stdin = f->first != NULL;
	r = execs_create(f->agent, scope ? scope->container_id : "", "", &spec, &p, &known, &why);
	if (r == 0) {
		p->tool = tool;
		r = execs_start(f->agent, p, &why);
		if (r < 0)
			process_delete(p);
	}
	if (r < 0) {
		reply_failure(f->call, &why);
		return false;
	}
	process_watch(p, &f->watch, on_change);
	r = attach_new(p, &o, &f->attach);
	if (r < 0)
		reply_error(f->call, FAILURE_UNKNOWN, -r, "", "", "out of memory");
	return r == 0;
}

static struct filecall *filecall_new(
	struct rpc_call *call, struct agent *agent, const struct rpc_call_ops *ops)
{
	struct filecall *f = calloc(1, sizeof(*f));

	if (!f) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return NULL;
	}
	f->call = rpc_call_ref(call);
	f->agent = agent;
	rpc_call_set_ops(call, ops, f);
	return f;
}

static void begin_request(struct rpc_call *call, struct agent *agent, const API(FileScope) * scope,
	tree_tool tool, struct words *w)
{
	static const struct rpc_call_ops ops = { .writable = on_writable, .done = on_call_done };
	struct filecall *f = filecall_new(call, agent, &ops);

	if (!f)
		return;
	f->is_tree = tool == tree_get;
	begin(f, scope, tool, w);
}

/* Requests */

void service_stat_file(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(StatFileRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	add(&w, "stat");
	add_bytes(&w, &req->path);
	if (req->follow)
		add(&w, "follow");
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_list_files(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(ListFilesRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	if (req->depth > LIMIT_LIST_DEPTH) {
		reply_error(call, FAILURE_LIMIT, E2BIG, "depth", "", "depth: at most %d",
			LIMIT_LIST_DEPTH);
		return;
	}
	add(&w, "list");
	add_bytes(&w, &req->path);
	add_number(&w, req->depth);
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_read_file(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(ReadFileRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	add(&w, "read");
	add_bytes(&w, &req->path);
	add_number(&w, MIN(req->offset, (uint64_t)INT64_MAX));
	add_number(&w, req->length);
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_make_folder(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(MakeFolderRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	add(&w, "mkdir");
	add_bytes(&w, &req->path);
	add_number(&w, req->mode ? req->mode & 07777 : 0755);
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_move_file(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(MoveFileRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path) || !path_is_good(call, "to", &req->to))
		return;
	add(&w, "move");
	add_bytes(&w, &req->path);
	add_bytes(&w, &req->to);
	if (req->overwrite)
		add(&w, "overwrite");
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_remove_file(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(RemoveFileRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	add(&w, "remove");
	add_bytes(&w, &req->path);
	if (req->recursive)
		add(&w, "recursive");
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_watch_files(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(WatchFilesRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	add(&w, "watch");
	add_bytes(&w, &req->path);
	if (req->recursive)
		add(&w, "recursive");
	begin_request(call, agent, req->scope, files_tool, &w);
}

void service_get_tree(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(GetTreeRequest) *req = (const void *)msg;
	ProtobufCBinaryData name = req->name;
	struct words w = { 0 };

	if (!path_is_good(call, "path", &req->path))
		return;
	if (!name.len) {
		const uint8_t *slash = memrchr(req->path.data, '/', req->path.len);

		name.data = (uint8_t *)(uintptr_t)slash + 1;
		name.len = req->path.len - (size_t)(name.data - req->path.data);
	}
	if (!name.len || memchr(name.data, 0, name.len)) {
		reply_error(call, FAILURE_INVALID, EINVAL, "name", "", "name: must be given");
		return;
	}
	add_bytes(&w, &req->path);
	add_bytes(&w, &name);
	if (req->follow)
		add(&w, "follow");
	begin_request(call, agent, req->scope, tree_get, &w);
}

/* Streams in */

static void take_data(struct filecall *f, const ProtobufCBinaryData *data)
{
	struct process *p = f->watch.process;

	/* What has ended does not read; its exit says why. */
	if (data->len)
		(void)streams_input(&p->io, data->data, data->len);
	set_paused(f, streams_input_full(&p->io));
}

static bool write_first(struct filecall *f, const ProtobufCMessage *msg)
{
	const API(WriteFileRequest) *req = (const void *)msg;
	struct words w = { 0 };
	char flags[8];

	if (!path_is_good(f->call, "path", &req->path))
		return false;
	snprintf(flags, sizeof(flags), "-%s%s%s", req->append ? "a" : "",
		req->make_folders ? "f" : "", req->exclusive ? "x" : "");
	add(&w, "write");
	add_bytes(&w, &req->path);
	add_number(&w, req->mode ? req->mode & 07777 : 0644);
	add(&w, flags);
	return begin(f, req->scope, files_tool, &w);
}

static bool put_first(struct filecall *f, const ProtobufCMessage *msg)
{
	const API(PutTreeRequest) *req = (const void *)msg;
	struct words w = { 0 };

	if (!path_is_good(f->call, "path", &req->path))
		return false;
	add_bytes(&w, &req->path);
	if (req->keep_owners)
		add(&w, "keep");
	f->answers_at_end = true;
	return begin(f, req->scope, tree_put, &w);
}

static void on_write_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct filecall *f = arg;

	if (f->watch.process || f->first(f, msg))
		take_data(f, &((const API(WriteFileRequest) *)(const void *)msg)->data);
}

static void on_put_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct filecall *f = arg;

	if (f->watch.process || f->first(f, msg))
		take_data(f, &((const API(PutTreeRequest) *)(const void *)msg)->data);
}

static void on_stream_end(struct rpc_call *call, void *arg)
{
	struct filecall *f = arg;

	if (f->watch.process)
		streams_input_close(&f->watch.process->io);
	else
		reply_error(call, FAILURE_INVALID, EINVAL, "path", "", "path: no message came");
}

void service_write_file(struct rpc_call *call, void *agent)
{
	static const struct rpc_call_ops ops = { .message = on_write_message,
		.end = on_stream_end,
		.writable = on_writable,
		.done = on_call_done };
	struct filecall *f = filecall_new(call, agent, &ops);

	if (f)
		f->first = write_first;
}

void service_put_tree(struct rpc_call *call, void *agent)
{
	static const struct rpc_call_ops ops = { .message = on_put_message,
		.end = on_stream_end,
		.writable = on_writable,
		.done = on_call_done };
	struct filecall *f = filecall_new(call, agent, &ops);

	if (f)
		f->first = put_first;
}
