/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interop-client --host H --port N --case NAME: one case of gRPC's doc/interop-test-descriptions.md
 * against any server. Prints "OK: NAME" and exits with 0, or says what was wrong and exits with 1.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "grpc/testing/test.pb-c.h"
#include "rpc/client.h"

#define SERVICE	       "/grpc.testing.TestService/"
#define LARGE_REQUEST  271828
#define LARGE_RESPONSE 314159
#define WAIT	       (20 * NSEC_PER_SEC)

typedef Grpc__Testing__SimpleRequest SimpleRequest;
typedef Grpc__Testing__SimpleResponse SimpleResponse;
typedef Grpc__Testing__StreamingOutputCallRequest OutputRequest;
typedef Grpc__Testing__StreamingOutputCallResponse OutputResponse;

struct client {
	struct loop *loop;
	struct rpc_channel *channel;
	/* the call underway */
	struct rpc_call *call;
	bool done;
	size_t messages;
	size_t sizes[16];
	bool compressed[16];
	int32_t sum;
	struct rpc_status status;
	char initial[64], trailing[64];
	size_t trailing_len;
};

static void fail(const char *fmt, ...) PRINTF(1, 2) __attribute__((noreturn));
static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

#define MUST(cond)                                                              \
	do {                                                                    \
		if (!(cond))                                                    \
			fail("%s:%d: not true: %s", __FILE__, __LINE__, #cond); \
	} while (0)

static void on_metadata(struct rpc_call *call, void *arg)
{
	struct client *c = arg;
	const char *value = rpc_call_peer_metadata(call, "x-grpc-test-echo-initial", 0, NULL);

	snprintf(c->initial, sizeof(c->initial), "%s", value ? value : "");
}

static void on_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct client *c = arg;
	size_t size = 0;

	if (msg->descriptor == &grpc__testing__simple_response__descriptor) {
		const SimpleResponse *answer = (const SimpleResponse *)msg;

		size = answer->payload ? answer->payload->body.len : 0;
	} else if (msg->descriptor == &grpc__testing__streaming_output_call_response__descriptor) {
		const OutputResponse *answer = (const OutputResponse *)msg;

		size = answer->payload ? answer->payload->body.len : 0;
	} else if (msg->descriptor == &grpc__testing__streaming_input_call_response__descriptor) {
		c->sum = ((const Grpc__Testing__StreamingInputCallResponse *)msg)
				 ->aggregated_payload_size;
	}
	if (c->messages < ARRAY_SIZE(c->sizes)) {
		c->sizes[c->messages] = size;
		c->compressed[c->messages] = rpc_call_message_compressed(call);
	}
	c->messages++;
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct client *c = arg;
	const void *value =
		rpc_call_peer_trailer(call, "x-grpc-test-echo-trailing-bin", 0, &c->trailing_len);

	if (value)
		memcpy(c->trailing, value, MIN(c->trailing_len, sizeof(c->trailing)));
	c->status = *status;
	c->done = true;
}

static const struct rpc_call_ops ops = {
	.metadata = on_metadata, .message = on_message, .done = on_done
};

static void open_call(struct client *c, const char *path, const ProtobufCMessageDescriptor *out,
	const struct rpc_call_opts *opts)
{
	struct loop *loop = c->loop;
	struct rpc_channel *channel = c->channel;

	*c = (struct client){ .loop = loop, .channel = channel };
	MUST(rpc_channel_call(channel, path, out, opts, &ops, c, &c->call) == 0);
}

static void wait_until(struct client *c, size_t messages)
{
	int64_t deadline = deadline_in(WAIT);

	while (!c->done && c->messages < messages) {
		MUST(clock_monotonic() < deadline);
		MUST(loop_once(c->loop, deadline) == 0);
	}
}

static void wait_done(struct client *c)
{
	wait_until(c, SIZE_MAX);
}

static void must_be(struct client *c, enum rpc_code code)
{
	if (c->status.code != code)
		fail("the call ended with %s (%s), not %s", rpc_code_name(c->status.code),
			c->status.message, rpc_code_name(code));
}

/* One request, and wait for the end. */
static void unary(struct client *c, const char *path, const ProtobufCMessage *req,
	const ProtobufCMessageDescriptor *out, const struct rpc_call_opts *opts)
{
	open_call(c, path, out, opts);
	MUST(rpc_call_send(c->call, req) == 0);
	rpc_call_half_close(c->call);
	rpc_call_start(c->call);
	wait_done(c);
}

static Grpc__Testing__Payload payload_of(size_t size)
{
	static uint8_t zeros[LARGE_REQUEST];
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body = (ProtobufCBinaryData){ size, zeros };
	return payload;
}

static void simple(struct client *c, SimpleRequest *req, const struct rpc_call_opts *opts)
{
	unary(c, SERVICE "UnaryCall", &req->base, &grpc__testing__simple_response__descriptor,
		opts);
}

static void send_output_request(struct client *c, int32_t response, size_t request)
{
	Grpc__Testing__ResponseParameters p = GRPC__TESTING__RESPONSE_PARAMETERS__INIT, *list = &p;
	OutputRequest req = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__Payload payload = payload_of(request);

	p.size = response;
	req.response_parameters = &list;
	req.n_response_parameters = 1;
	req.payload = &payload;
	MUST(rpc_call_send(c->call, &req.base) == 0);
}

static void open_duplex(struct client *c, const struct rpc_call_opts *opts)
{
	open_call(c, SERVICE "FullDuplexCall",
		&grpc__testing__streaming_output_call_response__descriptor, opts);
}

/* Cases */

static void empty_unary(struct client *c)
{
	Grpc__Testing__Empty req = GRPC__TESTING__EMPTY__INIT;

	unary(c, SERVICE "EmptyCall", &req.base, &grpc__testing__empty__descriptor, NULL);
	must_be(c, RPC_OK);
	MUST(c->messages == 1);
}

static void large(struct client *c, bool gzip, int expect, int respond)
{
	SimpleRequest req = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__Payload payload = payload_of(LARGE_REQUEST);
	Grpc__Testing__BoolValue expected = GRPC__TESTING__BOOL_VALUE__INIT,
				 wanted = GRPC__TESTING__BOOL_VALUE__INIT;
	struct rpc_call_opts opts = { .gzip = gzip };

	expected.value = expect > 0;
	wanted.value = respond > 0;
	req.response_size = LARGE_RESPONSE;
	req.payload = &payload;
	req.expect_compressed = expect >= 0 ? &expected : NULL;
	req.response_compressed = respond >= 0 ? &wanted : NULL;
	simple(c, &req, &opts);
}

static void large_unary(struct client *c)
{
	large(c, false, -1, -1);
	must_be(c, RPC_OK);
	MUST(c->messages == 1 && c->sizes[0] == LARGE_RESPONSE);
}

static void client_compressed_unary(struct client *c)
{
	large(c, false, 1, -1); /* the probe: the server must see that it is not compressed */
	must_be(c, RPC_INVALID_ARGUMENT);
	large(c, true, 1, -1);
	must_be(c, RPC_OK);
	MUST(c->sizes[0] == LARGE_RESPONSE);
	large(c, false, 0, -1);
	must_be(c, RPC_OK);
}

static void server_compressed_unary(struct client *c)
{
	large(c, false, -1, 1);
	must_be(c, RPC_OK);
	MUST(c->compressed[0] && c->sizes[0] == LARGE_RESPONSE);
	large(c, false, -1, 0);
	must_be(c, RPC_OK);
	MUST(!c->compressed[0] && c->sizes[0] == LARGE_RESPONSE);
}

static void send_input(struct client *c, size_t size, int expect)
{
	Grpc__Testing__StreamingInputCallRequest req =
		GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	Grpc__Testing__BoolValue expected = GRPC__TESTING__BOOL_VALUE__INIT;
	Grpc__Testing__Payload payload = payload_of(size);

	expected.value = expect > 0;
	req.payload = &payload;
	req.expect_compressed = expect >= 0 ? &expected : NULL;
	MUST(rpc_call_send(c->call, &req.base) == 0);
}

static void open_input(struct client *c, bool gzip)
{
	struct rpc_call_opts opts = { .gzip = gzip };

	open_call(c, SERVICE "StreamingInputCall",
		&grpc__testing__streaming_input_call_response__descriptor, &opts);
	rpc_call_start(c->call);
}

static void client_streaming(struct client *c)
{
	static const size_t sizes[] = { 27182, 8, 1828, 45904 };

	open_input(c, false);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		send_input(c, sizes[i], -1);
	rpc_call_half_close(c->call);
	wait_done(c);
	must_be(c, RPC_OK);
	MUST(c->sum == 74922);
}

static void client_compressed_streaming(struct client *c)
{
	open_input(c, false);
	send_input(c, 27182, 1);
	rpc_call_half_close(c->call);
	wait_done(c);
	must_be(c, RPC_INVALID_ARGUMENT);
	open_input(c, true);
	send_input(c, 27182, 1);
	rpc_call_set_gzip(c->call, false);
	send_input(c, 45904, 0);
	rpc_call_half_close(c->call);
	wait_done(c);
	must_be(c, RPC_OK);
	MUST(c->sum == 73086);
}

static void stream_out(struct client *c, const int32_t *sizes, const bool *compressed, size_t n)
{
	Grpc__Testing__ResponseParameters params[4], *list[4];
	Grpc__Testing__BoolValue values[4];
	OutputRequest req = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;

	for (size_t i = 0; i < n; i++) {
		grpc__testing__response_parameters__init(&params[i]);
		grpc__testing__bool_value__init(&values[i]);
		params[i].size = sizes[i];
		if (compressed) {
			values[i].value = compressed[i];
			params[i].compressed = &values[i];
		}
		list[i] = &params[i];
	}
	req.response_parameters = list;
	req.n_response_parameters = n;
	unary(c, SERVICE "StreamingOutputCall", &req.base,
		&grpc__testing__streaming_output_call_response__descriptor, NULL);
	must_be(c, RPC_OK);
	MUST(c->messages == n);
	for (size_t i = 0; i < n; i++)
		MUST(c->sizes[i] == (size_t)sizes[i] &&
			(!compressed || c->compressed[i] == compressed[i]));
}

static void server_streaming(struct client *c)
{
	stream_out(c, (const int32_t[]){ 31415, 9, 2653, 58979 }, NULL, 4);
}

static void server_compressed_streaming(struct client *c)
{
	stream_out(c, (const int32_t[]){ 31415, 92653 }, (const bool[]){ true, false }, 2);
}

static void ping_pong(struct client *c)
{
	static const int32_t responses[] = { 31415, 9, 2653, 58979 };
	static const size_t requests[] = { 27182, 8, 1828, 45904 };

	open_duplex(c, NULL);
	rpc_call_start(c->call);
	for (size_t i = 0; i < 4; i++) {
		send_output_request(c, responses[i], requests[i]);
		wait_until(c, i + 1);
		MUST(!c->done && c->sizes[i] == (size_t)responses[i]);
	}
	rpc_call_half_close(c->call);
	wait_done(c);
	must_be(c, RPC_OK);
}

static void empty_stream(struct client *c)
{
	open_duplex(c, NULL);
	rpc_call_half_close(c->call);
	rpc_call_start(c->call);
	wait_done(c);
	must_be(c, RPC_OK);
	MUST(!c->messages);
}

static void custom_metadata(struct client *c)
{
	SimpleRequest req = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__Payload payload = payload_of(LARGE_REQUEST);

	req.response_size = LARGE_RESPONSE;
	req.payload = &payload;
	for (int duplex = 0; duplex < 2; duplex++) {
		if (duplex)
			open_duplex(c, NULL);
		else
			open_call(c, SERVICE "UnaryCall",
				&grpc__testing__simple_response__descriptor, NULL);
		MUST(rpc_call_add_metadata(c->call, "x-grpc-test-echo-initial",
			     "test_initial_metadata_value", 27) == 0);
		MUST(rpc_call_add_metadata(
			     c->call, "x-grpc-test-echo-trailing-bin", "\xab\xab\xab", 3) == 0);
		if (duplex)
			send_output_request(c, LARGE_RESPONSE, LARGE_REQUEST);
		else
			MUST(rpc_call_send(c->call, &req.base) == 0);
		rpc_call_half_close(c->call);
		rpc_call_start(c->call);
		wait_done(c);
		must_be(c, RPC_OK);
		MUST(strcmp(c->initial, "test_initial_metadata_value") == 0);
		MUST(c->trailing_len == 3 && memcmp(c->trailing, "\xab\xab\xab", 3) == 0);
	}
}

static void status_case(struct client *c, const char *text)
{
	Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;
	SimpleRequest req = GRPC__TESTING__SIMPLE_REQUEST__INIT;

	status.code = 2;
	status.message = (char *)(uintptr_t)text;
	req.response_status = &status;
	simple(c, &req, NULL);
	must_be(c, RPC_UNKNOWN);
	MUST(strcmp(c->status.message, text) == 0);
}

static void status_code_and_message(struct client *c)
{
	OutputRequest req = GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;

	status_case(c, "test status message");
	status.code = 2;
	status.message = "test status message";
	req.response_status = &status;
	open_duplex(c, NULL);
	MUST(rpc_call_send(c->call, &req.base) == 0);
	rpc_call_half_close(c->call);
	rpc_call_start(c->call);
	wait_done(c);
	must_be(c, RPC_UNKNOWN);
	MUST(strcmp(c->status.message, "test status message") == 0);
}

static void special_status_message(struct client *c)
{
	status_case(
		c, "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001F608\t\n");
}

static void unimplemented_method(struct client *c)
{
	Grpc__Testing__Empty req = GRPC__TESTING__EMPTY__INIT;

	unary(c, SERVICE "UnimplementedCall", &req.base, &grpc__testing__empty__descriptor, NULL);
	must_be(c, RPC_UNIMPLEMENTED);
}

static void unimplemented_service(struct client *c)
{
	Grpc__Testing__Empty req = GRPC__TESTING__EMPTY__INIT;

	unary(c, "/grpc.testing.UnimplementedService/UnimplementedCall", &req.base,
		&grpc__testing__empty__descriptor, NULL);
	must_be(c, RPC_UNIMPLEMENTED);
}

static void cancel_after_begin(struct client *c)
{
	open_input(c, false);
	rpc_call_cancel(c->call);
	wait_done(c);
	must_be(c, RPC_CANCELLED);
}

static void cancel_after_first_response(struct client *c)
{
	open_duplex(c, NULL);
	rpc_call_start(c->call);
	send_output_request(c, 31415, 27182);
	wait_until(c, 1);
	MUST(!c->done);
	rpc_call_cancel(c->call);
	wait_done(c);
	must_be(c, RPC_CANCELLED);
}

static void timeout_on_sleeping_server(struct client *c)
{
	struct rpc_call_opts opts = { .deadline = deadline_in(NSEC_PER_MSEC) };

	open_duplex(c, &opts);
	/* Before the start, by which its time may be over already. */
	send_output_request(c, 31415, 27182);
	rpc_call_start(c->call);
	wait_done(c);
	must_be(c, RPC_DEADLINE_EXCEEDED);
}

static const struct {
	const char *name;
	void (*run)(struct client *c);
} cases[] = {
#define CASE(fn)        \
	{               \
#fn, fn \
	}
	CASE(empty_unary),
	CASE(large_unary),
	CASE(client_compressed_unary),
	CASE(server_compressed_unary),
	CASE(client_streaming),
	CASE(client_compressed_streaming),
	CASE(server_streaming),
	CASE(server_compressed_streaming),
	CASE(ping_pong),
	CASE(empty_stream),
	CASE(custom_metadata),
	CASE(status_code_and_message),
	CASE(special_status_message),
	CASE(unimplemented_method),
	CASE(unimplemented_service),
	CASE(cancel_after_begin),
	CASE(cancel_after_first_response),
	CASE(timeout_on_sleeping_server),
};

static void run_case(const char *address, const char *name)
{
	struct err err = ERR_INIT;
	struct client c = { 0 };
	size_t i = 0;

	while (i < ARRAY_SIZE(cases) && strcmp(cases[i].name, name) != 0)
		i++;
	if (i == ARRAY_SIZE(cases))
		fail("no case '%s'", name);
	MUST(loop_new(&c.loop) == 0);
	if (rpc_channel_new_addr(c.loop, address, &c.channel, &err) < 0)
		fail("%s", err.msg);
	cases[i].run(&c);
	rpc_channel_free(c.channel);
	loop_free(c.loop);
	printf("OK: %s\n", name);
}

int main(int argc, char **argv)
{
	const char *host = "127.0.0.1", *port = NULL, *name = NULL;
	char address[256];

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--host") == 0)
			host = argv[i + 1];
		else if (strcmp(argv[i], "--port") == 0)
			port = argv[i + 1];
		else if (strcmp(argv[i], "--case") == 0)
			name = argv[i + 1];
	}
	if (!port || !name)
		fail("usage: interop-client [--host H] --port N --case NAME");
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	snprintf(address, sizeof(address), "tcp:%s:%s", host, port);
	run_case(address, name);
	return 0;
}
