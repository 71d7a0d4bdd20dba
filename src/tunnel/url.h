/* SPDX-License-Identifier: Apache-2.0 */
/* Where a server is: unix:///PATH, http://HOST:PORT, https://HOST:PORT. */
#pragma once

#include <stdbool.h>

#include "io/addr.h"

struct tunnel_url {
	struct addr addr;
	char host[256];	     /* as given, for who has to check a certificate */
	char authority[272]; /* for the request's ":authority" */
	bool tls;	     /* https */
	bool named;	     /* host is a name, still to be looked up; addr has only the port */
	bool exposed;	     /* what is sent there can be read on the way */
};

/* What the caller can do beyond numeric addresses and "localhost" in plain. */
struct tunnel_url_opts {
	bool tls;
	/* The numeric address of a name to out. 0 or -errno. NULL: names are not known. */
	int (*resolve)(const char *name, char *out, size_t size);
	bool later; /* without resolve: names are let through as "named" */
};

/* A resolver, by getaddrinfo(3). Blocks. */
int tunnel_resolve(const char *name, char *out, size_t size);

/* opts: NULL for none. 0; -EINVAL; -EPROTONOSUPPORT: https, which the caller does not speak;
 * -EHOSTUNREACH: the name is not known; each with err. */
int tunnel_url_parse(const char *text, const struct tunnel_url_opts *opts,
	struct tunnel_url *ret_url, struct err *err);
