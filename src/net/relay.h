/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published TCP ports over IPv6: the sandbox's network has IPv4 only, so a connection to the host's
 * IPv6 address is joined to the same published port on the host's 127.0.0.1.
 */
#pragma once

#include <poll.h>

#include "net/net.h"

struct relay;

int relay_new(struct relay **ret_relay); /* 0 or -ENOMEM */
struct relay *relay_free(struct relay *relay);

/* Listens on host_ip (IPv6) and joins what comes to 127.0.0.1:to. 0 or -errno. */
int relay_listen(struct relay *relay, const char *host_ip, uint16_t port, uint16_t to);

/* As stack_fill() and stack_turn(). */
#define RELAY_FDS_MAX (2 * (LIMIT_NET_RELAYS + LIMIT_PORTS))
unsigned relay_fill(struct relay *relay, struct pollfd *fds);
void relay_turn(struct relay *relay, const struct pollfd *fds, unsigned n);
