/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a sandbox ends: the exit (or why there is none) is recorded first, then Wait is answered,
 * then the VM goes — politely if its disk will be used again, at once if it will be removed — then
 * files, then Stop is answered, and the process leaves when its last answers are out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/trace.h"
#include "sandbox/events.h"
#include "shim/shim.h"
#include "sandbox/volume.h"

void shim_save_state(struct shim *shim)
{
	struct err err = ERR_INIT;

	if (sandbox_save_state(shim->root, shim->box.config.id, &shim->box.state, &err) < 0)
		log_error("%s", err.msg);
}

void shim_notice(struct shim *shim, const char *text)
{
	char line[LIMIT_ERR_MESSAGE + 64];
	int n = snprintf(line, sizeof(line), "notice %.*s\n", LIMIT_ERR_MESSAGE, text);

	log_warning("%s", text);
	if (shim->status_fd >= 0 && fd_write_full(shim->status_fd, line, (size_t)n) < 0)
		log_debug("nobody waits for notices");
}

void shim_verdict(struct shim *shim, int exit_code, const struct err *err)
{
	char line[LIMIT_ERR_MESSAGE + 64];
	int n;

	shim->ready = true;
	if (shim->status_fd < 0)
		return;
	if (err)
		n = snprintf(
			line, sizeof(line), "error %d %d %s\n", exit_code, err->code, err->msg);
	else
		n = snprintf(line, sizeof(line), "ok\n");
	if (fd_write_full(shim->status_fd, line, (size_t)n) < 0)
		log_debug("nobody waits for the verdict");
	shim->status_fd = safe_close(shim->status_fd);
}

static void on_drained(void *arg)
{
	struct shim *shim = arg;

	loop_stop(shim->loop, 0);
}

static void on_drain_deadline(struct loop_timer *timer)
{
	on_drained(container_of(timer, struct shim, timer));
}

void shim_leave(struct shim *shim)
{
	struct err err = ERR_INIT;

	if (shim->run_dir)
		fs_remove_tree(AT_FDCWD, shim->run_dir);
	if (shim->stopping)
		sandbox_event(shim->root, &shim->box.config, "stop", NULL, NULL);
	if (shim->remove && sandbox_remove_held(shim->root, shim->box.config.id,
				    shim->box.config.name, &err) < 0)
		log_error("%s", err.msg);
	else if (shim->remove)
		sandbox_event(shim->root, &shim->box.config, "destroy", NULL, NULL);
	if (shim->remove)
		volume_remove_anonymous(shim->root, &shim->box.config.volumes);
	shim_answer_waiters(shim, SHIM_WAIT_EXIT);
	shim_answer_waiters(shim, SHIM_WAIT_GONE);
	if (!shim->server) {
		loop_stop(shim->loop, 0);
		return;
	}
	loop_timer_arm(shim->loop, &shim->timer, deadline_in(2 * NSEC_PER_SEC), on_drain_deadline);
	rpc_server_drain(shim->server, on_drained, shim);
}

/* What ran is gone: the rest is files and answers. */
static void leave(struct shim *shim)
{
	trace_step("VM is gone");
	shim->backend->clean_up(shim);
	if (!shim_restart(shim))
		shim_leave(shim);
}

static void end_now(struct shim *shim)
{
	trace_step("VM is ended");
	if (shim->backend->runs(shim))
		shim->backend->kill(shim); /* leave() follows from shim_gone() */
	else
		leave(shim);
}

static void on_shutdown_deadline(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	log_warning("the guest did not power off in time");
	end_now(shim);
}

static void on_shutdown(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	if (status->code == RPC_OK || shim->gone)
		return; /* the VMM's end is next, or the timer */
	log_warning("the agent cannot shut down: %s", status->message);
	end_now(shim);
}

/* Politely if the disk will be used again, at once if it will be removed. */
static void shut_down(struct shim *shim)
{
	Micropod__Agent__V1__ShutdownRequest req = MICROPOD__AGENT__V1__SHUTDOWN_REQUEST__INIT;

	shim->draining = false;
	if (shim->remove || shim->backend->shared_machine || !shim->agent || shim->agent_lost ||
		shim->gone) {
		end_now(shim);
		return;
	}
	loop_timer_arm(
		shim->loop, &shim->timer, deadline_in(SHIM_SHUTDOWN_GRACE), on_shutdown_deadline);
	shim_agent_call(shim, "Shutdown", &req.base,
		&micropod__agent__v1__shutdown_response__descriptor, SHIM_SHUTDOWN_GRACE,
		on_shutdown);
}

static void on_readers_deadline(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	log_warning("somebody has not read all of the output: the VM ends all the same");
	shut_down(shim);
}

/* From the loop: a call that has just ended still sends its last frames. */
static void on_all_read(struct loop_timer *timer)
{
	shut_down(container_of(timer, struct shim, timer));
}

void shim_command_line_is_here(struct shim *shim)
{
	shim->awaited = false;
	if (shim->draining && !shim->readers)
		loop_timer_arm(shim->loop, &shim->timer, clock_monotonic(), on_all_read);
}

void shim_reader_done(struct shim *shim)
{
	if (shim->readers)
		shim->readers--;
	if (shim->draining && !shim->readers && !shim->awaited)
		loop_timer_arm(shim->loop, &shim->timer, clock_monotonic(), on_all_read);
}

static void tell_end(struct shim *shim)
{
	const struct sandbox_state *st = &shim->box.state;
	char code[16];

	snprintf(code, sizeof(code), "%d", st->exit_code);
	if (st->oom_killed)
		sandbox_event(shim->root, &shim->box.config, "oom", NULL, NULL);
	sandbox_event(shim->root, &shim->box.config, "die", "exitCode", code);
}

/*
 * Records the end and begins to leave. Called once. What the container wrote last is in the agent
 * until everybody who reads along has it, however slowly.
 */
static void begin_end(struct shim *shim)
{
	shim->ending = true;
	shim_limits_end(shim);
	if (shim->timed_out) {
		shim->box.state.exit_code = SANDBOX_EXIT_TIMEOUT;
		snprintf(shim->box.state.error, sizeof(shim->box.state.error),
			"it was killed: it ran longer than --timeout says");
	}
	shim->box.state.phase = SANDBOX_EXITED;
	shim->box.state.finished_ns = clock_realtime();
	shim->box.state.paused = false;
	tell_end(shim);
	if (!shim->remove) {
		shim_save_state(shim);
		shim_answer_waiters(shim, SHIM_WAIT_EXIT);
	}
	if ((!shim->readers && !shim->awaited) || !shim->agent || shim->agent_lost || shim->gone) {
		shut_down(shim);
		return;
	}
	shim->draining = true;
	loop_timer_arm(shim->loop, &shim->timer,
		deadline_in(shim->stopping  ? SHIM_READERS_STOPPED
			    : shim->readers ? SHIM_READERS_TIME
					    : SHIM_START_WAIT),
		on_readers_deadline);
}

void shim_container_exited(struct shim *shim, const Micropod__Agent__V1__Exit *exit)
{
	if (shim->ending)
		return;
	if (!shim->started) {
		shim->early_exit = true;
		shim->early_code = exit->code;
		shim->early_oom = exit->oom_killed;
		return;
	}
	shim->exited = true;
	shim->box.state.exit_code = exit->code;
	shim->box.state.oom_killed = exit->oom_killed;
	if (exit->oom_killed && !shim->box.config.memory)
		snprintf(shim->box.state.error, sizeof(shim->box.state.error),
			"the OOM killer has killed a process of it: the host is out of memory");
	else if (exit->oom_killed)
		snprintf(shim->box.state.error, sizeof(shim->box.state.error),
			"the guest's OOM killer has killed a process of it: memory of %llu MiB is "
			"too small, raise -m",
			(unsigned long long)(shim->box.config.memory / MIB));
	log_info("container exited code=%d oom=%d", exit->code, exit->oom_killed);
	begin_end(shim);
}

void shim_early_exit(struct shim *shim)
{
	Micropod__Agent__V1__Exit exit = MICROPOD__AGENT__V1__EXIT__INIT;

	if (!shim->early_exit)
		return;
	exit.code = shim->early_code;
	exit.oom_killed = shim->early_oom;
	shim_container_exited(shim, &exit);
}

void shim_lost(struct shim *shim, const char *why)
{
	struct err err = ERR_INIT;

	if (shim->ending)
		return;
	if (!shim->ready) {
		err_set(&err, EIO, "%s", why);
		shim_fail(shim, 125, &err);
		return;
	}
	log_error("%s", why);
	shim->box.state.exit_code = 137;
	snprintf(shim->box.state.error, sizeof(shim->box.state.error), "%s", why);
	shim->agent_lost = true;
	begin_end(shim);
}

void shim_fail(struct shim *shim, int exit_code, const struct err *err)
{
	if (shim->ending)
		return;
	log_error("start failed: %s", err->msg);
	shim->ending = true;
	/* run shows the console's end from the sandbox's folder first, and removes it then, with
	 * --rm or without. */
	shim->remove = false;
	shim->box.state.phase = SANDBOX_EXITED;
	shim->box.state.finished_ns = clock_realtime();
	shim->box.state.paused = false;
	shim->box.state.exit_code = exit_code;
	snprintf(shim->box.state.error, sizeof(shim->box.state.error), "%s", err->msg);
	shim_save_state(shim);
	shim_verdict(shim, exit_code, err);
	end_now(shim);
}

void shim_gone(struct shim *shim, const char *what, const char *why)
{
	struct err err = ERR_INIT;
	char text[LIMIT_ERR_MESSAGE];

	shim->gone = true;
	log_info("%s ended: %s", what, why);
	if (shim->falling_back)
		return;
	if (shim->ending) {
		leave(shim);
	} else if (!shim->ready) {
		err_set(&err, EIO, "%s ended during the start: %s", what, why);
		shim_fail(shim, 125, &err);
	} else {
		snprintf(text, sizeof(text), "%s ended: %.400s", what, why);
		shim_lost(shim, text);
	}
}
