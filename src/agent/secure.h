/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What micropod-agent-tls can do beyond micropod-agent: speak TLS to its server, and look up the
 * server's name. secure-tls.c is linked into the one, secure-none.c into the other. Nothing of it
 * reads a library, a certificate or a list of authorities from the container's image; the resolver
 * reads /etc/resolv.conf and /etc/hosts, which are the engine's.
 */
#pragma once

#include "tls/tls.h"
#include "tunnel/dialer.h"

struct secure;

/* What the URLs may be. */
extern const struct tunnel_url_opts secure_urls;

/* For a URL that is https or has a name in it; ca: text, as in tls/tls.h. 0 or -errno with err. */
int secure_new(const struct tunnel_url *url, const struct tls_trust *trust,
	struct secure **ret_secure, struct err *err);
/* After the dialer. Returns NULL. */
struct secure *secure_free(struct secure *secure);

/* Adds to opts what dials so; secure must outlive the dialer. 0 or -ENOMEM. */
int secure_use(struct secure *secure, struct loop *loop, struct tunnel_dialer_opts *opts);
