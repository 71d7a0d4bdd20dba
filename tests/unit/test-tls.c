/* SPDX-License-Identifier: Apache-2.0 */
/* TLS between two streams in one loop, over a socket pair that holds little. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "test.h"
#include "tls/tls.h"

#define TOTAL (3 * MIB)

/* Certificate and key for "localhost", in files. */
static struct {
	char cert[64], key[64], pin[TLS_PIN_LEN + 1];
} files;

static void make_files(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	uint8_t digest[EVP_MAX_MD_SIZE];
	X509_EXTENSION *names;
	unsigned len;
	FILE *f;

	REQUIRE(key && cert);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
		(const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
	REQUIRE(names && X509_add_ext(cert, names, -1) == 1);
	X509_EXTENSION_free(names);
	REQUIRE(X509_sign(cert, key, EVP_sha256()) > 0);
	REQUIRE(X509_digest(cert, EVP_sha256(), digest, &len) == 1);
	hex_encode(digest, len, files.pin);
	snprintf(files.cert, sizeof(files.cert), "/tmp/test-tls-%d.cert", getpid());
	snprintf(files.key, sizeof(files.key), "/tmp/test-tls-%d.key", getpid());
	f = fopen(files.cert, "we");
	REQUIRE(f && PEM_write_X509(f, cert) == 1 && fclose(f) == 0);
	f = fopen(files.key, "we");
	REQUIRE(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 &&
		fclose(f) == 0);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void remove_files(void)
{
	unlink(files.cert);
	unlink(files.key);
}

struct side {
	struct io_stream *stream;
	size_t sent, got, wrong;
	int error;	    /* -errno with which it ended; 1: end of file */
	bool one_at_a_time; /* reads little at once */
	bool rests;	    /* wants nothing for a while after each read */
	struct loop *loop;
	struct loop_timer rested;
};

struct halting;

struct pair {
	struct loop *loop;
	struct tls *server_tls, *client_tls;
	struct side server, client;
	struct halting *halting; /* what the server's TLS runs on */
	int raw;		 /* the server's end, if that speaks no TLS */
};

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 >> 3);
}

static void on_rested(struct loop_timer *timer)
{
	struct side *s = container_of(timer, struct side, rested);

	io_stream_want(s->stream, EPOLLIN | (s->sent < TOTAL ? EPOLLOUT : 0));
}

static void go_on(void *arg, uint32_t events)
{
	struct side *s = arg;
	uint8_t buf[20000];
	ssize_t n;

	while (s->sent < TOTAL && !s->error) {
		struct iovec iov = { buf, MIN(sizeof(buf), TOTAL - s->sent) };

		for (size_t i = 0; i < iov.iov_len; i++)
			buf[i] = byte_at(s->sent + i);
		n = s->stream->ops->writev(s->stream, &iov, 1);
		if (n == -EAGAIN)
			break;
		if (n < 0)
			s->error = (int)n;
		else
			s->sent += (size_t)n;
	}
	n = io_stream_read(s->stream, buf, s->one_at_a_time ? 100 : sizeof(buf));
	if (n > 0) {
		for (ssize_t i = 0; i < n; i++)
			s->wrong += buf[i] != byte_at(s->got + (size_t)i);
		s->got += (size_t)n;
	} else if (n != -EAGAIN && !s->error) {
		s->error = n ? (int)n : 1;
	}
	if (s->rests && n > 0) {
		io_stream_want(s->stream, 0);
		loop_timer_arm(s->loop, &s->rested, deadline_in(NSEC_PER_MSEC), on_rested);
		return;
	}
	io_stream_want(s->stream, s->error ? 0 : EPOLLIN | (s->sent < TOTAL ? EPOLLOUT : 0));
}

/* A stream that, once told to, sends the head of a record alone and the rest a while later. */
struct halting {
	struct io_stream stream;
	struct io_stream *inner;
	struct loop *loop;
	struct loop_timer timer;
	bool halt, halted;
};

static void on_halted(struct loop_timer *timer)
{
	struct halting *h = container_of(timer, struct halting, timer);

	h->halted = false;
	h->stream.on_event(h->stream.arg, EPOLLOUT);
}

static ssize_t halting_read(struct io_stream *s, void *buf, size_t n)
{
	return io_stream_read(container_of(s, struct halting, stream)->inner, buf, n);
}

static ssize_t halting_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	struct halting *h = container_of(s, struct halting, stream);
	struct iovec head = { iov->iov_base, 5 };

	if (h->halted)
		return -EAGAIN;
	if (!h->halt)
		return io_stream_writev(h->inner, iov, n);
	h->halt = false;
	h->halted = true;
	loop_timer_arm(h->loop, &h->timer, deadline_in(400 * NSEC_PER_MSEC), on_halted);
	return io_stream_writev(h->inner, &head, 1);
}

static void halting_want(struct io_stream *s, uint32_t events)
{
	io_stream_want(container_of(s, struct halting, stream)->inner, events);
}

static void halting_free(struct io_stream *s)
{
	struct halting *h = container_of(s, struct halting, stream);

	loop_timer_disarm(&h->timer);
	io_stream_free(h->inner);
	free(h);
}

static void halting_event(void *arg, uint32_t events)
{
	struct halting *h = arg;

	if (!h->halted || events != EPOLLOUT)
		h->stream.on_event(h->stream.arg, events);
}

static struct halting *halting_new(struct loop *loop, struct io_stream *inner)
{
	static const struct io_stream_ops ops = { .read = halting_read,
		.writev = halting_writev,
		.want = halting_want,
		.free = halting_free };
	struct halting *h = calloc(1, sizeof(*h));

	REQUIRE(h);
	h->stream.ops = &ops;
	h->stream.fd = -1;
	h->inner = inner;
	h->loop = loop;
	inner->on_event = halting_event;
	inner->arg = h;
	return h;
}

static void side_start(struct pair *p, struct side *s, int fd, struct tls *tls, const char *host)
{
	struct io_stream *plain = NULL;

	REQUIRE(io_stream_new_fd(p->loop, fd, &plain) == 0);
	if (s == &p->server) {
		p->halting = halting_new(p->loop, plain);
		plain = &p->halting->stream;
	}
	REQUIRE(tls_wrap(p->loop, tls, plain, host, &s->stream) == 0);
	s->loop = p->loop;
	s->stream->on_event = go_on;
	s->stream->arg = s;
	io_stream_want(s->stream, EPOLLIN | EPOLLOUT);
}

/* pin NULL: by the certificate as an authority. */
static void pair_start(struct pair *p, const char *pin, const char *host, bool raw)
{
	int fds[2], small = 4096;

	REQUIRE(loop_new(&p->loop) == 0);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	REQUIRE(tls_new_server(files.cert, files.key, &p->server_tls, NULL) == 0);
	REQUIRE(tls_new_client(&(struct tls_trust){ .pin = pin, .ca_file = files.cert },
			&p->client_tls, NULL) == 0);
	p->raw = raw ? fds[0] : -1;
	if (!raw)
		side_start(p, &p->server, fds[0], p->server_tls, NULL);
	side_start(p, &p->client, fds[1], p->client_tls, host);
}

static void pair_stop(struct pair *p)
{
	loop_timer_disarm(&p->client.rested);
	io_stream_free(p->client.stream);
	io_stream_free(p->server.stream);
	tls_free(p->server_tls);
	tls_free(p->client_tls);
	loop_free(p->loop);
}

#define PAIR(name) __attribute__((cleanup(pair_stop))) struct pair name = { 0 }

static void run(struct pair *p, bool (*over)(const struct pair *p))
{
	int64_t until = deadline_in(20 * NSEC_PER_SEC);

	while (!over(p) && clock_monotonic() < until)
		REQUIRE(loop_once(p->loop, until) == 0);
	CHECK(over(p));
}

static bool all_there(const struct pair *p)
{
	return (p->client.got == TOTAL && p->server.got == TOTAL) || p->client.error ||
	       p->server.error;
}

static bool client_ended(const struct pair *p)
{
	return p->client.error;
}

/* Each side writes until it cannot, and reads: neither may be waited for in vain. */
static void both_ways_at_once(void)
{
	for (int i = 0; i < 4; i++) {
		PAIR(p);

		p.client.one_at_a_time = i & 1;
		pair_start(&p, i & 2 ? files.pin : NULL, "localhost", false);
		run(&p, all_there);
		CHECK_INT(p.client.got, TOTAL);
		CHECK_INT(p.server.got, TOTAL);
		CHECK_INT(p.client.wrong + p.server.wrong, 0);
		CHECK_INT(p.client.error, 0);
		p.server.stream = io_stream_free(p.server.stream);
		run(&p, client_ended);
		CHECK_INT(p.client.error, 1);
	}
}

/* What OpenSSL holds of records that it has read is there when it is wanted again. */
static void a_reader_that_rests(void)
{
	PAIR(p);

	p.client.rests = p.client.one_at_a_time = true;
	p.client.sent = TOTAL - 1;
	pair_start(&p, NULL, "localhost", false);
	for (int64_t until = deadline_in(3 * NSEC_PER_SEC);
		clock_monotonic() < until && p.client.got < 200000;)
		REQUIRE(loop_once(p.loop, until) == 0);
	CHECK(p.client.got >= 200000);
	CHECK_INT(p.client.wrong, 0);
}

/* Buffers that are given back while nothing moves are not those of a record that is half there. */
static void a_pause_within_a_record(void)
{
	PAIR(p);

	p.server.sent = p.client.got = TOTAL - 100;
	p.client.sent = p.server.got = TOTAL;
	pair_start(&p, NULL, "localhost", false);
	run(&p, all_there);
	for (int i = 0; i < 3; i++) {
		p.halting->halt = true;
		p.server.sent = p.client.got = TOTAL - 100;
		io_stream_want(p.server.stream, EPOLLIN | EPOLLOUT);
		run(&p, all_there);
		CHECK_INT(p.client.got, TOTAL);
		CHECK_INT(p.client.wrong, 0);
		CHECK_INT(p.client.error, 0);
	}
}

static void who_is_not_trusted(void)
{
	static const char zeros[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	static const struct {
		const char *pin, *host;
		int error;
	} cases[] = {
		{ NULL, "example.com", -EKEYREJECTED },
		{ NULL, "127.0.0.2", -EKEYREJECTED },
		{ zeros, "localhost", -EKEYREJECTED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		PAIR(p);

		pair_start(&p, cases[i].pin, cases[i].host, false);
		run(&p, client_ended);
		CHECK_INT(p.client.error, cases[i].error);
		CHECK_INT(p.client.got + p.server.got, 0);
	}
	{
		PAIR(p);

		pair_start(&p, NULL, "127.0.0.1", false);
		run(&p, all_there);
		CHECK_INT(p.client.got, TOTAL);
	}
}

static void no_tls_at_all(void)
{
	static const char *const answers[] = { "HTTP/1.1 400 Bad Request\r\n\r\n", "", "\x16\x03" };

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		PAIR(p);

		pair_start(&p, NULL, "localhost", true);
		REQUIRE(write(p.raw, answers[i], strlen(answers[i])) >= 0);
		shutdown(p.raw, SHUT_WR);
		run(&p, client_ended);
		CHECK(p.client.error == -EPROTO || p.client.error == 1);
		CHECK_INT(p.client.got, 0);
		close(p.raw);
	}
}

static void files_that_are_none(void)
{
	struct err err = ERR_INIT;
	struct tls *tls = NULL;

	CHECK_INT(tls_new_server("/nosuch", files.key, &tls, &err), -EINVAL);
	CHECK(strstr(err.msg, "cannot use the certificate '/nosuch'"));
	CHECK_INT(tls_new_server(files.cert, files.cert, &tls, &err), -EINVAL);
	CHECK(strstr(err.msg, "cannot use the key"));
	CHECK_INT(tls_new_client(&(struct tls_trust){ .ca_file = "/nosuch" }, &tls, &err), -EINVAL);
	CHECK_INT(tls_new_client(&(struct tls_trust){ .pin = "00" }, &tls, &err), -EINVAL);
	CHECK(strstr(err.msg, "'00' is no pin"));
	CHECK_INT(tls_new_client(&(struct tls_trust){ .ca = "" }, &tls, &err), -EINVAL);
	CHECK_INT(tls_new_client(&(struct tls_trust){ .ca = "-----BEGIN CERTIFICATE-----\nx" },
			  &tls, &err),
		-EINVAL);
	CHECK(strstr(err.msg, "no certificates in PEM"));
}

int main(void)
{
	static const struct test tests[] = { TEST(both_ways_at_once), TEST(a_reader_that_rests),
		TEST(a_pause_within_a_record), TEST(who_is_not_trusted), TEST(no_tls_at_all),
		TEST(files_that_are_none) };
	int r;

	make_files();
	r = test_main(tests, ARRAY_SIZE(tests));
	remove_files();
	return r;
}
