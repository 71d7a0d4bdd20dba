/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire between the sandboxes of a network with a name: a folder that each member's
 * micropod-net has a datagram socket in, named after the member's address, and an empty file
 * ADDRESS=NAME for each of its names. Packets go straight from one to the other.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/strv.h"
#include "net/filter.h"

struct bus;

/*
 * Joins: makes its entries in the folder, which becomes the working folder, in the place of those
 * that an earlier member with this address left. plan is borrowed; mac is the guest's; send gets
 * each frame for the guest (borrowed for the call). 0 or -errno with err.
 */
int bus_new(const struct net_plan *plan, const char *folder, const uint8_t mac[static 6],
	const struct strv *names, void (*send)(const void *frame, size_t len, void *arg), void *arg,
	struct bus **ret_bus, struct err *err);
struct bus *bus_free(struct bus *bus);

/* A frame from the guest that the filter has passed. True: it was for another member, or asked for
 * one, and is dealt with. */
bool bus_take(struct bus *bus, const uint8_t *frame, size_t len);

/* As stack_fill() and stack_turn(). */
#define BUS_FDS_MAX (1 + LIMIT_NET_PEERS)
unsigned bus_fill(const struct bus *bus, struct pollfd *fds, bool paused);
void bus_turn(struct bus *bus, const struct pollfd *fds, unsigned n);
