/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --restart: when all that ran is gone, the sandbox is started again by the same process, which
 * executes itself: nothing is left of the run before, and the lock is held all the time. Until then
 * it waits, longer each time, and serves: somebody may want it to stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"
#include "shim/shim.h"

/* As Docker's: doubled each time, from the first on again after a run of WELL. */
#define DELAY_FIRST (100 * NSEC_PER_MSEC)
#define DELAY_MAX   (60 * NSEC_PER_SEC)
#define WELL	    (10 * NSEC_PER_SEC)
#define DRAIN_TIME  (2 * NSEC_PER_SEC)

static bool is_due(const struct shim *shim)
{
	const struct sandbox_config *c = &shim->box.config;
	const struct sandbox_state *st = &shim->box.state;

	/* A first start that fails is told to who asked for it. */
	if (!c->restart || shim->no_restart || shim->remove || st->stopped_by[0] ||
		(!shim->started && !shim->restarts))
		return false;
	if (strcmp(c->restart, "on-failure") != 0)
		return true;
	return st->exit_code != 0 && (!c->restart_max || shim->restarts < c->restart_max);
}

static int64_t next_delay(const struct shim *shim)
{
	const struct sandbox_state *st = &shim->box.state;
	bool well = st->started_ns && st->finished_ns - st->started_ns >= WELL;

	return !shim->restart_delay || well ? DELAY_FIRST : MIN(shim->restart_delay * 2, DELAY_MAX);
}

/* Comes back only on failure. */
static int execute(struct shim *shim, struct err *err)
{
	/* Whoever waited for the verdict has it. */
	int nobody = open("/dev/null", O_WRONLY | O_CLOEXEC);
	auto_strv struct strv argv = STRV_INIT;

	if (nobody < 0 || strv_add(&argv, "micropod-shim") < 0 ||
		strv_addf(&argv, "--root=%s", shim->root->path) < 0 ||
		strv_addf(&argv, "--id=%s", shim->box.config.id) < 0 ||
		strv_addf(&argv, "--lock-fd=%d", shim->lock_fd) < 0 ||
		strv_addf(&argv, "--status-fd=%d", nobody) < 0 ||
		strv_addf(&argv, "--log-level=%d", shim->log_level) < 0 ||
		strv_addf(&argv, "--start-timeout=%u", shim->start_timeout) < 0 ||
		strv_addf(&argv, "--restarts=%u", shim->restarts + 1) < 0 ||
		strv_addf(&argv, "--restart-delay=%u",
			(unsigned)(shim->restart_delay / NSEC_PER_MSEC)) < 0 ||
		strv_add(&argv, "--detached") < 0)
		return err_errno(err, errno, "cannot start the sandbox again");
	fd_set_cloexec(shim->lock_fd, false);
	fd_set_cloexec(nobody, false);
	execv("/proc/self/exe", strv_items(&argv));
	return err_errno(err, errno, "cannot start the sandbox again");
}

static void go_on(void *arg)
{
	struct shim *shim = arg;
	struct err err = ERR_INIT;

	/* Those that have ended and nobody has asked for. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	execute(shim, &err);
	log_error("%s", err.msg);
	snprintf(shim->box.state.error, sizeof(shim->box.state.error), "%s", err.msg);
	shim_restart_cancel(shim);
}

static void on_drain_deadline(struct loop_timer *timer)
{
	go_on(container_of(timer, struct shim, timer));
}

static void on_time(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	if (!shim->server) {
		go_on(shim);
		return;
	}
	loop_timer_arm(shim->loop, &shim->timer, deadline_in(DRAIN_TIME), on_drain_deadline);
	rpc_server_drain(shim->server, go_on, shim);
}

bool shim_restart(struct shim *shim)
{
	if (!is_due(shim))
		return false;
	shim->restart_delay = next_delay(shim);
	if (loop_timer_arm(shim->loop, &shim->timer, deadline_in(shim->restart_delay), on_time) < 0)
		return false;
	log_info("policy=%s restarts=%u: started again in %lld ms", shim->box.config.restart,
		shim->restarts, (long long)(shim->restart_delay / NSEC_PER_MSEC));
	shim->restarting = true;
	shim->box.state.phase = SANDBOX_RESTARTING;
	shim_save_state(shim);
	shim_answer_waiters(shim, SHIM_WAIT_EXIT);
	return true;
}

void shim_restart_cancel(struct shim *shim)
{
	if (!shim->restarting)
		return;
	shim->restarting = false;
	shim->no_restart = true;
	loop_timer_disarm(&shim->timer);
	shim->box.state.phase = SANDBOX_EXITED;
	shim_save_state(shim);
	shim_leave(shim);
}
