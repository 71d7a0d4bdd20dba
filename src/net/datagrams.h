/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published UDP ports. libslirp's own forwarding of UDP cannot answer clients on the host's
 * loopback while the guest is kept from it, and knows no IPv6; so these datagrams pass by it.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>

#include "net/filter.h"
#include "net/net.h"

struct datagrams;

/* plan is borrowed; send gets each frame for the guest (borrowed for the call). 0 or -ENOMEM. */
int datagrams_new(const struct net_plan *plan,
	void (*send)(const void *frame, size_t len, void *arg), void *arg,
	struct datagrams **ret_d);
struct datagrams *datagrams_free(struct datagrams *d);

/* Binds ip:port (IPv4 or IPv6; port 0: any, *ret_port tells) for the guest's port. 0 or -errno. */
int datagrams_publish(
	struct datagrams *d, const char *ip, uint16_t port, uint16_t guest, uint16_t *ret_port);

/* A frame from the guest that the filter has passed. True: it was an answer to a client, and has
 * been sent. */
bool datagrams_take(struct datagrams *d, const uint8_t *frame, size_t len);

/* As stack_fill() and stack_turn(). */
#define DATAGRAMS_FDS_MAX (2 * LIMIT_PORTS)
unsigned datagrams_fill(const struct datagrams *d, struct pollfd *fds, bool paused);
void datagrams_turn(struct datagrams *d, const struct pollfd *fds, unsigned n);
