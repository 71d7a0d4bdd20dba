/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: OpenSSL reads and writes through a BIO that is the inner stream. It may want to
 * read in order to write and the other way round, so what the inner stream is asked for follows
 * from what OpenSSL has said last; and it may hold bytes that the inner stream will not announce
 * again, for which the user is told once more from the loop.
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

#include "base/id.h"
#include "base/macro.h"

#define READ_BUFFER (64 * KIB)

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
	uint32_t wanted;
	/* What the inner stream must be able to do for a read, and for a write, to go on: EPOLLIN
	 * or EPOLLOUT. */
	uint32_t read_needs, write_needs;
	int error;
};

static BIO_METHOD *method;

static struct tls_stream *stream_of(struct io_stream *s)
{
	return container_of(s, struct tls_stream, stream);
}

/* The inner stream as a BIO */

static int bio_read(BIO *bio, char *buf, int n)
{
	struct tls_stream *t = BIO_get_data(bio);
	ssize_t got = n > 0 ? io_stream_read(t->inner, buf, (size_t)n) : 0;

	BIO_clear_retry_flags(bio);
	if (got == -EAGAIN)
		BIO_set_retry_read(bio);
	else if (got < 0)
		t->error = (int)got;
	return got < 0 ? -1 : (int)got;
}

static int bio_write(BIO *bio, const char *buf, int n)
{
	struct tls_stream *t = BIO_get_data(bio);
	struct iovec iov = { (void *)(uintptr_t)buf, n > 0 ? (size_t)n : 0 };
	ssize_t put = io_stream_writev(t->inner, &iov, 1);

	BIO_clear_retry_flags(bio);
	if (put == -EAGAIN)
		BIO_set_retry_write(bio);
	else if (put < 0)
		t->error = (int)put;
	return put < 0 ? -1 : (int)put;
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

static void ask_inner(struct tls_stream *t)
{
	io_stream_want(t->inner, (t->wanted & EPOLLIN ? t->read_needs : 0) |
					 (t->wanted & EPOLLOUT ? t->write_needs : 0));
}

static void on_wake(struct loop_defer *defer)
{
	struct tls_stream *t = container_of(defer, struct tls_stream, wake);

	if (t->stream.on_event && (t->wanted & EPOLLIN))
		t->stream.on_event(t->stream.arg, EPOLLIN);
}

static void on_inner(void *arg, uint32_t events)
{
	struct tls_stream *t = arg;
	/* Either may be possible by now: trying tells. */
	uint32_t tell = t->wanted | (events & (EPOLLERR | EPOLLHUP));

	if (tell && t->stream.on_event)
		t->stream.on_event(t->stream.arg, tell);
}

/* The stream */

static ssize_t tls_read(struct io_stream *s, void *buf, size_t n)
{
	struct tls_stream *t = stream_of(s);
	size_t got = 0;
	ssize_t r;

	if (t->error)
		return t->error;
	r = SSL_read_ex(t->ssl, buf, n, &got);
	if (r > 0) {
		t->read_needs = EPOLLIN;
		if (SSL_has_pending(t->ssl))
			loop_defer_queue(t->loop, &t->wake, on_wake);
		return (ssize_t)got;
	}
	r = outcome(t, (int)r, &t->read_needs);
	ask_inner(t);
	return r;
}

static ssize_t tls_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	struct tls_stream *t = stream_of(s);
	size_t put = 0;
	ssize_t r;

	if (t->error)
		return t->error;
	while (n > 0 && !iov->iov_len) {
		iov++;
		n--;
	}
	if (n <= 0)
		return 0;
	r = SSL_write_ex(t->ssl, iov->iov_base, iov->iov_len, &put);
	if (r > 0) {
		t->write_needs = EPOLLOUT;
		return (ssize_t)put;
	}
	r = outcome(t, (int)r, &t->write_needs);
	ask_inner(t);
	return r == 0 ? -EPIPE : r;
}

static void tls_want(struct io_stream *s, uint32_t events)
{
	struct tls_stream *t = stream_of(s);

	t->wanted = events;
	ask_inner(t);
	/* What was read ahead nobody else announces. */
	if (events & EPOLLIN && SSL_has_pending(t->ssl))
		loop_defer_queue(t->loop, &t->wake, on_wake);
}

static void tls_stream_free(struct io_stream *s)
{
	struct tls_stream *t = stream_of(s);

	/* Best effort: whoever has to know ends his own protocol first. */
	if (!t->error && SSL_is_init_finished(t->ssl))
		SSL_shutdown(t->ssl);
	ERR_clear_error();
	loop_defer_cancel(&t->wake);
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
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					   SSL_MODE_RELEASE_BUFFERS);
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
