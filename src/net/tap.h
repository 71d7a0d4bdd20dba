/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's end of a network on a bridge: frames between its guest and a tap device. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "net/filter.h"

struct tap;

/* Joins the bridge (net/bridge.h). plan is borrowed; mac is the guest's; send gets each frame for
 * the guest (borrowed for the call). 0 or -errno with err. */
int tap_new(const struct net_plan *plan, const char *bridge, const uint8_t mac[static 6],
	void (*send)(const void *frame, size_t len, void *arg), void *arg, struct tap **ret_tap,
	struct err *err);
struct tap *tap_free(struct tap *tap);

/* A frame from the guest that the filter has passed. True: it was for the bridge, or none that the
 * guest may send there, and is dealt with. */
bool tap_take(struct tap *tap, const uint8_t *frame, size_t len);

/* As stack_fill() and stack_turn(). */
#define TAP_FDS_MAX 1
unsigned tap_fill(const struct tap *tap, struct pollfd *fds, bool paused);
void tap_turn(struct tap *tap, const struct pollfd *fds, unsigned n);
