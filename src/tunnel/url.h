/* SPDX-License-Identifier: Apache-2.0 */
/* Where an agent finds its server: unix:///PATH, http://HOST:PORT. */
#pragma once

#include <stdbool.h>

#include "io/addr.h"

struct tunnel_url {
	struct addr addr;
	char authority[80]; /* for the request's ":authority" */
	bool exposed;	    /* what is sent there can be read on the way */
};

/*
 * HOST is a numeric address or "localhost". 0; -EINVAL; -EPROTONOSUPPORT: https, which this agent
 * does not speak; each with err.
 */
int tunnel_url_parse(const char *text, struct tunnel_url *ret_url, struct err *err);
