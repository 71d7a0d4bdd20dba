/* SPDX-License-Identifier: Apache-2.0 */
/* An agent that dials, a server that calls it back: both ends in one loop, over a unix socket. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "io/addr.h"
#include "rpc-fixture.h"
#include "tunnel/acceptor.h"
#include "tunnel/dialer.h"
#include "tunnel/link.h"

#define TOKEN "a token of the test's"

struct tun {
	struct fixture f; /* its server is the agent's, its channel goes through the tunnel */
	char dir[32], path[64];
	struct rpc_server *server; /* the tunnel's; NULL: it is down */
	struct tunnel_acceptor *acceptor;
	struct tunnel_dialer *dialer;
	struct tunnel_peer *peer;
	struct io_stream *parked[LIMIT_TUNNEL_LINKS];
	unsigned n_parked, want_parked, asked_to_wait;
	bool token_used, left;
	uint8_t credential[TUNNEL_CREDENTIAL_SIZE];
	int begun, ended, ups, downs;
	char why[512], ended_why[512];
};

static int on_enrol(
	void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err)
{
	struct tun *t = arg;

	snprintf(name, TUNNEL_PEER_NAME, "agent");
	if (t->asked_to_wait) {
		t->asked_to_wait--;
		return err_set(err, EAGAIN, "in a moment");
	}
	if (hello->credential.len)
		return hello->credential.len == sizeof(t->credential) &&
				       secret_equal(hello->credential.data, t->credential,
					       sizeof(t->credential))
			       ? 0
			       : err_set(err, EACCES, "the credential is not known");
	if (t->token_used || hello->token.len != strlen(TOKEN) ||
		memcmp(hello->token.data, TOKEN, strlen(TOKEN)) != 0)
		return err_set(err, EACCES, "the token is not good");
	t->token_used = true;
	return 0;
}

static void on_begun(void *arg, struct tunnel_peer *peer, const uint8_t *credential)
{
	struct tun *t = arg;

	memcpy(t->credential, credential, sizeof(t->credential));
	t->peer = peer;
	t->begun++;
	CHECK_STR(tunnel_peer_name(peer), "agent");
}

static void drop(struct tun *t, unsigned i)
{
	io_stream_free(t->parked[i]);
	t->parked[i] = t->parked[--t->n_parked];
}

static void on_parked_event(void *arg, uint32_t events)
{
	struct tun *t = arg;

	CHECK(events & EPOLLHUP);
	for (unsigned i = 0; i < t->n_parked; i++) {
		char byte;

		if (io_stream_read(t->parked[i], &byte, 1) == -EAGAIN)
			continue;
		drop(t, i--);
	}
}

static void on_stream(void *arg, struct tunnel_peer *peer, struct io_stream *stream)
{
	struct tun *t = arg;

	REQUIRE(t->n_parked < LIMIT_TUNNEL_LINKS);
	stream->on_event = on_parked_event;
	stream->arg = t;
	t->parked[t->n_parked++] = stream;
}

static void on_ended(void *arg, struct tunnel_peer *peer, const char *why)
{
	struct tun *t = arg;

	if (t->peer == peer)
		t->peer = NULL;
	t->ended++;
	snprintf(t->ended_why, sizeof(t->ended_why), "%s", why);
}

static const struct tunnel_acceptor_ops acceptor_ops = {
	.enrol = on_enrol, .begun = on_begun, .stream = on_stream, .ended = on_ended
};

static void on_changed(void *arg, const char *why)
{
	struct tun *t = arg;

	if (why) {
		t->downs++;
		snprintf(t->why, sizeof(t->why), "%s", why);
	} else {
		t->ups++;
	}
}

static int dial_parked(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct tun *t = arg;

	if (!t->n_parked)
		return err_set(err, EAGAIN, "no stream is parked");
	*ret_stream = t->parked[--t->n_parked];
	(*ret_stream)->on_event = NULL;
	return 0;
}

static void server_up(struct tun *t)
{
	struct rpc_server_opts opts = { .max_message = TUNNEL_MESSAGE_MAX };
	struct addr addr;
	char text[80];
	int fd;

	snprintf(text, sizeof(text), "unix:%s", t->path);
	REQUIRE(addr_parse(text, &addr, NULL) == 0);
	fd = addr_listen(&addr, 0600, NULL);
	REQUIRE(fd >= 0);
	REQUIRE(rpc_server_new(t->f.loop, &opts, &t->server) == 0);
	REQUIRE(tunnel_acceptor_new(
			t->f.loop, t->server, t->want_parked, &acceptor_ops, t, &t->acceptor) == 0);
	REQUIRE(rpc_server_listen(t->server, fd) == 0);
}

static void server_down(struct tun *t)
{
	t->server = rpc_server_free(t->server);
	while (t->n_parked)
		drop(t, 0);
	t->acceptor = tunnel_acceptor_free(t->acceptor);
	unlink(t->path);
}

static void dial_with(struct tun *t, const char *token)
{
	struct tunnel_dialer_opts opts = { .token = token,
		.token_len = strlen(token),
		.server = t->f.server,
		.changed = on_changed,
		.arg = t };
	char text[80];

	snprintf(text, sizeof(text), "unix://%s", t->path);
	REQUIRE(tunnel_url_parse(text, NULL, &opts.url, NULL) == 0);
	REQUIRE(tunnel_dialer_new(t->f.loop, &opts, &t->dialer) == 0);
}

static void tun_start(struct tun *t)
{
	snprintf(t->dir, sizeof(t->dir), "/tmp/test-tunnel.XXXXXX");
	REQUIRE(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/sock", t->dir);
	t->f.copts.dial = dial_parked;
	t->f.copts.arg = t;
	fx_start(&t->f);
	if (!t->want_parked)
		t->want_parked = 2;
	server_up(t);
	dial_with(t, TOKEN);
}

static void tun_stop(struct tun *t)
{
	t->f.channel = rpc_channel_free(t->f.channel);
	t->dialer = tunnel_dialer_free(t->dialer);
	if (t->server)
		server_down(t);
	fx_stop(&t->f);
	rmdir(t->dir);
}

#define TUN(name) __attribute__((cleanup(tun_stop))) struct tun name = { 0 }

static void echo(struct tun *t, size_t bytes)
{
	struct record r;

	rec_call(&t->f, &r, "Unary", NULL);
	CHECK_INT(rec_send(&r, "hi", 0, 0, bytes), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&t->f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(r.bytes, bytes);
}

static void calls_go_through(void)
{
	TUN(t);
	struct record r;

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	CHECK_INT(t.ups, 1);
	CHECK(tunnel_dialer_connected(t.dialer));
	for (int i = 0; i < 3; i++)
		echo(&t, 3 << 20);
	rec_call(&t.f, &r, "Upload", NULL);
	CHECK_INT(rec_send(&r, "", 0, 0, 3 << 20), 0);
	rpc_call_half_close(r.call);
	rpc_call_start(r.call);
	RUN_UNTIL(&t.f, !r.call);
	CHECK_INT(t.f.held_bytes, 3 << 20);
	/* The one that is used has been replaced. */
	RUN_UNTIL(&t.f, t.n_parked == 2);
}

static void a_reader_that_pauses_stops_nobody_else(void)
{
	TUN(t);
	struct record slow;

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	rec_call(&t.f, &slow, "Download", NULL);
	slow.pause_each = true;
	CHECK_INT(rec_send(&slow, "", 1000, 100000, 0), 0);
	rpc_call_half_close(slow.call);
	rpc_call_start(slow.call);
	RUN_UNTIL(&t.f, slow.messages == 1);
	fx_idle(&t.f, 200 * NSEC_PER_MSEC);
	/* Its sender has come to a stop, with little on the way. */
	CHECK_INT(slow.messages, 1);
	CHECK(t.f.held_bytes < 10 * MIB);
	for (int i = 0; i < 20; i++)
		echo(&t, 100000);
	CHECK_INT(slow.messages, 1);
	rpc_call_cancel(slow.call);
	RUN_UNTIL(&t.f, !slow.call);
}

static void many_parked(void)
{
	TUN(t);

	t.want_parked = 200;
	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 200);
	echo(&t, 3 << 20);
	RUN_UNTIL(&t.f, t.n_parked == 200);
	/* More than may be: as many as may. */
	tunnel_peer_open(t.peer, 1000);
	RUN_UNTIL(&t.f, t.n_parked == LIMIT_TUNNEL_LINKS - 1);
	fx_idle(&t.f, 100 * NSEC_PER_MSEC);
	CHECK_INT(t.n_parked, LIMIT_TUNNEL_LINKS - 1);
}

static void it_comes_back(void)
{
	TUN(t);
	struct record r;

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	rec_unary(&t.f, &r, "Unary", "hold", 0, 0, NULL);
	RUN_UNTIL(&t.f, t.f.held);
	/* The server is gone in the middle of a call. */
	server_down(&t);
	RUN_UNTIL(&t.f, !r.call);
	CHECK_INT(r.status.code, RPC_UNAVAILABLE);
	RUN_UNTIL(&t.f, t.downs > 0);
	CHECK(!tunnel_dialer_connected(t.dialer));
	fx_idle(&t.f, 300 * NSEC_PER_MSEC);
	CHECK_INT(t.ups, 1);
	server_up(&t);
	/* With its credential: the token is used up. */
	RUN_UNTIL(&t.f, t.n_parked == 2);
	CHECK_INT(t.ups, 2);
	CHECK_INT(t.begun, 2);
	echo(&t, 1000);
}

static void a_token_is_good_once(void)
{
	TUN(t);

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	t.dialer = tunnel_dialer_free(t.dialer);
	RUN_UNTIL(&t.f, t.ended == 1 && !t.n_parked);
	dial_with(&t, TOKEN);
	RUN_UNTIL(&t.f, t.downs >= 2);
	CHECK_STR(t.why, "the token is not good");
	CHECK_INT(t.begun, 1);
	t.dialer = tunnel_dialer_free(t.dialer);
	/* It goes on trying: who made the token may make it good again. */
	dial_with(&t, TOKEN);
	RUN_UNTIL(&t.f, t.downs >= 4);
	t.token_used = false;
	t.asked_to_wait = 2;
	RUN_UNTIL(&t.f, t.n_parked == 2);
	CHECK_INT(t.asked_to_wait, 0);
}

static void wrong_tokens(void)
{
	static const char *const tokens[] = { "", "wrong", "a token of the test'S" };
	TUN(t);

	tun_start(&t);
	t.dialer = tunnel_dialer_free(t.dialer);
	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
		t.downs = 0;
		dial_with(&t, tokens[i]);
		RUN_UNTIL(&t.f, t.downs > 0);
		CHECK_STR(t.why, tokens[i][0] ? "the token is not good" : "this is no Hello");
		t.dialer = tunnel_dialer_free(t.dialer);
	}
	CHECK_INT(t.begun, 0);
}

/* A second process with the credential, as after a half-open connection: the newer one counts. */
static void the_newer_session_counts(void)
{
	struct tunnel_dialer *first;
	TUN(t);

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	first = t.dialer;
	t.token_used = false;
	dial_with(&t, TOKEN);
	RUN_UNTIL(&t.f, t.begun == 2);
	RUN_UNTIL(&t.f, t.ended == 1);
	CHECK_STR(t.ended_why, "the agent has come back");
	first = tunnel_dialer_free(first);
	RUN_UNTIL(&t.f, t.n_parked == 2 && t.peer);
}

static void on_left(void *arg)
{
	((struct tun *)arg)->left = true;
}

static void leaving_loses_nothing(void)
{
	TUN(t);
	struct record r;

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	rec_unary(&t.f, &r, "Download", "", 20, 1 << 20, NULL);
	RUN_UNTIL(&t.f, r.messages == 20);
	tunnel_dialer_leave(t.dialer, deadline_in(5 * NSEC_PER_SEC), on_left, &t);
	RUN_UNTIL(&t.f, t.left && t.ended == 1);
	CHECK_STR(t.ended_why, "the agent has left");
	RUN_UNTIL(&t.f, !r.call);
	CHECK_INT(r.status.code, RPC_OK);
	CHECK_INT(r.bytes, 20 << 20);
	CHECK_INT(t.downs, 0);
}

/* A client that speaks as it likes */

struct raw {
	struct rpc_channel *channel;
	unsigned done;
	enum rpc_code code;
};

static void raw_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static void raw_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct raw *r = arg;

	r->done++;
	r->code = status->code;
}

static const struct rpc_call_ops raw_ops = { .message = raw_message, .done = raw_done };

static void raw_open(struct tun *t, struct raw *r)
{
	char text[80];

	memset(r, 0, sizeof(*r));
	snprintf(text, sizeof(text), "unix:%s", t->path);
	REQUIRE(rpc_channel_new_addr(t->f.loop, text, &r->channel, NULL) == 0);
}

static struct rpc_call *raw_call(struct raw *r, const char *method)
{
	struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };
	struct rpc_call *call;
	char path[64];

	snprintf(path, sizeof(path), "/micropod.tunnel.v1.Tunnel/%s", method);
	REQUIRE(rpc_channel_call(r->channel, path, NULL, &opts, &raw_ops, r, &call) == 0);
	return call;
}

static void raw_hello(struct tun *t, struct raw *r, const void *token, size_t len,
	const void *credential, size_t credential_len)
{
	Micropod__Tunnel__V1__AgentEvent event = MICROPOD__TUNNEL__V1__AGENT_EVENT__INIT;
	Micropod__Tunnel__V1__Hello hello = MICROPOD__TUNNEL__V1__HELLO__INIT;
	struct rpc_call *call = raw_call(r, "Register");

	hello.token = (ProtobufCBinaryData){ len, (uint8_t *)(uintptr_t)token };
	hello.credential =
		(ProtobufCBinaryData){ credential_len, (uint8_t *)(uintptr_t)credential };
	event.kind_case = MICROPOD__TUNNEL__V1__AGENT_EVENT__KIND_HELLO;
	event.hello = &hello;
	r->done = 0;
	rpc_call_start(call);
	CHECK_INT(rpc_call_send(call, &event.base), 0);
	RUN_UNTIL(&t->f, r->done);
}

static void hostile_hellos(void)
{
	Micropod__Tunnel__V1__AgentEvent event = MICROPOD__TUNNEL__V1__AGENT_EVENT__INIT;
	Micropod__Tunnel__V1__Heartbeat beat = MICROPOD__TUNNEL__V1__HEARTBEAT__INIT;
	uint8_t secret[LIMIT_TUNNEL_SECRET + 1] = { 0 };
	struct rpc_call *call;
	struct raw r;
	TUN(t);

	tun_start(&t);
	raw_open(&t, &r);
	raw_hello(&t, &r, NULL, 0, NULL, 0);
	CHECK_INT(r.code, RPC_INVALID_ARGUMENT);
	raw_hello(&t, &r, secret, 4, secret, 4);
	CHECK_INT(r.code, RPC_INVALID_ARGUMENT);
	raw_hello(&t, &r, secret, sizeof(secret), NULL, 0);
	CHECK_INT(r.code, RPC_INVALID_ARGUMENT);
	raw_hello(&t, &r, NULL, 0, secret, sizeof(secret));
	CHECK_INT(r.code, RPC_INVALID_ARGUMENT);
	raw_hello(&t, &r, secret, LIMIT_TUNNEL_SECRET, NULL, 0);
	CHECK_INT(r.code, RPC_UNAUTHENTICATED);
	raw_hello(&t, &r, NULL, 0, secret, TUNNEL_CREDENTIAL_SIZE);
	CHECK_INT(r.code, RPC_UNAUTHENTICATED);
	/* Something else first; bytes that are no message. */
	event.kind_case = MICROPOD__TUNNEL__V1__AGENT_EVENT__KIND_HEARTBEAT;
	event.heartbeat = &beat;
	call = raw_call(&r, "Register");
	r.done = 0;
	rpc_call_start(call);
	rpc_call_send(call, &event.base);
	RUN_UNTIL(&t.f, r.done);
	CHECK_INT(r.code, RPC_INVALID_ARGUMENT);
	call = raw_call(&r, "Register");
	r.done = 0;
	rpc_call_start(call);
	rpc_call_send_raw(call, "\xff\xff\xff", 3);
	RUN_UNTIL(&t.f, r.done);
	CHECK(r.code != RPC_OK);
	r.channel = rpc_channel_free(r.channel);
	/* None of it has harmed the one that is right. */
	RUN_UNTIL(&t.f, t.n_parked == 2);
	echo(&t, 1000);
}

static void hostile_streams(void)
{
	static uint8_t bytes[LIMIT_TUNNEL_FRAME + 100];
	Micropod__Tunnel__V1__Frame frame = MICROPOD__TUNNEL__V1__FRAME__INIT;
	struct rpc_call *call;
	struct raw r;
	TUN(t);

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	raw_open(&t, &r);
	for (int i = 0; i < 3; i++) {
		call = raw_call(&r, "Serve");
		if (i)
			rpc_call_add_metadata(call, "micropod-credential-bin", bytes,
				i == 1 ? 5 : TUNNEL_CREDENTIAL_SIZE);
		r.done = 0;
		rpc_call_start(call);
		RUN_UNTIL(&t.f, r.done);
		CHECK_INT(r.code, RPC_UNAUTHENTICATED);
	}
	/* With the right one, and a frame that is too large. */
	call = raw_call(&r, "Serve");
	rpc_call_add_metadata(call, "micropod-credential-bin", t.credential, sizeof(t.credential));
	frame.data = (ProtobufCBinaryData){ sizeof(bytes), bytes };
	r.done = 0;
	rpc_call_start(call);
	rpc_call_send(call, &frame.base);
	RUN_UNTIL(&t.f, r.done);
	CHECK_INT(r.code, RPC_RESOURCE_EXHAUSTED);
	r.channel = rpc_channel_free(r.channel);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	echo(&t, 1000);
}

static void too_many_agents(void)
{
	struct raw raws[LIMIT_TUNNEL_PEERS / 1000 + 1];
	unsigned n = 0;
	TUN(t);

	tun_start(&t);
	RUN_UNTIL(&t.f, t.n_parked == 2);
	for (size_t i = 0; i < ARRAY_SIZE(raws); i++)
		raw_open(&t, &raws[i]);
	/* One is there already. */
	for (; n < LIMIT_TUNNEL_PEERS - 1; n++)
		rpc_call_start(raw_call(&raws[n / 1000], "Register"));
	fx_idle(&t.f, 500 * NSEC_PER_MSEC);
	for (size_t i = 0; i < ARRAY_SIZE(raws); i++)
		CHECK_INT(raws[i].done, 0);
	rpc_call_start(raw_call(&raws[n / 1000], "Register"));
	RUN_UNTIL(&t.f, raws[n / 1000].done == 1);
	CHECK_INT(raws[n / 1000].code, RPC_RESOURCE_EXHAUSTED);
	echo(&t, 1000);
	for (size_t i = 0; i < ARRAY_SIZE(raws); i++)
		raws[i].channel = rpc_channel_free(raws[i].channel);
}

static void servers(void)
{
	static const struct {
		const char *text;
		int code;
		bool exposed;
		const char *addr;
	} cases[] = {
		{ "unix:///run/x/sock", 0, false, "unix:///run/x/sock" },
		{ "http://localhost:8080", 0, false, "tcp:127.0.0.1:8080" },
		{ "http://127.9.9.9:1/", 0, false, "tcp:127.9.9.9:1" },
		{ "http://[::1]:7", 0, false, "tcp:::1:7" },
		{ "http://[2001:db8::1]", 0, true, "tcp:2001:db8::1:80" },
		{ "http://192.0.2.1", 0, true, "tcp:192.0.2.1:80" },
		{ "http://example.com", EINVAL },
		{ "http://localhost.example.com:1", EINVAL },
		{ "http://127.0.0.1:70000", EINVAL },
		{ "http://127.0.0.1:", EINVAL },
		{ "http://127.0.0.1/path", EINVAL },
		{ "http://[::1", EINVAL },
		{ "http://[::1]x", EINVAL },
		{ "http://", EINVAL },
		{ "ftp://127.0.0.1", EINVAL },
		{ "", EINVAL },
		{ "https://127.0.0.1", EPROTONOSUPPORT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = ERR_INIT;
		struct tunnel_url url;
		int r = tunnel_url_parse(cases[i].text, NULL, &url, &err);

		CHECK_INT(r, -cases[i].code);
		if (r < 0) {
			CHECK(strstr(err.msg, cases[i].text));
			continue;
		}
		CHECK_STR(url.addr.text, cases[i].addr);
		CHECK_INT(url.exposed, cases[i].exposed);
	}
}

static void names_for_later(void)
{
	const struct tunnel_url_opts opts = { .tls = true, .later = true };
	struct tunnel_url url;

	CHECK_INT(tunnel_url_parse("https://example.com", &opts, &url, NULL), 0);
	CHECK(url.named && url.tls && !url.exposed);
	CHECK_STR(url.host, "example.com");
	CHECK_STR(url.authority, "example.com");
	CHECK_INT(url.addr.port, 443);
	CHECK_INT(tunnel_url_parse("http://localhost.example.com:81", &opts, &url, NULL), 0);
	CHECK(url.named && url.exposed);
	CHECK_INT(tunnel_url_parse("https://127.0.0.1:1", &opts, &url, NULL), 0);
	CHECK(!url.named);
}

TEST_MAIN(TEST(calls_go_through), TEST(a_reader_that_pauses_stops_nobody_else), TEST(many_parked),
	TEST(it_comes_back), TEST(a_token_is_good_once), TEST(wrong_tokens),
	TEST(the_newer_session_counts), TEST(leaving_loses_nothing), TEST(hostile_hellos),
	TEST(hostile_streams), TEST(too_many_agents), TEST(servers), TEST(names_for_later))
