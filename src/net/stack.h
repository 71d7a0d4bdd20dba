/* SPDX-License-Identifier: Apache-2.0 */
/* libslirp behind a small face: frames in, frames out, descriptors to poll. */
#pragma once

#include <poll.h>

#include "net/filter.h"
#include "net/net.h"

struct stack;

/* plan is borrowed; send gets each frame for the guest (borrowed for the call). 0 or -errno with
 * err. */
int stack_new(const struct net_plan *plan, bool host_access,
	void (*send)(const void *frame, size_t len, void *arg), void *arg, struct stack **ret_stack,
	struct err *err);
struct stack *stack_free(struct stack *stack);

/* A frame from the guest, already filtered. */
void stack_input(struct stack *stack, const uint8_t *frame, size_t len);

/* Binds host_ip:host (IPv4, not empty; port not 0) to the guest's TCP port. 0 or -errno. */
int stack_forward(struct stack *stack, const char *host_ip, uint16_t host, uint16_t guest);

/*
 * One turn: stack_fill() puts its descriptors into fds (at most max; those beyond wait for a later
 * turn) and lowers *timeout_ms (-1: for ever); after poll(2), stack_turn() handles what came.
 * paused: it reads nothing from the network.
 */
unsigned stack_fill(struct stack *stack, struct pollfd *fds, unsigned max, int *timeout_ms);
void stack_turn(struct stack *stack, const struct pollfd *fds, unsigned n, bool paused);
