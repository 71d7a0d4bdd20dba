/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports as Docker's -p writes them. */
#pragma once

#include "sandbox/config.h"

struct port_list {
	struct sandbox_port *v; /* owned */
	size_t n;
};

/*
 * "80", "8080:80", "127.0.0.1:8080:80/udp", "[::1]:8080:80", "127.0.0.1::80", "8000-8002:80-82":
 * appends to list. 0, -EINVAL, -E2BIG (more than LIMIT_PORTS) or -ENOMEM with err.
 */
int ports_parse(const char *spec, struct port_list *list, struct err *err);

/*
 * Takes "[ip]:" or "ip:" off the front of *s, where three parts stand between colons: *s is then
 * what follows. out is "" where there is none, or an empty one. 0 or -EINVAL.
 */
int ports_take_ip(char **s, char out[static 46]);
