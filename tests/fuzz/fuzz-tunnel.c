/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's end of the tunnel against an agent that sends anything: each record of the input is a
 * call of the client's (which method, with which credential) or a message on one of those that are
 * open.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/client.h"
#include "tunnel/acceptor.h"

#define CALLS 8

static uint8_t credential[TUNNEL_CREDENTIAL_SIZE];
static struct io_stream *streams[64];
static unsigned n_streams;
static int client_fd;

static int on_enrol(
	void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err)
{
	size_t len = hello->token.len ? hello->token.len : hello->credential.len;

	if (!len || len > LIMIT_TUNNEL_SECRET)
		abort();
	snprintf(name, TUNNEL_PEER_NAME, "%zu", len % 3);
	return len & 1 ? 0 : err_set(err, EACCES, "no");
}

static void on_begun(void *arg, struct tunnel_peer *peer, const uint8_t *secret)
{
	memcpy(credential, secret, sizeof(credential));
}

static void on_stream(void *arg, struct tunnel_peer *peer, struct io_stream *stream)
{
	uint8_t byte[3];
	struct iovec iov = { (void *)(uintptr_t) "abc", 3 };

	stream->ops->writev(stream, &iov, 1);
	(void)io_stream_read(stream, byte, sizeof(byte));
	if (n_streams < ARRAY_SIZE(streams))
		streams[n_streams++] = stream;
	else
		io_stream_free(stream);
}

static void on_ended(void *arg, struct tunnel_peer *peer, const char *why)
{
	if (!why)
		abort();
}

static const struct tunnel_acceptor_ops ops = {
	.enrol = on_enrol, .begun = on_begun, .stream = on_stream, .ended = on_ended
};

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	int fd = client_fd;

	client_fd = -1;
	return fd < 0 ? -ENOTCONN : io_stream_new_fd(loop, fd, ret_stream);
}

static void on_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	*(struct rpc_call **)arg = NULL;
}

static const struct rpc_call_ops call_ops = { .message = on_message, .done = on_done };

static void open_call(struct rpc_channel *channel, struct rpc_call **slot, uint8_t how)
{
	struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };

	if (*slot || rpc_channel_call(channel,
			     how & 1 ? "/micropod.tunnel.v1.Tunnel/Serve"
				     : "/micropod.tunnel.v1.Tunnel/Register",
			     NULL, &opts, &call_ops, slot, slot) < 0)
		return;
	if (how & 2)
		rpc_call_add_metadata(*slot, "micropod-credential-bin", credential,
			how & 4 ? sizeof(credential) : sizeof(credential) - 1);
	rpc_call_start(*slot);
}

static void turn(struct loop *loop)
{
	for (int i = 0; i < 8; i++)
		loop_once(loop, 0);
	for (unsigned i = 0; i < n_streams; i++) {
		uint8_t buf[4096];
		ssize_t n = io_stream_read(streams[i], buf, sizeof(buf));

		if (n > 0 || n == -EAGAIN)
			continue;
		io_stream_free(streams[i]);
		streams[i--] = streams[--n_streams];
	}
}

static void play(struct loop *loop, struct rpc_channel *channel, const uint8_t *data, size_t size)
{
	struct rpc_call *calls[CALLS] = { 0 };

	while (size >= 2) {
		struct rpc_call **slot = &calls[data[0] % CALLS];
		uint8_t what = data[0] / CALLS, more = data[1];
		size_t len = MIN((size_t)more, size - 2);

		data += 2;
		size -= 2;
		if (what % 4 == 0) {
			open_call(channel, slot, more);
			len = 0;
		} else if (!*slot) {
			len = 0;
		} else if (what % 4 == 1) {
			rpc_call_half_close(*slot);
			len = 0;
		} else {
			rpc_call_send_raw(*slot, data, len);
		}
		data += len;
		size -= len;
		turn(loop);
	}
	turn(loop);
	rpc_channel_free(channel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rpc_server_opts opts = { .max_message = TUNNEL_MESSAGE_MAX };
	struct rpc_channel_opts channel_opts = { .dial = dial, .no_redial = true };
	struct tunnel_acceptor *acceptor;
	struct rpc_channel *channel;
	struct io_stream *stream;
	struct rpc_server *server;
	struct loop *loop;
	int fds[2];

	if (loop_new(&loop) < 0 || rpc_server_new(loop, &opts, &server) < 0 ||
		tunnel_acceptor_new(loop, server, 1, &ops, NULL, &acceptor) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
		io_stream_new_fd(loop, fds[0], &stream) < 0 ||
		rpc_server_add_stream(server, stream, NULL) < 0)
		abort();
	client_fd = fds[1];
	if (rpc_channel_new(loop, &channel_opts, &channel) < 0)
		abort();
	play(loop, channel, data, size);
	turn(loop);
	rpc_server_free(server);
	while (n_streams)
		io_stream_free(streams[--n_streams]);
	tunnel_acceptor_free(acceptor);
	if (client_fd >= 0)
		close(client_fd);
	loop_free(loop);
	return 0;
}
