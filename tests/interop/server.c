/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interop-server --port N | --listen unix:PATH: grpc.testing.TestService as gRPC's
 * doc/interop-test-descriptions.md wants it. Port 0: any; the port is printed.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/parse.h"
#include "grpc/testing/test.desc.h"
#include "grpc/testing/test.pb-c.h"
#include "io/addr.h"
#include "rpc/server.h"

#define INITIAL_KEY  "x-grpc-test-echo-initial"
#define TRAILING_KEY "x-grpc-test-echo-trailing-bin"
#define MAX_PAYLOAD  (8 * 1024 * 1024)

/* What custom_metadata wants back. */
static void echo_metadata(struct rpc_call *call)
{
	size_t len;
	const void *value = rpc_call_peer_metadata(call, INITIAL_KEY, 0, &len);

	if (value)
		rpc_call_add_metadata(call, INITIAL_KEY, value, len);
	value = rpc_call_peer_metadata(call, TRAILING_KEY, 0, &len);
	if (value)
		rpc_call_add_trailer(call, TRAILING_KEY, value, len);
}

/* Whether the call goes on: it was not asked to end with a status. */
static bool asked_for_status(struct rpc_call *call, const Grpc__Testing__EchoStatus *status)
{
	if (!status || !status->code)
		return false;
	rpc_call_finish_code(call, (enum rpc_code)status->code, "%s", status->message);
	return true;
}

static bool wrong_compression(struct rpc_call *call, const Grpc__Testing__BoolValue *expected)
{
	if (!expected || expected->value == rpc_call_message_compressed(call))
		return false;
	rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "the message is %scompressed",
		expected->value ? "not " : "");
	return true;
}

static void empty_call(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	Grpc__Testing__Empty answer = GRPC__TESTING__EMPTY__INIT;

	echo_metadata(call);
	rpc_call_reply(call, &answer.base);
}

static void unary_call(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Grpc__Testing__SimpleRequest *req = (const Grpc__Testing__SimpleRequest *)msg;
	Grpc__Testing__SimpleResponse answer = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	if (wrong_compression(call, req->expect_compressed))
		return;
	echo_metadata(call);
	if (asked_for_status(call, req->response_status))
		return;
	if (req->response_size < 0 || req->response_size > MAX_PAYLOAD) {
		rpc_call_finish_code(
			call, RPC_INVALID_ARGUMENT, "response_size %d", req->response_size);
		return;
	}
	if (req->response_compressed)
		rpc_call_set_gzip(call, req->response_compressed->value);
	payload.type = req->response_type;
	payload.body.len = (size_t)req->response_size;
	payload.body.data = calloc(1, payload.body.len + 1);
	answer.payload = &payload;
	rpc_call_reply(call, &answer.base);
	free(payload.body.data);
}

/* Streams of answers: what has been asked for stands in a queue that time and the reader's pace
 * work off. */

struct wanted {
	struct list link;
	size_t size;
	int64_t interval;
	bool compressed, has_compressed;
};

struct stream {
	struct rpc_call *call;
	struct loop *loop;
	struct list queue;
	struct loop_timer timer;
	int64_t last;
	bool ended; /* the client has */
	bool once;  /* StreamingOutputCall: one request */
};

static void stream_go_on(struct stream *s);

static void on_interval(struct loop_timer *timer)
{
	stream_go_on(container_of(timer, struct stream, timer));
}

static void send_payload(struct stream *s, const struct wanted *w)
{
	Grpc__Testing__StreamingOutputCallResponse answer =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body.len = w->size;
	payload.body.data = calloc(1, w->size + 1);
	answer.payload = &payload;
	if (w->has_compressed)
		rpc_call_set_gzip(s->call, w->compressed);
	rpc_call_send(s->call, &answer.base);
	free(payload.body.data);
}

static void stream_go_on(struct stream *s)
{
	while (!list_empty(&s->queue) && rpc_call_writable(s->call)) {
		struct wanted *w = list_entry(s->queue.next, struct wanted, link);

		if (s->last + w->interval > clock_monotonic()) {
			loop_timer_arm(s->loop, &s->timer, s->last + w->interval, on_interval);
			return;
		}
		send_payload(s, w);
		s->last = clock_monotonic();
		list_remove(&w->link);
		free(w);
	}
	if (list_empty(&s->queue) && s->ended)
		rpc_call_finish(s->call, &RPC_STATUS_OK);
}

static void stream_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Grpc__Testing__StreamingOutputCallRequest *req =
		(const Grpc__Testing__StreamingOutputCallRequest *)msg;
	struct stream *s = arg;

	if (asked_for_status(call, req->response_status))
		return;
	for (size_t i = 0; i < req->n_response_parameters; i++) {
		const Grpc__Testing__ResponseParameters *p = req->response_parameters[i];
		struct wanted *w = calloc(1, sizeof(*w));

		if (!w || p->size < 0 || p->size > MAX_PAYLOAD) {
			free(w);
			rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "size %d", p->size);
			return;
		}
		w->size = (size_t)p->size;
		w->interval = p->interval_us * NSEC_PER_USEC;
		w->has_compressed = p->compressed != NULL;
		w->compressed = p->compressed && p->compressed->value;
		if (w->compressed) /* before the headers, to be announced there */
			rpc_call_set_gzip(call, true);
		list_add_tail(&s->queue, &w->link);
	}
	stream_go_on(s);
}

static void stream_end(struct rpc_call *call, void *arg)
{
	struct stream *s = arg;

	s->ended = true;
	stream_go_on(s);
}

static void stream_writable(struct rpc_call *call, void *arg)
{
	stream_go_on(arg);
}

static void stream_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct stream *s = arg;

	loop_timer_disarm(&s->timer);
	while (!list_empty(&s->queue)) {
		struct wanted *w = list_entry(s->queue.next, struct wanted, link);

		list_remove(&w->link);
		free(w);
	}
	free(s);
}

static const struct rpc_call_ops stream_ops = {
	.message = stream_message,
	.end = stream_end,
	.writable = stream_writable,
	.done = stream_done,
};

static struct stream *stream_new(struct rpc_call *call, struct loop *loop)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	s->call = call;
	s->loop = loop;
	list_init(&s->queue);
	rpc_call_set_ops(call, &stream_ops, s);
	return s;
}

static void streaming_output_call(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	struct stream *s = stream_new(call, arg);

	s->ended = true;
	stream_message(call, msg, NULL, 0, s);
}

static void full_duplex_call(struct rpc_call *call, void *arg)
{
	echo_metadata(call);
	stream_new(call, arg);
}

/* StreamingInputCall */

static void input_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Grpc__Testing__StreamingInputCallRequest *req =
		(const Grpc__Testing__StreamingInputCallRequest *)msg;
	size_t *sum = arg;

	if (!wrong_compression(call, req->expect_compressed) && req->payload)
		*sum += req->payload->body.len;
}

static void input_end(struct rpc_call *call, void *arg)
{
	Grpc__Testing__StreamingInputCallResponse answer =
		GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

	answer.aggregated_payload_size = (int32_t) * (size_t *)arg;
	rpc_call_reply(call, &answer.base);
}

static void input_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	free(arg);
}

static const struct rpc_call_ops input_ops = {
	.message = input_message, .end = input_end, .done = input_done
};

static void streaming_input_call(struct rpc_call *call, void *arg)
{
	rpc_call_set_ops(call, &input_ops, calloc(1, sizeof(size_t)));
}

#define TYPES(in_, out_) \
	.in = &grpc__testing__##in_##__descriptor, .out = &grpc__testing__##out_##__descriptor

/* UnimplementedCall is in the service and not here: that is its test. */
static const struct rpc_method methods[] = {
	{ .name = "EmptyCall", TYPES(empty, empty), .request = empty_call },
	{ .name = "UnaryCall", TYPES(simple_request, simple_response), .request = unary_call },
	{ .name = "CacheableUnaryCall",
		TYPES(simple_request, simple_response),
		.request = unary_call },
	{
		.name = "StreamingOutputCall",
		TYPES(streaming_output_call_request, streaming_output_call_response),
		.server_streams = true,
		.request = streaming_output_call,
	},
	{
		.name = "StreamingInputCall",
		TYPES(streaming_input_call_request, streaming_input_call_response),
		.client_streams = true,
		.open = streaming_input_call,
	},
	{
		.name = "FullDuplexCall",
		TYPES(streaming_output_call_request, streaming_output_call_response),
		.client_streams = true,
		.server_streams = true,
		.open = full_duplex_call,
	},
	{
		.name = "HalfDuplexCall",
		TYPES(streaming_output_call_request, streaming_output_call_response),
		.client_streams = true,
		.server_streams = true,
		.open = full_duplex_call,
	},
};
static const struct rpc_service service = { "grpc.testing.TestService", methods,
	ARRAY_SIZE(methods) };

static int listen_tcp(unsigned port, struct err *err)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	struct addr addr;
	char text[64];
	int fd;

	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", port);
	if (addr_parse(text, &addr, err) < 0)
		return -1;
	fd = addr_listen(&addr, 0, err);
	if (fd >= 0 && getsockname(fd, (struct sockaddr *)&sin, &len) == 0)
		printf("port %u\n", ntohs(sin.sin_port));
	return fd;
}

static int listen_any(const char *option, const char *value, struct err *err)
{
	struct addr addr;
	unsigned port;

	if (strcmp(option, "--port") == 0 && parse_uint(value, 0, 65535, &port) == 0)
		return listen_tcp(port, err);
	if (strcmp(option, "--listen") == 0 && addr_parse(value, &addr, err) == 0)
		return addr_listen(&addr, 0600, err);
	return err_set(err, EINVAL, "unknown option %s %s", option, value);
}

static void on_drained(void *arg)
{
	loop_stop(arg, 0);
}

static struct rpc_server *term_server;

static void on_term(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	rpc_server_drain(term_server, on_drained, sigs->src.loop);
}

int main(int argc, char **argv)
{
	struct rpc_server_opts opts = { 0 };
	struct loop_signals sigs;
	struct err err = ERR_INIT;
	struct loop *loop = NULL;
	sigset_t mask;
	int fd, r;

	if (argc != 3) {
		fprintf(stderr, "usage: interop-server --port N | --listen unix:PATH\n");
		return 2;
	}
	fd = listen_any(argv[1], argv[2], &err);
	if (fd < 0) {
		fprintf(stderr, "interop-server: %s\n", err.msg);
		return 1;
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	if (loop_new(&loop) < 0 || rpc_server_new(loop, &opts, &term_server) < 0 ||
		rpc_server_add_service(term_server, &service, NULL, loop) < 0 ||
		rpc_server_add_descriptors(
			term_server, &(struct rpc_descriptors){ grpc_testing_test_desc,
					     grpc_testing_test_desc_len }) < 0 ||
		rpc_server_listen(term_server, fd) < 0 ||
		loop_signals_add(loop, &sigs, &mask, on_term) < 0) {
		fprintf(stderr, "interop-server: out of memory\n");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	r = loop_run(loop);
	rpc_server_free(term_server);
	loop_signals_remove(&sigs);
	loop_free(loop);
	return r < 0;
}
