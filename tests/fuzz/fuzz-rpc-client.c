/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 and gRPC framing at the client's end, with three calls underway; the input is what the
 * server sends. */
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "rpc-input.h"
#include "rpc/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	const uint8_t *data;
	size_t size;
	struct input_stream *in;
	bool gone;
	int done;
};

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct fuzz *f = arg;

	if (f->in)
		return -ECONNREFUSED;
	f->in = input_new(f->data, f->size);
	*ret_stream = &f->in->s;
	return 0;
}

static void disconnected(struct rpc_channel *channel, const char *why, void *arg)
{
	((struct fuzz *)arg)->gone = true;
}

static void message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static void done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	((struct fuzz *)arg)->done++;
}

static const struct rpc_call_ops ops = { .message = message, .done = done };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = { .data = data, .size = size };
	struct rpc_channel_opts opts = {
		.dial = dial, .arg = &f, .on_disconnect = disconnected, .no_redial = true
	};
	struct rpc_channel *channel = NULL;
	struct loop *loop = NULL;

	if (loop_new(&loop) < 0 || rpc_channel_new(loop, &opts, &channel) < 0)
		abort();
	for (int i = 0; i < 3; i++) {
		struct rpc_call *call = NULL;

		if (rpc_channel_call(channel, "/a.B/C",
			    i ? &grpc__reflection__v1__server_reflection_response__descriptor
			      : NULL,
			    NULL, &ops, &f, &call) < 0)
			abort();
		rpc_call_send_raw(call, "hello", 5);
		if (i < 2)
			rpc_call_half_close(call);
		rpc_call_start(call);
	}
	loop_once(loop, 0);
	if (f.in)
		input_run(loop, f.in, &f.gone);
	rpc_channel_free(channel);
	if (f.done != 3)
		abort();
	loop_free(loop);
	return 0;
}
