/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the sandbox may be. Its program is killed after --timeout. The sandbox is stopped at the
 * end of its lifetime, an hour of the clock that `extend` moves and that holds for a shim after
 * this one; and when nobody has used it for so long: a call that is passed on to the agent is
 * somebody, as long as it is open.
 */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "shim/health.h"

#define LOOK_AGAIN (60 * NSEC_PER_SEC) /* somebody may have set the clock */

static void on_timeout(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, limit);

	if (shim->ending || shim->exited)
		return;
	log_info("it has run for as long as it may: killed");
	shim->timed_out = true;
	shim_stop_container(shim, "KILL", 0);
}

static void stop(struct shim *shim, const char *by)
{
	struct sandbox_state *st = &shim->box.state;

	if (shim->ending || shim->exited || shim->stopping)
		return;
	log_info("limit=%s: stopped", by);
	snprintf(st->stopped_by, sizeof(st->stopped_by), "%s", by);
	if (shim->box.config.limit_removes)
		shim->remove = true;
	shim_stop_container(shim, "", shim->box.config.stop_grace_ns);
}

/* Without memory for a timer it would run for ever: better not at all. */
static void arm(struct shim *shim, struct loop_timer *timer, int64_t in,
	void (*cb)(struct loop_timer *timer))
{
	if (loop_timer_arm(shim->loop, timer, deadline_in(in), cb) < 0)
		shim_lost(shim, "out of memory");
}

static void on_lifetime(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, lifetime);
	int64_t left = shim->box.state.deadline_ns - clock_realtime();

	if (left <= 0)
		stop(shim, "lifetime");
	else
		arm(shim, timer, MIN(left, LOOK_AGAIN), on_lifetime);
}

static void arm_lifetime(struct shim *shim)
{
	if (shim->box.state.deadline_ns)
		arm(shim, &shim->lifetime, 0, on_lifetime);
	else
		loop_timer_disarm(&shim->lifetime);
}

static void on_idle(struct loop_timer *timer)
{
	stop(container_of(timer, struct shim, idle), "idle");
}

static void arm_idle(struct shim *shim)
{
	if (!shim->started || shim->users || !shim->box.config.idle_ns)
		loop_timer_disarm(&shim->idle);
	else
		arm(shim, &shim->idle, shim->box.config.idle_ns, on_idle);
}

void shim_limits_start(struct shim *shim)
{
	const struct sandbox_config *c = &shim->box.config;
	struct sandbox_state *st = &shim->box.state;

	if (c->timeout_ns > 0)
		arm(shim, &shim->limit, c->timeout_ns, on_timeout);
	st->stopped_by[0] = 0;
	if (!shim->adopt && !shim->restarts)
		st->deadline_ns = c->lifetime_ns ? clock_realtime() + c->lifetime_ns : 0;
	arm_lifetime(shim);
	arm_idle(shim);
	shim_health_start(shim);
}

void shim_limits_end(struct shim *shim)
{
	shim_health_end(shim);
	loop_timer_disarm(&shim->limit);
	loop_timer_disarm(&shim->lifetime);
	loop_timer_disarm(&shim->idle);
}

void shim_used(struct shim *shim)
{
	shim->users++;
	arm_idle(shim);
}

void shim_unused(struct shim *shim)
{
	if (shim->users)
		shim->users--;
	if (!shim->ending)
		arm_idle(shim);
}

int shim_extend(struct shim *shim, int64_t time_ns, int64_t *ret_deadline)
{
	const struct sandbox_config *c = &shim->box.config;
	struct sandbox_state *st = &shim->box.state;

	if (!st->deadline_ns && !c->idle_ns)
		return -ENOENT;
	if (time_ns < 0)
		time_ns = c->lifetime_ns;
	if (!time_ns)
		st->deadline_ns = 0;
	else if (st->deadline_ns)
		st->deadline_ns = MAX(st->deadline_ns, clock_realtime() + time_ns);
	shim_save_state(shim);
	arm_lifetime(shim);
	arm_idle(shim);
	*ret_deadline = st->deadline_ns;
	return 0;
}
