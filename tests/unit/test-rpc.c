/* SPDX-License-Identifier: Apache-2.0 */
/* Calls between a server and a channel, both ends in one loop. */
#include <errno.h>

#include "rpc-fixture.h"

static void unary_in_order(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	for (int i = 0; i < 3; i++) {
		rec_call(&f, &r, "Unary", NULL);
		CHECK_INT(rpc_call_add_metadata(r.call, "x-echo", "hello there", 11), 0);
		CHECK_INT(rpc_call_add_metadata(r.call, "x-echo-bin", "\0\xff\x01", 3), 0);
		CHECK_INT(rec_send(&r, "hi", 1, 2, 1000), 0);
		rpc_call_half_close(r.call);
		rpc_call_start(r.call);
		RUN_UNTIL(&f, !r.call);
		CHECK_STR(r.events, "mMed");
		CHECK_INT(r.status.code, RPC_OK);
		CHECK_INT(r.bytes, 1000);
		CHECK_STR(r.meta, "hello there");
		CHECK_INT(r.trailer_len, 3);
		CHECK(memcmp(r.trailer, "\0\xff\x01", 3) == 0);
	}
	CHECK_INT(f.dials, 1);
	CHECK_INT(f.calls, 3);
}

static void unary_blocking(void)
{
	FIXTURE(f);
	Test__Msg req = TEST__MSG__INIT;
	ProtobufCMessage *answer = NULL;
	struct err err = ERR_INIT;
	struct rpc_status status;

	fx_start(&f);
	req.text = "hi";
	req.size = 7;
	CHECK_INT(rpc_channel_unary(f.channel, "/test.Echo/Unary", &req.base,
			  &test__msg__descriptor, NULL, &answer, NULL, &err),
		0);
	REQUIRE(answer);
	CHECK_STR(((Test__Msg *)answer)->text, "hi");
	CHECK_INT(((Test__Msg *)answer)->size, 7);
	protobuf_c_message_free_unpacked(answer, NULL);
	req.text = "fail";
	req.count = RPC_NOT_FOUND;
	req.data = (ProtobufCBinaryData){ 8, (uint8_t *)(uintptr_t) "not here" };
	CHECK_INT(rpc_channel_unary(f.channel, "/test.Echo/Unary", &req.base,
			  &test__msg__descriptor, NULL, &answer, &status, &err),
		-ENOENT);
	CHECK_STR(err.msg, "not here");
	CHECK_INT(status.code, RPC_NOT_FOUND);
	rpc_status_deinit(&status);
}

static void errors_are_trailers_only(void)
{
	static const char text[] = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP "
				   "\U0001F608 100%\t\n";
	FIXTURE(f);
	struct record r;
	Test__Msg req = TEST__MSG__INIT;

	fx_start(&f);
	rec_call(&f, &r, "Unary", NULL);
	req.text = "fail";
	req.count = RPC_UNKNOWN;
	req.data = (ProtobufCBinaryData){ sizeof(text) - 1, (uint8_t *)(uintptr_t)text };
	CHECK_INT(rpc_call_send(r.call, &req.base), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_STR(r.events, "ed"); /* no initial metadata */
	CHECK_INT(r.status.code, RPC_UNKNOWN);
	CHECK_STR(r.status.message, text);
	REQUIRE(rpc_channel_call(f.channel, "/test.Echo/Nothing", &test__msg__descriptor, NULL,
			&rec_ops, &r, &r.call) == 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNIMPLEMENTED);
}

static void server_streams(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_unary(&f, &r, "Download", "", 5, 100, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_STR(r.events, "mMMMMMed");
	CHECK_INT(r.bytes, 500);
	rec_unary(&f, &r, "Download", "", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_STR(r.events, "med");
	rec_unary(&f, &r, "Download", "", 40, 1000000, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.bytes, 40000000);
	CHECK_INT(r.status.code, RPC_OK);
}

static void client_streams(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_call(&f, &r, "Upload", NULL);
	rpc_call_start(r.call);
	for (int i = 0; i < 20; i++) {
		CHECK_INT(rec_send(&r, "", 0, 0, 300000), 0);
		RUN_UNTIL(&f, rpc_call_writable(r.call));
	}
	rpc_call_half_close(r.call);
	CHECK_INT(rec_send(&r, "", 0, 0, 1), -EPIPE);
	RUN_UNTIL(&f, !r.call);
	CHECK(strstr(r.events, "mMed"));
	CHECK(strchr(r.events, 'w'));
	CHECK_INT(f.held_bytes, 6000000);
	CHECK_INT(f.held_done.code, RPC_OK);
}

static void both_stream(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_call(&f, &r, "Chat", NULL);
	rpc_call_start(r.call);
	for (size_t i = 1; i <= 4; i++) {
		CHECK_INT(rec_send(&r, "ping", 0, 0, 70000), 0);
		RUN_UNTIL(&f, r.messages == i);
	}
	rpc_call_half_close(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_STR(r.events, "mMMMMed");
	CHECK_INT(r.bytes, 280000);
}

static void a_reader_that_pauses_stops_the_sender(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_unary(&f, &r, "Download", "", 1000, 100000, NULL);
	r.pause_each = true;
	RUN_UNTIL(&f, r.messages == 1);
	fx_idle(&f, 100 * NSEC_PER_MSEC);
	/* What the receiver's window, the sender's queue and the message on its way take, of 100
	 * MB. */
	CHECK(f.held_bytes < 1000000);
	CHECK_INT(r.messages, 1);
	for (size_t i = 2; i <= 20; i++) {
		rpc_call_resume(r.call);
		RUN_UNTIL(&f, r.messages == i);
	}
	/* The window may have grown meanwhile, to its limit and no further. */
	CHECK(f.held_bytes < 20 * 100000 + LIMIT_RPC_WINDOW_MAX + LIMIT_RPC_SEND_HIGH + 300000);
	rpc_call_cancel(r.call);
	RUN_UNTIL(&f, !r.call && f.held_dones);
	CHECK_INT(r.status.code, RPC_CANCELLED);
	CHECK_INT(f.held_done.code, RPC_CANCELLED);
}

static void a_server_that_pauses_stops_the_client(void)
{
	FIXTURE(f);
	struct record r;
	size_t sent = 0;
	int err = 0;

	fx_start(&f);
	rec_call(&f, &r, "Upload", NULL);
	rpc_call_start(r.call);
	CHECK_INT(rec_send(&r, "pause", 0, 0, 1), 0);
	RUN_UNTIL(&f, f.held_bytes == 1);
	while ((err = rec_send(&r, "", 0, 0, 50000)) == 0 && sent < 100 * MIB) {
		sent += 50000;
		fx_idle(&f, NSEC_PER_MSEC);
	}
	CHECK_INT(err, -ENOBUFS);
	CHECK(sent < LIMIT_RPC_SEND_BUFFER + LIMIT_RPC_WINDOW_FIRST + 200000);
	CHECK(!rpc_call_writable(r.call));
	CHECK_INT(f.held_bytes, 1);
	rpc_call_half_close(r.call);
	rpc_call_resume(f.held);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(f.held_bytes, sent + 1);
}

static void deadline_on_both_ends(void)
{
	FIXTURE(f);
	struct record r;
	struct rpc_call_opts opts = { .deadline = deadline_in(50 * NSEC_PER_MSEC) };
	int64_t before = clock_monotonic();

	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, &opts);
	RUN_UNTIL(&f, !r.call && f.held_dones);
	CHECK_INT(r.status.code, RPC_DEADLINE_EXCEEDED);
	CHECK(f.held_done.code == RPC_DEADLINE_EXCEEDED || f.held_done.code == RPC_CANCELLED);
	CHECK(clock_monotonic() - before >= 50 * NSEC_PER_MSEC);
	CHECK(clock_monotonic() - before < 2 * NSEC_PER_SEC);
	opts.deadline = clock_monotonic() - 1;
	rec_unary(&f, &r, "Unary", "hi", 0, 0, &opts);
	CHECK(r.call != NULL); /* done is never called from inside */
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_DEADLINE_EXCEEDED);
}

static void client_cancels(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&f, f.held);
	rpc_call_cancel(r.call);
	CHECK(r.call != NULL);
	RUN_UNTIL(&f, !r.call && f.held_dones);
	CHECK_INT(r.status.code, RPC_CANCELLED);
	CHECK_INT(f.held_done.code, RPC_CANCELLED);
	CHECK_STR(r.events, "d");
	/* Before anything was sent. */
	rec_call(&f, &r, "Unary", NULL);
	rpc_call_start(r.call);
	rpc_call_cancel(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_CANCELLED);
}

static void server_cancels(void)
{
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&f, f.held);
	rpc_call_cancel(f.held);
	RUN_UNTIL(&f, !r.call && f.held_dones);
	CHECK_INT(r.status.code, RPC_CANCELLED);
}

static void compression_both_ways(void)
{
	FIXTURE(f);
	struct record r;
	struct rpc_call_opts opts = { .gzip = true };

	fx_start(&f);
	rec_call(&f, &r, "Upload", &opts);
	CHECK_INT(rec_send(&r, "", 0, 0, 1000000), 0);
	rpc_call_set_gzip(r.call, false);
	CHECK_INT(rec_send(&r, "", 0, 0, 1000), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(f.held_bytes, 1001000);
	rec_unary(&f, &r, "Unary", "gzip", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK(r.compressed);
}

static void message_limit(void)
{
	FIXTURE(f);
	struct record r;
	struct rpc_call_opts opts = { .gzip = true };

	f.copts.max_message = 32 * MIB;
	fx_start(&f);
	/* 16 MiB less the field's 5 bytes of key and length passes, one byte more does not;
	 * compressed neither. */
	for (int i = 0; i < 4; i++) {
		rec_call(&f, &r, "Upload", i < 2 ? NULL : &opts);
		CHECK_INT(rec_send(&r, "", 0, 0, LIMIT_RPC_MESSAGE - 5 + i % 2), 0);
		rpc_call_half_close(r.call);
		rpc_call_start(r.call);
		RUN_UNTIL(&f, !r.call);
		CHECK_INT(r.status.code, i % 2 ? RPC_RESOURCE_EXHAUSTED : RPC_OK);
	}
}

TEST_MAIN(TEST(unary_in_order), TEST(unary_blocking), TEST(errors_are_trailers_only),
	TEST(server_streams), TEST(client_streams), TEST(both_stream),
	TEST(a_reader_that_pauses_stops_the_sender), TEST(a_server_that_pauses_stops_the_client),
	TEST(deadline_on_both_ends), TEST(client_cancels), TEST(server_cancels),
	TEST(compression_both_ways), TEST(message_limit))
