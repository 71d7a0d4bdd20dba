/* SPDX-License-Identifier: Apache-2.0 */
/* Times are nanoseconds in int64_t; deadlines are on CLOCK_MONOTONIC. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC  ((int64_t)1000000000)
#define NSEC_PER_MSEC ((int64_t)1000000)
#define NSEC_PER_USEC ((int64_t)1000)
#define DEADLINE_NONE INT64_MAX

static inline int64_t clock_now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static inline int64_t clock_monotonic(void)
{
	return clock_now(CLOCK_MONOTONIC);
}

static inline int64_t clock_realtime(void)
{
	return clock_now(CLOCK_REALTIME);
}

/* now + delay, DEADLINE_NONE on overflow. */
static inline int64_t deadline_in(int64_t delay_ns)
{
	int64_t d;

	if (__builtin_add_overflow(clock_monotonic(), delay_ns, &d))
		return DEADLINE_NONE;
	return d;
}

/* Milliseconds left until deadline for poll(2): rounded up, 0 if past, -1 for DEADLINE_NONE. */
static inline int deadline_poll_ms(int64_t deadline)
{
	int64_t left;

	if (deadline == DEADLINE_NONE)
		return -1;
	left = deadline - clock_monotonic();
	if (left <= 0)
		return 0;
	left = (left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}
