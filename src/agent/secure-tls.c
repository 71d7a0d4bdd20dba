/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/names.h"
#include "agent/secure.h"
#include "base/macro.h"

const struct tunnel_url_opts secure_urls = { .tls = true, .later = true };

struct secure {
	struct loop *loop;
	struct tls *tls;
	struct names *names;
	char host[sizeof(((struct tunnel_url *)NULL)->host)];
};

static int wrap(struct io_stream *plain, struct io_stream **ret_stream, void *arg)
{
	struct secure *s = arg;

	return tls_wrap(s->loop, s->tls, plain, s->host, ret_stream);
}

int secure_new(const struct tunnel_url *url, const struct tls_trust *trust,
	struct secure **ret_secure, struct err *err)
{
	struct secure *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return err_errno(err, ENOMEM, "cannot set up TLS");
	memcpy(s->host, url->host, sizeof(s->host));
	if (url->tls)
		r = tls_new_client(trust, &s->tls, err);
	if (r < 0)
		s = secure_free(s);
	*ret_secure = s;
	return r;
}

struct secure *secure_free(struct secure *s)
{
	if (s) {
		names_free(s->names);
		tls_free(s->tls);
		free(s);
	}
	return NULL;
}

static int lookup(void *arg, const char *name,
	void (*found)(void *found_arg, int r, const char *address), void *found_arg)
{
	struct secure *s = arg;

	return names_lookup(s->names, name, found, found_arg);
}

static void cancel(void *arg)
{
	struct secure *s = arg;

	names_cancel(s->names);
}

int secure_use(struct secure *s, struct loop *loop, struct tunnel_dialer_opts *opts)
{
	int r = names_new(loop, &s->names);

	s->loop = loop;
	opts->names = (struct tunnel_names){ lookup, cancel, s };
	if (s->tls) {
		opts->wrap = wrap;
		opts->wrap_arg = s;
	}
	return r;
}
