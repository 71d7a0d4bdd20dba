/* SPDX-License-Identifier: Apache-2.0 */
/*
 * So many bytes a second for all calls together that are passed on for one and the same (a token
 * bucket that holds one second's worth). A message is never cut: one that is larger than what is
 * left goes through, and the next ones wait longer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "io/loop.h"

struct rpc_rate {
	struct list link; /* the user's; out of any list when it is freed */
	struct loop *loop;
	uint64_t bytes; /* a second */
	int64_t left;	/* at `at`; below zero: owed */
	int64_t at;	/* CLOCK_MONOTONIC ns */
	unsigned refs;
	struct list waiting;
	struct loop_timer timer;
	char key[160];
};

/* Somebody who waits for his turn. */
struct rpc_rate_wait {
	struct list link;
	void (*go)(struct rpc_rate_wait *wait);
};

/* bytes: more than 0. Without a reference yet. NULL without memory. */
struct rpc_rate *rpc_rate_new(struct loop *loop, uint64_t bytes, const char *key);
struct rpc_rate *rpc_rate_ref(struct rpc_rate *rate);
/* Without the last it lives on until its second's worth is there again: who comes back before finds
 * it as it was. Returns NULL. */
struct rpc_rate *rpc_rate_unref(struct rpc_rate *rate);
/* At once; nobody waits or refers to it any more. */
void rpc_rate_free(struct rpc_rate *rate);

/* Takes n bytes, which are on their way. False: nothing more for now; wait->go comes when there may
 * be, once, unless rpc_rate_cancel() does first. */
bool rpc_rate_take(struct rpc_rate *rate, size_t n, struct rpc_rate_wait *wait);
void rpc_rate_cancel(struct rpc_rate_wait *wait); /* no-op unless it waits */
