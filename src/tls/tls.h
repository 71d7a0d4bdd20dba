/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 (RFC 8446) on a byte stream: another io_stream around it. HTTP/2 is agreed on by ALPN
 * (RFC 9113 section 3.2).
 */
#pragma once

#include "base/err.h"
#include "io/stream.h"

struct tls;

#define TLS_PIN_LEN 64 /* hex digits */

/* cert: PEM, with its chain; key: PEM. 0 or -errno with err. Blocks on the disk. */
int tls_new_server(const char *cert, const char *key, struct tls **ret_tls, struct err *err);

/*
 * Whom a client trusts. With a pin, the SHA-256 of the peer's certificate (DER) in hex, nothing
 * else is trusted or checked. Without one the peer's chain and name are, by the authorities in one
 * of the other two; by the system's if there is neither.
 */
struct tls_trust {
	const char *pin;
	const char *ca_file; /* PEM */
	const char *ca;	     /* its text */
};

/* 0 or -errno with err. Blocks on the disk for a file or the system's. */
int tls_new_client(const struct tls_trust *trust, struct tls **ret_tls, struct err *err);
struct tls *tls_free(struct tls *tls);

/*
 * Takes inner over, also on failure; host: the name or address to be checked, NULL for a server.
 * The handshake happens with the first read or write; a peer that is not trusted is -EKEYREJECTED,
 * one that speaks something else -EPROTO. 0 or -errno.
 */
int tls_wrap(struct loop *loop, struct tls *tls, struct io_stream *inner, const char *host,
	struct io_stream **ret_stream);
