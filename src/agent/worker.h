/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that may hang or that parses a container's files: a forked child with a deadline, so that
 * the loop goes on. The child has no descriptors of the agent's but 0-2 and those named.
 */
#pragma once

#include "agent/waiter.h"
#include "base/err.h"
#include "base/strbuf.h"

struct worker;

struct worker_opts {
	/*
	 * Runs in the child: 0, or -errno with err set. What it puts into result
	 * (LIMIT_WORKER_RESULT at most) goes to done. It may leave everything unfreed: the child
	 * ends after it.
	 */
	int (*run)(void *run_arg, struct strbuf *result, struct err *err);
	void *run_arg; /* only used until worker_start() returns: the child has its copy */
	/* Once, never within worker_start(): err.code 0 for success. All borrowed. */
	void (*done)(void *arg, const struct err *err, const char *result, size_t len);
	void *arg;
	const int *keep_fds; /* stay open in the child, borrowed */
	size_t n_keep_fds;
	int64_t deadline; /* CLOCK_MONOTONIC ns; then the child is killed and err is ETIMEDOUT */
};

/* opts is copied. 0 or -errno with err, and then done does not come. */
int worker_start(struct loop *loop, struct waiter *waiter, const struct worker_opts *opts,
	struct worker **ret_worker, struct err *err);
/* Kills the child; done does not come. Returns NULL. Not needed once done was called. */
struct worker *worker_cancel(struct worker *worker);

/* In a fresh child of any kind: default signals, none blocked. */
void child_reset_signals(void);
/* In a fresh child: closes all descriptors from `from` on but those of keep (n of them). */
void child_close_fds(int from, const int *keep, size_t n);
