/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: retries, draining, keepalive, hostile peers, pass-through. */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "rpc-fixture.h"

/* A peer of the server that speaks raw HTTP/2. */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

struct raw {
	struct fixture *f;
	int fd;
	uint8_t in[65536];
	size_t len;
	bool closed;
};

static void raw_open(struct fixture *f, struct raw *raw)
{
	*raw = (struct raw){ .f = f, .fd = fx_connect(f) };
	REQUIRE(fd_set_nonblock(raw->fd, true) == 0);
	REQUIRE(write(raw->fd, preface, sizeof(preface) - 1) == sizeof(preface) - 1);
}

/* False when the server has closed. */
static bool raw_send(struct raw *raw, const void *data, size_t len)
{
	for (size_t off = 0; off < len;) {
		ssize_t n = send(raw->fd, (const char *)data + off, len - off, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		off += n > 0 ? (size_t)n : 0;
		REQUIRE(loop_once(raw->f->loop, 0) == 0);
	}
	return true;
}

static void raw_frame(
	struct raw *raw, uint8_t type, uint8_t flags, uint32_t stream, const void *data, size_t len)
{
	uint8_t head[9] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, type, flags,
		(uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8),
		(uint8_t)stream };

	if (!raw_send(raw, head, sizeof(head)) || !raw_send(raw, data, len))
		raw->closed = true;
}

/* POST path with gRPC's headers, as HPACK literals without indexing. */
static void raw_request(struct raw *raw, uint32_t stream, const char *path, const char *extra_name,
	const char *extra_value)
{
	static const char *const fields[][2] = { { ":method", "POST" }, { ":scheme", "http" },
		{ ":authority", "x" }, { "content-type", "application/grpc" } };
	uint8_t block[1024];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields) + 2; i++) {
		const char *name = i < ARRAY_SIZE(fields)    ? fields[i][0]
				   : i == ARRAY_SIZE(fields) ? ":path"
							     : extra_name;
		const char *value = i < ARRAY_SIZE(fields)    ? fields[i][1]
				    : i == ARRAY_SIZE(fields) ? path
							      : extra_value;

		/* Pseudo fields stand in front of the others. */
		if (i == 3)
			name = ":path", value = path;
		else if (i == ARRAY_SIZE(fields))
			name = fields[3][0], value = fields[3][1];
		if (!name)
			continue;
		block[n++] = 0;
		block[n++] = (uint8_t)strlen(name);
		memcpy(block + n, name, strlen(name));
		n += strlen(name);
		block[n++] = (uint8_t)strlen(value);
		memcpy(block + n, value, strlen(value));
		n += strlen(value);
	}
	raw_frame(raw, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, block, n);
}

/* Reads what has come; whether a frame of that type (and error code, if not -1) is in it. */
static bool raw_got(struct raw *raw, uint8_t type, int64_t error)
{
	ssize_t n = read(raw->fd, raw->in + raw->len, sizeof(raw->in) - raw->len);

	if (n == 0)
		raw->closed = true;
	raw->len += n > 0 ? (size_t)n : 0;
	for (size_t at = 0; at + 9 <= raw->len;) {
		size_t len =
			(size_t)raw->in[at] << 16 | (size_t)raw->in[at + 1] << 8 | raw->in[at + 2];
		const uint8_t *p = raw->in + at + 9;

		if (at + 9 + len > raw->len)
			break;
		if (raw->in[at + 3] == type) {
			const uint8_t *code = type == NGHTTP2_GOAWAY ? p + 4 : p;

			if (error < 0 ||
				(code[0] << 24 | code[1] << 16 | code[2] << 8 | code[3]) == error)
				return true;
		}
		at += 9 + len;
	}
	return false;
}

static void raw_close(struct raw *raw)
{
	close(raw->fd);
}

static const uint8_t empty_message[5];

static void rapid_reset_ends_the_connection(void)
{
	static const uint8_t cancel[4] = { 0, 0, 0, NGHTTP2_CANCEL };
	FIXTURE(f);
	struct raw raw;
	unsigned n = 0;

	fx_start(&f);
	raw_open(&f, &raw);
	for (n = 0; n < LIMIT_RPC_RESETS + 50 && !raw.closed && !f.closed; n++) {
		raw_request(&raw, 1 + 2 * n, "/test.Echo/Chat", NULL, NULL);
		raw_frame(&raw, NGHTTP2_RST_STREAM, 0, 1 + 2 * n, cancel, 4);
	}
	RUN_UNTIL(&f, f.closed);
	CHECK(n >= LIMIT_RPC_RESETS);
	CHECK(strstr(f.closed_why, "stream resets"));
	CHECK(raw_got(&raw, NGHTTP2_GOAWAY, NGHTTP2_ENHANCE_YOUR_CALM));
	raw_close(&raw);
}

/* LIMIT_RPC_CONTROL_FRAMES */
static void control_floods_end_the_connection(void)
{
	static const struct {
		uint8_t type, len, stream;
	} floods[] = { { NGHTTP2_PING, 8, 0 }, { NGHTTP2_SETTINGS, 0, 0 }, { NGHTTP2_DATA, 0, 1 },
		{ NGHTTP2_PRIORITY, 5, 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(floods); i++) {
		FIXTURE(f);
		struct raw raw;

		fx_start(&f);
		raw_open(&f, &raw);
		raw_request(&raw, 1, "/test.Echo/Chat", NULL, NULL);
		/* Within its second, so in few writes. */
		for (size_t n = 0; n < LIMIT_RPC_CONTROL_FRAMES + 100 && !f.closed; n += 100) {
			uint8_t frames[100 * 17], *p = frames;

			for (size_t k = 0; k < 100; k++, p += 9 + floods[i].len) {
				memset(p, 0, 17);
				p[2] = floods[i].len;
				p[3] = floods[i].type;
				p[8] = floods[i].stream;
			}
			raw.closed |= !raw_send(&raw, frames, (size_t)(p - frames));
			raw_got(&raw, 0xff, -1);
			raw.len = 0;
		}
		RUN_UNTIL(&f, f.closed);
		raw_close(&raw);
	}
}

static void too_many_streams_are_refused(void)
{
	FIXTURE(f);
	struct raw raw;

	f.sopts.max_streams = 4;
	fx_start(&f);
	raw_open(&f, &raw);
	for (uint32_t i = 0; i < 5; i++)
		raw_request(&raw, 1 + 2 * i, "/test.Echo/Chat", NULL, NULL);
	RUN_UNTIL(&f, raw_got(&raw, NGHTTP2_RST_STREAM, NGHTTP2_REFUSED_STREAM));
	CHECK(f.held != NULL);
	raw_close(&raw);
	RUN_UNTIL(&f, f.held_dones == 4);
}

/* LIMIT_RPC_HEADER_LIST and LIMIT_RPC_HEADER_COUNT */
static void headers_are_limited(void)
{
	FIXTURE(f);
	struct record r;
	char value[8000];

	fx_start(&f);
	memset(value, 'v', sizeof(value));
	/* What our own client refuses to send. */
	rec_call(&f, &r, "Unary", NULL);
	for (int i = 0; i < 4; i++)
		CHECK_INT(rpc_call_add_metadata(r.call, "x-big", value, sizeof(value)), 0);
	CHECK_INT(rpc_call_add_metadata(r.call, "x-big", value, sizeof(value)), -ENOBUFS);
	CHECK_INT(rpc_call_add_metadata(r.call, "x-big", value, 700), 0);
	CHECK_INT(rec_send(&r, "hi", 0, 0, 0), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_RESOURCE_EXHAUSTED); /* with the other fields it is above */
	rec_call(&f, &r, "Unary", NULL);
	for (int i = 0; i < LIMIT_RPC_HEADER_COUNT; i++)
		CHECK_INT(rpc_call_add_metadata(r.call, "x-small", "v", 1), 0);
	CHECK_INT(rpc_call_add_metadata(r.call, "x-small", "v", 1), -ENOBUFS);
	rpc_call_start(r.call);
	rpc_call_cancel(r.call);
	RUN_UNTIL(&f, !r.call);
	/* Reserved or malformed names and values. */
	rec_call(&f, &r, "Unary", NULL);
	CHECK_INT(rpc_call_add_metadata(r.call, "grpc-status", "0", 1), -EINVAL);
	CHECK_INT(rpc_call_add_metadata(r.call, ":path", "0", 1), -EINVAL);
	CHECK_INT(rpc_call_add_metadata(r.call, "Upper", "0", 1), -EINVAL);
	CHECK_INT(rpc_call_add_metadata(r.call, "x", "a\nb", 3), -EINVAL);
	rpc_call_cancel(r.call);
	RUN_UNTIL(&f, !r.call);
}

static void odd_requests(void)
{
	static const struct {
		const char *name, *value;
		enum rpc_code code;
	} cases[] = { { "grpc-timeout", "1x", RPC_INTERNAL },
		{ "grpc-timeout", "123456789S", RPC_INTERNAL },
		{ "grpc-encoding", "br", RPC_UNIMPLEMENTED }, { "x-bin", "*", RPC_INTERNAL } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FIXTURE(f);
		struct raw raw;

		fx_start(&f);
		raw_open(&f, &raw);
		raw_request(&raw, 1, "/test.Echo/Unary", cases[i].name, cases[i].value);
		raw_frame(&raw, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, empty_message,
			sizeof(empty_message));
		RUN_UNTIL(&f, raw_got(&raw, NGHTTP2_HEADERS, -1));
		RUN_UNTIL(&f, f.calls == 1);
		CHECK_INT(f.last_code, cases[i].code);
		raw_close(&raw);
	}
}

/* A unary request that ends with HEADERS alone, with two messages, with half a one, with a wrong
 * flag. */
static void wrong_bodies(void)
{
	static const struct {
		const char *body;
		size_t len;
		enum rpc_code code;
	} cases[] = { { "", 0, RPC_UNIMPLEMENTED },
		{ "\0\0\0\0\0\0\0\0\0\0", 10, RPC_UNIMPLEMENTED },
		{ "\0\0\0\0\1", 5, RPC_UNIMPLEMENTED }, { "\2\0\0\0\0", 5, RPC_INTERNAL },
		{ "\1\0\0\0\0", 5, RPC_INTERNAL }, { "\0\1\0\0\1", 5, RPC_RESOURCE_EXHAUSTED },
		{ "\0\0\0\0\3\12\1\xff", 8, RPC_INVALID_ARGUMENT },
		{ "\0\0\0\0\3\12\1\0", 8, RPC_INVALID_ARGUMENT },
		{ "\0\0\0\0\1\12", 6, RPC_INTERNAL } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FIXTURE(f);
		struct raw raw;

		fx_start(&f);
		raw_open(&f, &raw);
		raw_request(&raw, 1, "/test.Echo/Unary", NULL, NULL);
		raw_frame(&raw, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, cases[i].body,
			cases[i].len);
		RUN_UNTIL(&f, f.calls == 1);
		CHECK_INT(f.last_code, cases[i].code);
		raw_close(&raw);
	}
}

static void a_peer_that_breaks_the_protocol(void)
{
	FIXTURE(f);
	struct raw raw;

	fx_start(&f);
	raw_open(&f, &raw);
	raw_frame(&raw, NGHTTP2_DATA, 0, 0, "xxxx", 4); /* DATA on stream 0 */
	RUN_UNTIL(&f, f.closed);
	CHECK(raw_got(&raw, NGHTTP2_GOAWAY, NGHTTP2_PROTOCOL_ERROR));
	raw_close(&raw);
	raw = (struct raw){ .f = &f, .fd = fx_connect(&f) };
	CHECK(raw_send(&raw, "GET / HTTP/1.1\r\n\r\n      ", 24));
	RUN_UNTIL(&f, f.closed == 2);
	raw_close(&raw);
}

static void keepalive_finds_a_silent_peer(void)
{
	FIXTURE(f);
	struct raw raw;

	f.sopts.keepalive_interval = 30 * NSEC_PER_MSEC;
	f.sopts.keepalive_timeout = 30 * NSEC_PER_MSEC;
	fx_start(&f);
	raw_open(&f, &raw);
	RUN_UNTIL(&f, f.closed);
	CHECK(strstr(f.closed_why, "PING"));
	raw_close(&raw);
}

static void keepalive_leaves_a_living_peer(void)
{
	FIXTURE(f);
	struct record r;

	f.sopts.keepalive_interval = f.copts.keepalive_interval = 10 * NSEC_PER_MSEC;
	f.sopts.keepalive_timeout = f.copts.keepalive_timeout = 2 * NSEC_PER_SEC;
	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	fx_idle(&f, 100 * NSEC_PER_MSEC);
	CHECK_INT(f.closed, 0);
	CHECK_INT(f.disconnects, 0);
}

static int silent_fd = -1;

static int dial_silence(
	struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	int fds[2];

	REQUIRE(fd_socketpair(fds) == 0);
	silent_fd = fds[1];
	return io_stream_new_fd(loop, fds[0], ret_stream);
}

static void client_keepalive(void)
{
	FIXTURE(f);
	struct record r;

	f.copts.dial = dial_silence;
	f.copts.no_redial = true;
	f.copts.keepalive_interval = f.copts.keepalive_timeout = 30 * NSEC_PER_MSEC;
	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
	CHECK(strstr(r.status.message, "PING"));
	RUN_UNTIL(&f, f.disconnects == 1);
	rec_unary(&f, &r, "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
	silent_fd = safe_close(silent_fd);
}

static void dials_are_retried_within_the_deadline(void)
{
	FIXTURE(f);
	struct record r;
	struct rpc_call_opts opts = { .deadline = deadline_in(4 * NSEC_PER_SEC) };

	fx_start(&f);
	f.refuse_dials = 3;
	rec_unary(&f, &r, "Unary", "hi", 0, 0, &opts);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(f.dials, 4);
	/* Without a deadline there is an end too; it says why. */
	rpc_conn_close(f.conn);
	fx_idle(&f, 20 * NSEC_PER_MSEC);
	f.refuse_dials = 1000;
	f.dials = 0;
	rec_unary(&f, &r, "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
	CHECK(strstr(r.status.message, "nobody listens"));
	CHECK_INT(f.dials, 1 + LIMIT_RPC_RETRIES);
	opts = (struct rpc_call_opts){ .retry = RPC_RETRY_NEVER };
	f.dials = 0;
	rec_unary(&f, &r, "Unary", "hi", 0, 0, &opts);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
	CHECK_INT(f.dials, 1);
}

static void lost_connections(void)
{
	struct rpc_call_opts idempotent = { .retry = RPC_RETRY_IDEMPOTENT };
	FIXTURE(f);
	struct record r;

	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&f, f.held);
	rpc_conn_close(f.conn);
	CHECK_INT(f.held_done.code, RPC_UNAVAILABLE);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE); /* it may have run */
	CHECK_INT(f.dials, 1);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, &idempotent);
	RUN_UNTIL(&f, f.held);
	CHECK_INT(f.dials, 2);
	rpc_conn_close(f.conn);
	RUN_UNTIL(&f, f.held); /* there again, on a third connection */
	CHECK_INT(f.dials, 3);
	rpc_call_finish(f.held, &RPC_STATUS_OK);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	/* An answer of UNAVAILABLE. */
	rec_call(&f, &r, "Unary", &idempotent);
	CHECK_INT(rec_send(&r, "flaky", 2, 0, 0), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(f.flaky, 3);
}

static void on_drained(void *arg)
{
	(*(int *)arg)++;
}

static void draining_lets_calls_finish(void)
{
	FIXTURE(f);
	struct record r, late;
	int drained = 0;

	f.copts.no_redial = true;
	fx_start(&f);
	rec_unary(&f, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&f, f.held);
	rpc_server_drain(f.server, on_drained, &drained);
	fx_idle(&f, 50 * NSEC_PER_MSEC);
	CHECK_INT(drained, 0);
	rec_unary(&f, &late, "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, !late.call);
	CHECK_INT(late.status.code, RPC_UNAVAILABLE);
	CHECK(r.call != NULL);
	rpc_call_finish(f.held, &RPC_STATUS_OK);
	RUN_UNTIL(&f, !r.call && drained);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(drained, 1);
}

static void more_calls_than_streams(void)
{
	FIXTURE(f);
	struct record r[200];
	size_t left = 1;

	f.sopts.max_streams = 7;
	fx_start(&f);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		rec_unary(&f, &r[i], "Unary", "hi", 0, 0, NULL);
	RUN_UNTIL(&f, ({
		left = 0;
		for (size_t i = 0; i < ARRAY_SIZE(r); i++)
			left += r[i].call != NULL;
		!left;
	}));
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		CHECK_INT(r[i].status.code, RPC_OK);
	CHECK_INT(f.dials, 1);
}

static void ending_everything_at_once(void)
{
	FIXTURE(f);
	struct record a, b, c;

	fx_start(&f);
	rec_unary(&f, &a, "Unary", "hold", 0, 0, NULL);
	rec_unary(&f, &b, "Download", "", 100, 100000, NULL);
	b.pause_each = true;
	RUN_UNTIL(&f, f.held && b.messages == 1);
	rec_unary(&f, &c, "Unary", "hi", 0, 0, NULL);
	f.channel = rpc_channel_free(f.channel);
	CHECK(!a.call && !b.call && !c.call);
	CHECK_INT(a.status.code, RPC_UNAVAILABLE);
	f.server = rpc_server_free(f.server);
	CHECK_INT(f.held_dones, 2);
}

/* Pass-through: client, front (fallback), channel, the fixture's server. */

static bool to_channel(struct rpc_call *call, void *arg)
{
	return rpc_proxy_call(call, ((struct fixture *)arg)->channel);
}

struct front {
	struct fixture back;
	struct fixture front;
};

static int dial_front(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct front *p = arg;

	return io_stream_new_fd(loop, fx_connect(&p->front), ret_stream);
}

static void front_start(struct front *p)
{
	struct rpc_server_opts sopts = { .fallback = to_channel, .arg = &p->back };
	struct rpc_channel_opts copts = { .dial = dial_front, .arg = p };

	fx_start(&p->back);
	p->front.loop = p->back.loop;
	REQUIRE(rpc_server_new(p->back.loop, &sopts, &p->front.server) == 0);
	REQUIRE(rpc_channel_new(p->back.loop, &copts, &p->front.channel) == 0);
}

static void front_stop(struct front *p)
{
	rpc_channel_free(p->front.channel);
	rpc_server_free(p->front.server);
	fx_stop(&p->back);
}

static void proxy_passes_all_kinds(void)
{
	__attribute__((cleanup(front_stop))) struct front p = { 0 };
	struct record r;

	front_start(&p);
	rec_call(&p.front, &r, "Unary", NULL);
	CHECK_INT(rpc_call_add_metadata(r.call, "x-echo", "through", 7), 0);
	CHECK_INT(rpc_call_add_metadata(r.call, "x-echo-bin", "\0\1", 2), 0);
	CHECK_INT(rec_send(&r, "hi", 0, 0, 100000), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&p.back, !r.call);
	CHECK_STR(r.events, "mMed");
	CHECK_INT(r.bytes, 100000);
	CHECK_STR(r.meta, "through");
	CHECK_INT(r.trailer_len, 2);
	rec_call(&p.front, &r, "Chat", NULL);
	rpc_call_start(r.call);
	for (size_t i = 1; i <= 3; i++) {
		CHECK_INT(rec_send(&r, "ping", 0, 0, 10), 0);
		RUN_UNTIL(&p.back, r.messages == i);
	}
	rpc_call_half_close(r.call);
	RUN_UNTIL(&p.back, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	rec_unary(&p.front, &r, "Unary", "fail", RPC_ABORTED, 0, NULL);
	RUN_UNTIL(&p.back, !r.call);
	CHECK_INT(r.status.code, RPC_ABORTED);
	rec_unary(&p.front, &r, "Download", "", 50, 1000000, NULL);
	RUN_UNTIL(&p.back, !r.call);
	CHECK_INT(r.bytes, 50000000);
}

static void proxy_carries_backpressure_and_cancellation(void)
{
	__attribute__((cleanup(front_stop))) struct front p = { 0 };
	struct rpc_call_opts opts = { 0 };
	struct record r;

	front_start(&p);
	rec_unary(&p.front, &r, "Download", "", 1000, 100000, NULL);
	r.pause_each = true;
	RUN_UNTIL(&p.back, r.messages == 1);
	fx_idle(&p.back, 100 * NSEC_PER_MSEC);
	CHECK(p.back.held_bytes < 3000000);
	rpc_call_cancel(r.call);
	RUN_UNTIL(&p.back, !r.call && p.back.held_dones == 1);
	CHECK_INT(p.back.held_done.code, RPC_CANCELLED);
	opts.deadline = deadline_in(300 * NSEC_PER_MSEC);
	rec_unary(&p.front, &r, "Unary", "hold", 0, 0, &opts);
	RUN_UNTIL(&p.back, !r.call && p.back.held_dones == 2);
	CHECK_INT(r.status.code, RPC_DEADLINE_EXCEEDED);
	rec_unary(&p.front, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&p.back, p.back.held);
	rpc_conn_close(p.back.conn);
	RUN_UNTIL(&p.back, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
}

TEST_MAIN(TEST(rapid_reset_ends_the_connection), TEST(control_floods_end_the_connection),
	TEST(too_many_streams_are_refused), TEST(headers_are_limited), TEST(odd_requests),
	TEST(wrong_bodies), TEST(a_peer_that_breaks_the_protocol),
	TEST(keepalive_finds_a_silent_peer), TEST(keepalive_leaves_a_living_peer),
	TEST(client_keepalive), TEST(dials_are_retried_within_the_deadline), TEST(lost_connections),
	TEST(draining_lets_calls_finish), TEST(more_calls_than_streams),
	TEST(ending_everything_at_once), TEST(proxy_passes_all_kinds),
	TEST(proxy_carries_backpressure_and_cancellation))
