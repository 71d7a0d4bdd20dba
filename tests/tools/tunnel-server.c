/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tunnel-server TUNNEL-ADDRESS LOCAL-ADDRESS TOKEN PARKED STATE: accepts one agent's tunnel, and
 * passes what is called at LOCAL-ADDRESS on to it. The credential is kept in the file STATE. Tells
 * what happens on stdout, a line each: "begun", "ended WHY". The token is good again when a line
 * comes on stdin.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.desc.h"
#include "base/id.h"
#include "base/parse.h"
#include "io/addr.h"
#include "rpc/proxy.h"
#include "tunnel/acceptor.h"

struct server {
	struct loop *loop;
	const char *token, *state;
	bool token_used;
	uint8_t credential[TUNNEL_CREDENTIAL_SIZE];
	struct io_stream *parked;
	struct rpc_channel *channel;
	struct loop_fd input;
};

static int on_enrol(
	void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err)
{
	struct server *s = arg;

	snprintf(name, TUNNEL_PEER_NAME, "agent");
	if (hello->credential.len == sizeof(s->credential) &&
		secret_equal(hello->credential.data, s->credential, sizeof(s->credential)))
		return 0;
	if (s->token_used || hello->token.len != strlen(s->token) ||
		!secret_equal(hello->token.data, s->token, hello->token.len))
		return err_set(err, EACCES, "the token is not good");
	s->token_used = true;
	return 0;
}

static void on_begun(void *arg, struct tunnel_peer *peer, const uint8_t *credential)
{
	struct server *s = arg;

	FILE *f = fopen(s->state, "w");

	memcpy(s->credential, credential, sizeof(s->credential));
	if (!f || fwrite(credential, sizeof(s->credential), 1, f) != 1 || fclose(f) != 0)
		loop_stop(s->loop, 1);
	puts("begun");
}

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct server *s = arg;

	if (!s->parked)
		return err_set(err, EAGAIN, "no stream");
	*ret_stream = s->parked;
	s->parked = NULL;
	return 0;
}

static void on_parked_event(void *arg, uint32_t events)
{
	struct server *s = arg;
	char byte;

	if (io_stream_read(s->parked, &byte, 1) != -EAGAIN)
		s->parked = io_stream_free(s->parked);
}

static void on_stream(void *arg, struct tunnel_peer *peer, struct io_stream *stream)
{
	struct server *s = arg;

	if (s->parked) {
		io_stream_free(stream);
		return;
	}
	stream->on_event = on_parked_event;
	stream->arg = s;
	s->parked = stream;
}

static void on_ended(void *arg, struct tunnel_peer *peer, const char *why)
{
	printf("ended %s\n", why);
}

static const struct tunnel_acceptor_ops acceptor_ops = {
	.enrol = on_enrol, .begun = on_begun, .stream = on_stream, .ended = on_ended
};

static bool pass_on(struct rpc_call *call, void *arg)
{
	return rpc_proxy_call(call, ((struct server *)arg)->channel);
}

static void on_input(struct loop_fd *src, uint32_t events)
{
	struct server *s = container_of(src, struct server, input);
	char line[64];

	if (read(0, line, sizeof(line)) <= 0)
		loop_stop(s->loop, 0);
	s->token_used = false;
}

static int listen_at(const char *text, struct rpc_server *server, struct err *err)
{
	struct addr addr;
	int fd = addr_parse(text, &addr, err);

	if (fd == 0)
		fd = addr_listen(&addr, 0666, err);
	return fd < 0 ? fd : rpc_server_listen(server, fd);
}

int main(int argc, char **argv)
{
	const struct rpc_descriptors agent_set = { agent_desc, agent_desc_len };
	struct server s = { 0 };
	struct rpc_server_opts tunnel_opts = { .max_message = TUNNEL_MESSAGE_MAX };
	struct rpc_server_opts local_opts = { .fallback = pass_on, .arg = &s };
	struct rpc_channel_opts channel_opts = { .dial = dial, .arg = &s };
	struct rpc_server *tunnel, *local;
	struct tunnel_acceptor *acceptor;
	struct err err = ERR_INIT;
	unsigned parked;
	FILE *f;

	if (argc != 6 || parse_uint(argv[4], 1, LIMIT_TUNNEL_LINKS, &parked) < 0) {
		fputs("usage: tunnel-server TUNNEL-ADDRESS LOCAL-ADDRESS TOKEN PARKED STATE\n",
			stderr);
		return 2;
	}
	s.state = argv[5];
	f = fopen(s.state, "r");
	if (f && (s.token_used = fread(s.credential, sizeof(s.credential), 1, f) == 1))
		fclose(f);
	setvbuf(stdout, NULL, _IOLBF, 0);
	s.token = argv[3];
	if (loop_new(&s.loop) < 0 || rpc_server_new(s.loop, &tunnel_opts, &tunnel) < 0 ||
		rpc_server_new(s.loop, &local_opts, &local) < 0 ||
		rpc_server_add_descriptors(local, &agent_set) < 0 ||
		rpc_channel_new(s.loop, &channel_opts, &s.channel) < 0 ||
		tunnel_acceptor_new(s.loop, tunnel, parked, &acceptor_ops, &s, &acceptor) < 0 ||
		loop_fd_add(s.loop, &s.input, 0, EPOLLIN, on_input) < 0)
		return 1;
	if (listen_at(argv[1], tunnel, &err) < 0 || listen_at(argv[2], local, &err) < 0) {
		fprintf(stderr, "tunnel-server: %s\n", err.msg);
		return 1;
	}
	puts("listening");
	loop_run(s.loop);
	rpc_server_free(local);
	rpc_channel_free(s.channel);
	rpc_server_free(tunnel);
	io_stream_free(s.parked);
	tunnel_acceptor_free(acceptor);
	loop_free(s.loop);
	return 0;
}
