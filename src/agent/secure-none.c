/* SPDX-License-Identifier: Apache-2.0 */
/* An agent that dials numeric addresses in plain: nothing asks for more than secure_urls allows. */
#include <errno.h>

#include "agent/secure.h"

const struct tunnel_url_opts secure_urls = { 0 };

int secure_new(const struct tunnel_url *url, const struct tls_trust *trust,
	struct secure **ret_secure, struct err *err)
{
	return err_set(err, EPROTONOSUPPORT, "this agent was built without TLS");
}

struct secure *secure_free(struct secure *secure)
{
	return NULL;
}

int secure_use(struct secure *secure, struct loop *loop, struct tunnel_dialer_opts *opts)
{
	return 0;
}
