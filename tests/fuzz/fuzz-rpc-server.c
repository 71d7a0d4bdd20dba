/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 and gRPC framing at the server's end; the input stands behind the client's preface. */
#include "rpc-input.h"
#include "rpc/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void closed(struct rpc_conn *conn, const char *why, void *arg)
{
	*(bool *)arg = true;
}

static void echo_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	rpc_call_send_raw(call, raw, len);
}

static void echo_end(struct rpc_call *call, void *arg)
{
	rpc_call_finish(call, &RPC_STATUS_OK);
}

static void echo_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
}

static const struct rpc_call_ops echo_ops = {
	.message = echo_message, .end = echo_end, .done = echo_done
};

/* Beside health and reflection, which take decoded messages. */
static bool fallback(struct rpc_call *call, void *arg)
{
	rpc_call_set_ops(call, &echo_ops, NULL);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	bool gone = false;
	struct rpc_server_opts opts = {
		.fallback = fallback, .on_conn_closed = closed, .arg = &gone
	};
	uint8_t *all = malloc(sizeof(preface) - 1 + size);
	struct input_stream *in;
	struct rpc_server *server = NULL;
	struct loop *loop = NULL;

	if (!all || loop_new(&loop) < 0 || rpc_server_new(loop, &opts, &server) < 0)
		abort();
	memcpy(all, preface, sizeof(preface) - 1);
	if (size)
		memcpy(all + sizeof(preface) - 1, data, size);
	in = input_new(all, sizeof(preface) - 1 + size);
	if (rpc_server_add_stream(server, &in->s, NULL) == 0)
		input_run(loop, in, &gone);
	rpc_server_free(server);
	loop_free(loop);
	free(all);
	return 0;
}
