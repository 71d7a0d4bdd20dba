/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/rate.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/macro.h"

static void refill(struct rpc_rate *rate)
{
	int64_t now = clock_monotonic();
	double more = (double)(now - rate->at) / NSEC_PER_SEC * (double)rate->bytes;
	double left = (double)rate->left + more, most = (double)rate->bytes;

	rate->left = (int64_t)(left < most ? left : most);
	rate->at = now;
}

/* When there will be so many. */
static int64_t time_of(const struct rpc_rate *rate, int64_t bytes)
{
	return rate->at +
	       (int64_t)((double)(bytes - rate->left) / (double)rate->bytes * NSEC_PER_SEC) + 1;
}

static void on_time(struct loop_timer *timer);

/* Those whose turn it is. */
static void let_go(struct rpc_rate *rate, bool all)
{
	while ((all || rate->left > 0) && !list_empty(&rate->waiting)) {
		struct rpc_rate_wait *wait =
			list_entry(rate->waiting.next, struct rpc_rate_wait, link);

		list_remove(&wait->link);
		wait->go(wait);
	}
}

static void arm(struct rpc_rate *rate)
{
	bool idle = list_empty(&rate->waiting);

	if (idle && rate->refs)
		return;
	if (loop_timer_arm(rate->loop, &rate->timer, time_of(rate, idle ? (int64_t)rate->bytes : 1),
		    on_time) == 0)
		return;
	/* Without memory for a timer nobody is held up, rather than for ever. */
	if (idle)
		rpc_rate_free(rate);
	else
		let_go(rate, true);
}

static void on_time(struct loop_timer *timer)
{
	struct rpc_rate *rate = container_of(timer, struct rpc_rate, timer);

	refill(rate);
	if (list_empty(&rate->waiting) && !rate->refs) {
		if (rate->left >= (int64_t)rate->bytes - 1)
			rpc_rate_free(rate);
		else
			arm(rate);
		return;
	}
	rate->refs++;
	let_go(rate, false);
	rate->refs--;
	arm(rate);
}

struct rpc_rate *rpc_rate_new(struct loop *loop, uint64_t bytes, const char *key)
{
	struct rpc_rate *rate = calloc(1, sizeof(*rate));

	if (!rate)
		return NULL;
	rate->loop = loop;
	rate->bytes = bytes;
	rate->left = (int64_t)bytes;
	rate->at = clock_monotonic();
	list_init(&rate->link);
	list_init(&rate->waiting);
	snprintf(rate->key, sizeof(rate->key), "%s", key);
	return rate;
}

struct rpc_rate *rpc_rate_ref(struct rpc_rate *rate)
{
	rate->refs++;
	return rate;
}

struct rpc_rate *rpc_rate_unref(struct rpc_rate *rate)
{
	if (rate && --rate->refs == 0) {
		refill(rate);
		arm(rate);
	}
	return NULL;
}

void rpc_rate_free(struct rpc_rate *rate)
{
	loop_timer_disarm(&rate->timer);
	list_remove(&rate->link);
	free(rate);
}

bool rpc_rate_take(struct rpc_rate *rate, size_t n, struct rpc_rate_wait *wait)
{
	refill(rate);
	rate->left -= (int64_t)n;
	if (rate->left > 0)
		return true;
	if (list_empty(&wait->link))
		list_add_tail(&rate->waiting, &wait->link);
	arm(rate);
	return false;
}

void rpc_rate_cancel(struct rpc_rate_wait *wait)
{
	list_remove(&wait->link);
}
