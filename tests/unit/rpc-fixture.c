/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc-fixture.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* The service */

static void fx_held_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct fixture *f = arg;

	f->held_dones++;
	f->held_done = *status;
	f->held_done.details = NULL;
	if (f->held == call)
		f->held = rpc_call_unref(call);
}

static const struct rpc_call_ops fx_held_ops = { .done = fx_held_done };

static void fx_hold(struct fixture *f, struct rpc_call *call, const struct rpc_call_ops *ops)
{
	if (f->held)
		rpc_call_unref(f->held);
	f->held = rpc_call_ref(call);
	rpc_call_set_ops(call, ops, f);
}

static void fx_unary(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Test__Msg *req = (const Test__Msg *)msg;
	size_t len;
	const void *value = rpc_call_peer_metadata(call, "x-echo", 0, &len);

	if (value)
		rpc_call_add_metadata(call, "x-echo", value, len);
	value = rpc_call_peer_metadata(call, "x-echo-bin", 0, &len);
	if (value)
		rpc_call_add_trailer(call, "x-echo-bin", value, len);
	if (strcmp(req->text, "hold") == 0)
		fx_hold(arg, call, &fx_held_ops);
	else if (strcmp(req->text, "fail") == 0)
		rpc_call_finish_code(call, (enum rpc_code)req->count, "%.*s", (int)req->data.len,
			(char *)req->data.data);
	else if (strcmp(req->text, "flaky") == 0 &&
		 ((struct fixture *)arg)->flaky++ < (int)req->count)
		rpc_call_finish_code(call, RPC_UNAVAILABLE, "not now");
	else if (strcmp(req->text, "gzip") == 0)
		rpc_call_set_gzip(call, true), rpc_call_reply(call, msg);
	else
		rpc_call_reply(call, msg);
}

struct fx_download {
	struct fixture *f;
	uint32_t left, size;
	uint8_t *data;
};

static void fx_download_more(struct rpc_call *call, void *arg)
{
	struct fx_download *d = arg;

	while (d->left && rpc_call_writable(call)) {
		Test__Msg out = TEST__MSG__INIT;

		out.data = (ProtobufCBinaryData){ d->size, d->data };
		out.count = --d->left;
		REQUIRE(rpc_call_send(call, &out.base) == 0);
		d->f->held_bytes += d->size;
	}
	if (!d->left)
		rpc_call_finish(call, &RPC_STATUS_OK);
}

static void fx_download_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct fx_download *d = arg;

	d->f->held_dones++;
	d->f->held_done = *status;
	d->f->held_done.details = NULL;
	free(d->data);
	free(d);
}

static const struct rpc_call_ops fx_download_ops = { .writable = fx_download_more,
	.done = fx_download_done };

static void fx_download(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Test__Msg *req = (const Test__Msg *)msg;
	struct fx_download *d = calloc(1, sizeof(*d));

	*d = (struct fx_download){ arg, req->count, req->size, calloc(1, req->size + 1) };
	d->f->held_bytes = 0;
	rpc_call_set_ops(call, &fx_download_ops, d);
	fx_download_more(call, d);
}

static void fx_upload_message(struct rpc_call *call, const ProtobufCMessage *msg,
	const uint8_t *raw, size_t len, void *arg)
{
	struct fixture *f = arg;

	f->held_bytes += ((const Test__Msg *)msg)->data.len;
	if (strcmp(((const Test__Msg *)msg)->text, "pause") == 0)
		rpc_call_pause(call);
}

static void fx_upload_end(struct rpc_call *call, void *arg)
{
	struct fixture *f = arg;
	Test__Msg out = TEST__MSG__INIT;

	out.count = (uint32_t)f->held_bytes;
	rpc_call_reply(call, &out.base);
}

static const struct rpc_call_ops fx_upload_ops = {
	.message = fx_upload_message,
	.end = fx_upload_end,
	.done = fx_held_done,
};

static void fx_upload(struct rpc_call *call, void *arg)
{
	((struct fixture *)arg)->held_bytes = 0;
	fx_hold(arg, call, &fx_upload_ops);
}

static void fx_chat_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	REQUIRE(rpc_call_send(call, msg) == 0);
}

static void fx_chat_end(struct rpc_call *call, void *arg)
{
	rpc_call_finish(call, &RPC_STATUS_OK);
}

static const struct rpc_call_ops fx_chat_ops = {
	.message = fx_chat_message,
	.end = fx_chat_end,
	.done = fx_held_done,
};

static void fx_chat(struct rpc_call *call, void *arg)
{
	fx_hold(arg, call, &fx_chat_ops);
}

static const struct rpc_method fx_methods[] = {
	{ "Unary", &test__msg__descriptor, &test__msg__descriptor, false, false, fx_unary, NULL },
	{ "Download", &test__msg__descriptor, &test__msg__descriptor, false, true, fx_download,
		NULL },
	{ "Upload", &test__msg__descriptor, &test__msg__descriptor, true, false, NULL, fx_upload },
	{ "Chat", &test__msg__descriptor, &test__msg__descriptor, true, true, NULL, fx_chat },
};
static const struct rpc_service fx_service = { "test.Echo", fx_methods, ARRAY_SIZE(fx_methods) };

/* Both ends */

static void fx_on_call(
	const struct rpc_call *call, const struct rpc_status *status, int64_t duration, void *arg)
{
	REQUIRE(duration >= 0);
	((struct fixture *)arg)->calls++;
	((struct fixture *)arg)->last_code = status->code;
}

static void fx_on_conn_closed(struct rpc_conn *conn, const char *why, void *arg)
{
	struct fixture *f = arg;

	f->closed++;
	snprintf(f->closed_why, sizeof(f->closed_why), "%s", why);
	if (f->conn == conn)
		f->conn = NULL;
}

int fx_connect(struct fixture *f)
{
	struct io_stream *stream = NULL;
	int fds[2];

	REQUIRE(fd_socketpair(fds) == 0);
	REQUIRE(io_stream_new_fd(f->loop, fds[1], &stream) == 0);
	REQUIRE(rpc_server_add_stream(f->server, stream, &f->conn) == 0);
	return fds[0];
}

int fx_dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct fixture *f = arg;

	f->dials++;
	if (f->refuse_dials && f->refuse_dials-- > 0)
		return err_set(err, ECONNREFUSED, "nobody listens");
	return io_stream_new_fd(loop, fx_connect(f), ret_stream);
}

static void fx_on_disconnect(struct rpc_channel *channel, const char *why, void *arg)
{
	((struct fixture *)arg)->disconnects++;
}

void fx_start(struct fixture *f)
{
	REQUIRE(loop_new(&f->loop) == 0);
	f->sopts.on_call = fx_on_call;
	f->sopts.on_conn_closed = fx_on_conn_closed;
	f->sopts.arg = f;
	REQUIRE(rpc_server_new(f->loop, &f->sopts, &f->server) == 0);
	REQUIRE(rpc_server_add_service(f->server, &fx_service, NULL, f) == 0);
	if (!f->copts.dial)
		f->copts.dial = fx_dial;
	f->copts.on_disconnect = fx_on_disconnect;
	f->copts.arg = f;
	REQUIRE(rpc_channel_new(f->loop, &f->copts, &f->channel) == 0);
}

void fx_stop(struct fixture *f)
{
	f->channel = rpc_channel_free(f->channel);
	f->server = rpc_server_free(f->server);
	REQUIRE(!f->held);
	f->loop = loop_free(f->loop);
}

void fx_idle(struct fixture *f, int64_t ns)
{
	int64_t until = deadline_in(ns);

	while (clock_monotonic() < until)
		REQUIRE(loop_once(f->loop, until) == 0);
}

static void rec_event(struct record *r, char c)
{
	if (r->n_events + 1 < sizeof(r->events))
		r->events[r->n_events++] = c;
}

static void rec_metadata(struct rpc_call *call, void *arg)
{
	struct record *r = arg;
	const char *value = rpc_call_peer_metadata(call, "x-echo", 0, NULL);

	rec_event(r, 'm');
	if (value)
		snprintf(r->meta, sizeof(r->meta), "%s", value);
}

static void rec_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct record *r = arg;

	rec_event(r, 'M');
	r->messages++;
	r->bytes += msg ? ((const Test__Msg *)msg)->data.len : len;
	r->compressed = rpc_call_message_compressed(call);
	if (r->pause_each)
		rpc_call_pause(call);
}

static void rec_end(struct rpc_call *call, void *arg)
{
	rec_event(arg, 'e');
}

static void rec_writable(struct rpc_call *call, void *arg)
{
	rec_event(arg, 'w');
}

static void rec_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct record *r = arg;
	const void *value = rpc_call_peer_trailer(call, "x-echo-bin", 0, &r->trailer_len);

	rec_event(r, 'd');
	if (value)
		memcpy(r->trailer, value, MIN(r->trailer_len, sizeof(r->trailer)));
	r->status = *status;
	r->status.details = NULL;
	r->call = NULL;
}

const struct rpc_call_ops rec_ops = {
	.metadata = rec_metadata,
	.message = rec_message,
	.end = rec_end,
	.writable = rec_writable,
	.done = rec_done,
};

void rec_call(
	struct fixture *f, struct record *r, const char *method, const struct rpc_call_opts *opts)
{
	char path[64];

	*r = (struct record){ 0 };
	snprintf(path, sizeof(path), "/test.Echo/%s", method);
	REQUIRE(rpc_channel_call(f->channel, path, &test__msg__descriptor, opts, &rec_ops, r,
			&r->call) == 0);
}

int rec_send(struct record *r, const char *text, uint32_t count, uint32_t size, size_t data)
{
	Test__Msg msg = TEST__MSG__INIT;
	auto_free uint8_t *bytes = calloc(1, data + 1);

	msg.text = (char *)(uintptr_t)text;
	msg.count = count;
	msg.size = size;
	msg.data = (ProtobufCBinaryData){ data, bytes };
	return rpc_call_send(r->call, &msg.base);
}

void rec_unary(struct fixture *f, struct record *r, const char *method, const char *text,
	uint32_t count, uint32_t size, const struct rpc_call_opts *opts)
{
	rec_call(f, r, method, opts);
	REQUIRE(rec_send(r, text, count, size, 0) == 0);
	rpc_call_half_close(r->call);
	rpc_call_start(r->call);
}
