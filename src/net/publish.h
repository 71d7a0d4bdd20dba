/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports: their words, and who holds one that is taken. */
#pragma once

#include "net/net.h"

/* "[IP:]HOST:GUEST[/udp|/tcp]", IPv6 in brackets, HOST may be 0. 0 or -EINVAL with err. */
int publish_parse(const char *text, struct net_port *ret_port, struct err *err);

/* The same back into words; out[PUBLISH_TEXT]. */
#define PUBLISH_TEXT 72
void publish_format(const struct net_port *port, char *out);

/* One line for a port that could not be bound: why (code), who holds it, what to do. Returns -code.
 */
int publish_error(const struct net_port *port, int code, struct err *err);
