/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: OpenSSL reads and writes through a BIO that is the inner stream. It may want to
 * read in order to write and the other way round, so what the inner stream is asked for follows
 * from what OpenSSL has said last; and it may hold bytes that the inner stream will not announce
 * again, for which the user is told once more from the loop. The records that one write makes are
 * put together and sent at once; what the inner stream does not take goes out when it does, without
 * the user having to ask.
 */
#include "tls/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/macro.h"

#define READ_BUFFER (64 * KIB)
#define OUT_SIZE    (96 * KIB) /* of which a write fills no more than OUT_FULL, by whole records */
#define OUT_FULL    (OUT_SIZE - 17 * KIB)
#define IDLE	    (100 * NSEC_PER_MSEC)

struct tls {
	SSL_CTX *ctx;
	bool is_server;
	bool pinned;
	uint8_t pin[TLS_PIN_LEN / 2];
};

struct tls_stream {
	struct io_stream stream;
	struct loop *loop;
	struct io_stream *inner;
	SSL *ssl;
	struct loop_defer wake;
	/* Runs out when nothing was moved for a while: OpenSSL's buffers are given back then. */
	struct loop_timer idle;
	bool moved;   /* since it was armed */
	bool drained; /* the inner stream gave less than was asked for: it will tell of more */
	bool starved; /* OpenSSL has what it got, and needs more for the next byte */
	uint32_t wanted;
	/* What the inner stream must be able to do for a read, and for a write, to go on: EPOLLIN
	 * or EPOLLOUT. */
	uint32_t read_needs, write_needs;
	/* Encrypted and not sent yet: out[sent..len). NULL if there is nothing. */
	uint8_t *out;
	size_t sent, len;
	int error;
};

static BIO_METHOD *method;

/* The last one's, for the next: to some allocators such a block is a mapping of its own. */
static uint8_t *spare_out;

static struct tls_stream *stream_of(struct io_stream *s)
{
	return container_of(s, struct tls_stream, stream);
}

/* The inner stream as a BIO */

static int bio_read(BIO *bio, char *buf, int n)
{
	struct tls_stream *t = BIO_get_data(bio);
	ssize_t got = t->drained ? -EAGAIN : io_stream_read(t->inner, buf, (size_t)n);

	BIO_clear_retry_flags(bio);
	if (got == -EAGAIN)
		BIO_set_retry_read(bio);
	else if (got < 0)
		t->error = (int)got;
	else
		t->starved = false;
	t->drained = got == -EAGAIN || (got > 0 && got < n);
	return got < 0 ? -1 : (int)got;
}

static void give_out(struct tls_stream *t)
{
	if (spare_out)
		free(t->out);
	else
		spare_out = t->out;
	t->out = NULL;
	t->sent = t->len = 0;
}

/* Sends what has been put together, as far as the inner stream takes it. */
static void flush_out(struct tls_stream *t)
{
	while (t->sent < t->len && !t->error) {
		struct iovec iov = { t->out + t->sent, t->len - t->sent };
		ssize_t put = io_stream_writev(t->inner, &iov, 1);

		if (put == -EAGAIN)
			return;
		if (put < 0)
			t->error = (int)put;
		else
			t->sent += (size_t)put;
	}
	if (t->out)
		give_out(t);
}

static bool may_write(struct tls_stream *t)
{
	return t->len - t->sent < OUT_FULL;
}

static int bio_write(BIO *bio, const char *buf, int n)
{
	struct tls_stream *t = BIO_get_data(bio);
	size_t put;

	BIO_clear_retry_flags(bio);
	if (t->error || n <= 0)
		return -1;
	if (!t->out) {
		t->out = spare_out ? take_ptr(spare_out) : malloc(OUT_SIZE);
		if (!t->out) {
			t->error = -ENOMEM;
			return -1;
		}
	}
	if (t->sent) {
		memmove(t->out, t->out + t->sent, t->len - t->sent);
		t->len -= t->sent;
		t->sent = 0;
	}
	put = MIN((size_t)n, OUT_SIZE - t->len);
	if (!put) {
		BIO_set_retry_write(bio);
		return -1;
	}
	memcpy(t->out + t->len, buf, put);
	t->len += put;
	return (int)put;
}

static long bio_ctrl(BIO *bio, int command, long number, void *arg)
{
	return command == BIO_CTRL_FLUSH;
}

static int make_method(void)
{
	if (method)
		return 0;
	method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "io_stream");
	if (!method || !BIO_meth_set_read(method, bio_read) ||
		!BIO_meth_set_write(method, bio_write) || !BIO_meth_set_ctrl(method, bio_ctrl))
		return -ENOMEM;
	return 0;
}

/* What comes of a call of OpenSSL's that has returned r, not more than 0. *needs: of such calls. */
static ssize_t outcome(struct tls_stream *t, int r, uint32_t *needs)
{
	int why = SSL_get_error(t->ssl, r);

	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		*needs = why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
		return -EAGAIN;
	}
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (!t->error)
		t->error = SSL_get_verify_result(t->ssl) != X509_V_OK ? -EKEYREJECTED : -EPROTO;
	ERR_clear_error();
	return t->error;
}

static void on_idle(struct loop_timer *timer)
{
	struct tls_stream *t = container_of(timer, struct tls_stream, idle);

	/* Nor in the middle of a record: OpenSSL before 3.0.14 would lose its head
	 * (CVE-2024-4741). It does not as long as there is something in them. */
	if (t->moved || strcmp(SSL_rstate_string(t->ssl), "RH") != 0 || !SSL_free_buffers(t->ssl)) {
		t->moved = false;
		loop_timer_arm(t->loop, timer, deadline_in(IDLE), on_idle);
	}
}

/* Bytes were moved. Not by SSL_MODE_RELEASE_BUFFERS, which gives them back after each record: more
 * costly than the record, where each such block is a mapping of its own. */
static void note_move(struct tls_stream *t)
{
	t->moved = t->idle.index != 0;
	if (!t->moved)
		loop_timer_arm(t->loop, &t->idle, deadline_in(IDLE), on_idle);
}

static void ask_inner(struct tls_stream *t)
{
	io_stream_want(t->inner, (t->wanted & EPOLLIN ? t->read_needs : 0) |
					 (t->wanted & EPOLLOUT ? t->write_needs : 0) |
					 (t->sent < t->len ? EPOLLOUT : 0));
}

static void on_wake(struct loop_defer *defer)
{
	struct tls_stream *t = container_of(defer, struct tls_stream, wake);

	if (t->stream.on_event && (t->wanted & EPOLLIN))
		t->stream.on_event(t->stream.arg, EPOLLIN);
}

/* What was read ahead nobody else announces. */
static void announce(struct tls_stream *t)
{
	if (!t->starved && SSL_has_pending(t->ssl))
		loop_defer_queue(t->loop, &t->wake, on_wake);
}

static void on_inner(void *arg, uint32_t events)
{
	struct tls_stream *t = arg;
	/* Either may be possible by now: trying tells. */
	uint32_t tell = t->wanted | (events & (EPOLLERR | EPOLLHUP));

	if (events & ~(uint32_t)EPOLLOUT)
		t->drained = false;
	if (t->out) {
		flush_out(t);
		ask_inner(t);
		/* Only this was waited for. */
		if (events == EPOLLOUT && !(t->wanted & EPOLLOUT) && t->read_needs == EPOLLIN &&
			!t->error)
			return;
	}
	if (tell && t->stream.on_event)
		t->stream.on_event(t->stream.arg, tell);
}

/* The stream */

static ssize_t tls_read(struct io_stream *s, void *buf, size_t n)
{
	struct tls_stream *t = stream_of(s);
	size_t got = 0, done = 0;
	int r = 1;

	if (t->error)
		return t->error;
	/* As many records as there are. */
	while (done < n && r > 0) {
		r = SSL_read_ex(t->ssl, (uint8_t *)buf + done, n - done, &got);
		done += r > 0 ? got : 0;
	}
	/* An answer of the protocol's own. */
	if (t->out)
		flush_out(t);
	if (done) {
		t->read_needs = EPOLLIN;
		note_move(t);
	}
	if (r <= 0) {
		r = (int)outcome(t, r, &t->read_needs);
		t->starved = r == -EAGAIN && t->read_needs == EPOLLIN;
	} else {
		announce(t);
	}
	ask_inner(t);
	/* An error is kept for the next call. */
	return done ? (ssize_t)done : r;
}

/* One part, by as many records as there is room for. Bytes or, for the first, -errno. */
static ssize_t encrypt_part(struct tls_stream *t, const uint8_t *data, size_t n)
{
	size_t put = 0, done = 0;
	int r = 1;

	while (done < n && r > 0 && may_write(t)) {
		r = SSL_write_ex(t->ssl, data + done, n - done, &put);
		if (r > 0)
			done += put;
	}
	if (r > 0) {
		t->write_needs = EPOLLOUT;
		note_move(t);
		return done ? (ssize_t)done : -EAGAIN;
	}
	r = (int)outcome(t, r, &t->write_needs);
	/* An error is kept for the next call. */
	return done ? (ssize_t)done : r == 0 ? -EPIPE : r;
}

static ssize_t tls_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	struct tls_stream *t = stream_of(s);
	ssize_t r;

	if (t->error)
		return t->error;
	while (n > 0 && !iov->iov_len) {
		iov++;
		n--;
	}
	if (n <= 0)
		return 0;
	r = encrypt_part(t, iov->iov_base, iov->iov_len);
	if (t->out) {
		flush_out(t);
		ask_inner(t);
	}
	if (r == -EAGAIN)
		ask_inner(t);
	return r;
}

static void tls_want(struct io_stream *s, uint32_t events)
{
	struct tls_stream *t = stream_of(s);

	t->wanted = events;
	ask_inner(t);
	if (events & EPOLLIN)
		announce(t);
}

static void tls_stream_free(struct io_stream *s)
{
	struct tls_stream *t = stream_of(s);

	/* Best effort: whoever has to know ends his own protocol first. */
	if (!t->error && SSL_is_init_finished(t->ssl))
		SSL_shutdown(t->ssl);
	flush_out(t);
	if (t->out)
		give_out(t);
	ERR_clear_error();
	loop_defer_cancel(&t->wake);
	loop_timer_disarm(&t->idle);
	SSL_free(t->ssl);
	io_stream_free(t->inner);
	free(t);
}

static const struct io_stream_ops ops = {
	.read = tls_read, .writev = tls_writev, .free = tls_stream_free, .want = tls_want
};

static int set_peer(SSL *ssl, const char *host)
{
	uint8_t address[sizeof(struct in6_addr)];
	bool numeric =
		inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;

	if (numeric)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) ? 0 : -ENOMEM;
	return SSL_set_tlsext_host_name(ssl, host) && SSL_set1_host(ssl, host) ? 0 : -ENOMEM;
}

int tls_wrap(struct loop *loop, struct tls *tls, struct io_stream *inner, const char *host,
	struct io_stream **ret_stream)
{
	struct tls_stream *t = calloc(1, sizeof(*t));
	BIO *bio = make_method() == 0 ? BIO_new(method) : NULL;

	if (t)
		t->ssl = SSL_new(tls->ctx);
	if (!t || !bio || !t->ssl || (host && !tls->pinned && set_peer(t->ssl, host) < 0)) {
		if (t)
			SSL_free(t->ssl);
		BIO_free(bio);
		free(t);
		io_stream_free(inner);
		return -ENOMEM;
	}
	t->stream.ops = &ops;
	t->stream.fd = -1;
	t->loop = loop;
	t->inner = inner;
	t->read_needs = EPOLLIN;
	t->write_needs = EPOLLOUT;
	inner->on_event = on_inner;
	inner->arg = t;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, tls);
	if (tls->is_server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	*ret_stream = &t->stream;
	return 0;
}

/* Contexts */

static const unsigned char h2[] = { 2, 'h', '2' };

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
	const unsigned char *in, unsigned in_len, void *arg)
{
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, h2, sizeof(h2), in,
		       in_len) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Instead of a chain: one certificate is known, and it is this. */
static int on_verify_pin(X509_STORE_CTX *store, void *arg)
{
	const struct tls *tls = arg;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	X509 *cert = X509_STORE_CTX_get0_cert(store);

	if (cert && X509_digest(cert, EVP_sha256(), digest, &len) && len == sizeof(tls->pin) &&
		secret_equal(digest, tls->pin, len))
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int ssl_err(struct err *err, const char *what, const char *path)
{
	char reason[256];

	ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
	ERR_clear_error();
	return err_set(err, EINVAL, "cannot use the %s '%s': %s", what, path, reason);
}

static int new_context(bool is_server, struct tls **ret_tls, struct err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));

	if (tls)
		tls->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	if (!tls || !tls->ctx || !SSL_CTX_set_min_proto_version(tls->ctx, TLS1_3_VERSION)) {
		tls_free(tls);
		return err_errno(err, ENOMEM, "cannot set up TLS");
	}
	tls->is_server = is_server;
	/* The first that both have is taken. All are sound; this one RFC 8446 section 9.1 makes a
	 * must, and it has the fewest rounds. */
	SSL_CTX_set_ciphersuites(tls->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					   "TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_mode(
		tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Several records at once, in place of two reads for each. */
	SSL_CTX_set_read_ahead(tls->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(tls->ctx, READ_BUFFER);
	*ret_tls = tls;
	return 0;
}

int tls_new_server(const char *cert, const char *key, struct tls **ret_tls, struct err *err)
{
	struct tls *tls = NULL;
	int r = new_context(true, &tls, err);

	if (r < 0)
		return r;
	if (SSL_CTX_use_certificate_chain_file(tls->ctx, cert) != 1)
		r = ssl_err(err, "certificate", cert);
	else if (SSL_CTX_use_PrivateKey_file(tls->ctx, key, SSL_FILETYPE_PEM) != 1)
		r = ssl_err(err, "key", key);
	if (r < 0) {
		tls_free(tls);
		return r;
	}
	SSL_CTX_set_alpn_select_cb(tls->ctx, on_alpn, NULL);
	*ret_tls = tls;
	return 0;
}

/* The certificates in the text, of which there must be one. */
static int add_authorities(SSL_CTX *ctx, const char *text, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	bool good = bio != NULL;
	unsigned n = 0;
	X509 *cert;

	while (good && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		good = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert);
		X509_free(cert);
		n++;
	}
	BIO_free(bio);
	/* The end of the text is an error of the reader's. */
	good = good && n && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	return good ? 0 : err_set(err, EINVAL, "the authorities are no certificates in PEM");
}

static int set_trust(struct tls *tls, const struct tls_trust *trust, struct err *err)
{
	if (trust->pin && hex_decode(trust->pin, tls->pin, sizeof(tls->pin)) < 0)
		return err_set(err, EINVAL,
			"'%.100s' is no pin: give the SHA-256 of the certificate as %d hex digits",
			trust->pin, TLS_PIN_LEN);
	if (trust->pin) {
		tls->pinned = true;
		SSL_CTX_set_cert_verify_callback(tls->ctx, on_verify_pin, tls);
		return 0;
	}
	if (trust->ca)
		return add_authorities(tls->ctx, trust->ca, err);
	if (trust->ca_file && SSL_CTX_load_verify_file(tls->ctx, trust->ca_file) != 1)
		return ssl_err(err, "file of authorities", trust->ca_file);
	if (!trust->ca_file && SSL_CTX_set_default_verify_paths(tls->ctx) != 1)
		return ssl_err(err, "authorities of", "the system");
	return 0;
}

int tls_new_client(const struct tls_trust *trust, struct tls **ret_tls, struct err *err)
{
	struct tls *tls = NULL;
	int r = new_context(false, &tls, err);

	if (r < 0)
		return r;
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	r = set_trust(tls, trust, err);
	if (r == 0 && SSL_CTX_set_alpn_protos(tls->ctx, h2, sizeof(h2)) != 0)
		r = err_errno(err, ENOMEM, "cannot set up TLS");
	if (r < 0) {
		tls_free(tls);
		return r;
	}
	*ret_tls = tls;
	return 0;
}

struct tls *tls_free(struct tls *tls)
{
	if (tls) {
		SSL_CTX_free(tls->ctx);
		free(tls);
	}
	return NULL;
}
