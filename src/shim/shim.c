/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-shim --root=DIR --id=ID --lock-fd=N --status-fd=N --log-level=N --start-timeout=SECONDS
 * [--detached] [--adopt] [--rows=N --columns=N]: started by sandbox_start() only; with
 * [--restarts=N --restart-delay=MS] by itself. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/proc.h"
#include "base/trace.h"
#include "shim/shim.h"

#define RUN_TRIES 100

struct args {
	const char *root, *id;
	unsigned lock_fd, status_fd, log_level, start_timeout, rows, columns, restarts, delay;
	bool detached, adopt;
};

static int parse_args(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "id", required_argument, NULL, 'i' },
		{ "lock-fd", required_argument, NULL, 'l' },
		{ "status-fd", required_argument, NULL, 's' },
		{ "log-level", required_argument, NULL, 'v' },
		{ "start-timeout", required_argument, NULL, 't' },
		{ "detached", no_argument, NULL, 'd' },
		{ "adopt", no_argument, NULL, 'a' },
		{ "rows", required_argument, NULL, 'R' },
		{ "columns", required_argument, NULL, 'C' },
		{ "restarts", required_argument, NULL, 'n' },
		{ "restart-delay", required_argument, NULL, 'w' },
		{ 0 },
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			a->root = optarg;
			break;
		case 'i':
			a->id = optarg;
			break;
		case 'l':
			r = parse_uint(optarg, 3, 4096, &a->lock_fd);
			break;
		case 's':
			r = parse_uint(optarg, 3, 4096, &a->status_fd);
			break;
		case 'v':
			r = parse_uint(optarg, 0, LOG_LEVEL_MAX - 1, &a->log_level);
			break;
		case 't':
			r = parse_uint(optarg, 1, INT32_MAX, &a->start_timeout);
			break;
		case 'd':
			a->detached = true;
			break;
		case 'a':
			a->adopt = true;
			break;
		case 'R':
			r = parse_uint(optarg, 0, UINT16_MAX, &a->rows);
			break;
		case 'C':
			r = parse_uint(optarg, 0, UINT16_MAX, &a->columns);
			break;
		case 'n':
			r = parse_uint(optarg, 1, INT32_MAX, &a->restarts);
			break;
		case 'w':
			r = parse_uint(optarg, 1, INT32_MAX, &a->delay);
			break;
		default:
			r = -EINVAL;
		}
	}
	return r < 0 || !a->root || !a->id || !a->lock_fd || !a->status_fd || !a->start_timeout
		       ? -EINVAL
		       : 0;
}

static void on_signal(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	struct shim *shim = container_of(sigs, struct shim, signals);

	log_info("signal %u: stopping", info->ssi_signo);
	shim->no_restart = true;
	if (shim->restarting)
		shim_restart_cancel(shim);
	if (shim->stopping || shim->ending)
		return;
	if (shim->started)
		shim_stop_container(shim, "", shim->box.config.stop_grace_ns);
	else
		shim_lost(shim, "stopped by a signal during the start");
}

static int watch_signals(struct shim *shim)
{
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	return loop_signals_add(shim->loop, &shim->signals, &mask, on_signal);
}

/* The state says "starting" before the run folder is there: sweep removes run folders of sandboxes
 * that do not run. */
static int enter(struct shim *shim, struct err *err)
{
	struct sandbox_state *st = &shim->box.state;
	const char *id = shim->box.config.id;
	/* It is the same run still. */
	int64_t deadline = shim->adopt || shim->restarts ? st->deadline_ns : 0;
	int r;

	sandbox_state_deinit(st);
	*st = (struct sandbox_state){ .phase = SANDBOX_STARTING,
		.shim_pid = getpid(),
		.deadline_ns = deadline,
		.restarts = (int32_t)shim->restarts };
	memcpy(st->boot_id, shim->root->boot_id, sizeof(st->boot_id));
	proc_start_time(getpid(), &st->shim_start);
	r = sandbox_save_state(shim->root, id, st, err);
	if (r == 0)
		r = sandbox_reserve(shim->root, id, err);
	if (r < 0)
		return r;
	shim->run_dir = sandbox_run_dir(shim->root, id);
	if (!shim->run_dir)
		return err_errno(err, ENOMEM, "cannot name the run folder");
	/* Whoever removes the last sandbox removes the folder around it too, perhaps just now: then
	 * once more. */
	for (int i = 0; i < RUN_TRIES; i++) {
		r = sandbox_root_make_run(shim->root, err);
		if (r == 0) {
			fs_remove_tree(AT_FDCWD, shim->run_dir);
			r = fs_private_dir(shim->run_dir, err);
		}
		if (r != -ENOENT)
			break;
	}
	return r;
}

static int set_up(struct shim *shim, const struct args *a, struct err *err)
{
	auto_free char *dir = NULL;
	int r = sandbox_root_open(a->root, &shim->root, err);

	if (r == 0)
		r = sandbox_load(shim->root, a->id, &shim->box, err);
	if (r < 0)
		return r;
	dir = sandbox_path(shim->root, shim->box.config.id, NULL);
	shim->dfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (shim->dfd < 0)
		return err_errno(err, errno, "cannot open the sandbox's folder");
	shim->remove = shim->box.config.remove;
	r = loop_new(&shim->loop);
	if (r == 0)
		r = watch_signals(shim);
	if (r < 0)
		return err_errno(err, -r, "cannot set up the event loop");
	r = enter(shim, err);
	if (r == 0)
		r = shim_open_logs(shim, err);
	if (r == 0)
		r = shim_serve(shim, err);
	return r;
}

int shim_main(int argc, char **argv, const struct shim_backend *backend)
{
	struct shim shim = {
		.backend = backend,
		.dfd = -1,
		.net_fd = -1,
		.log_fd = -1,
		.console_fd = -1,
		.offsets_fd = -1,
		.template = { .ram_fd = -1, .state_fd = -1 },
	};
	struct args a = { .log_level = LOG_LEVEL_INFO };
	struct err err = ERR_INIT;

	if (parse_args(argc, argv, &a) < 0) {
		fprintf(stderr, "micropod-shim: started by micropod, not by hand\n");
		return 125;
	}
	umask(077);
	trace_join("shim");
	trace_step("shim begins");
	log_init("shim", 2, (enum log_level)a.log_level);
	list_init(&shim.waiters);
	list_init(&shim.guests);
	shim.lock_fd = (int)a.lock_fd;
	shim.status_fd = (int)a.status_fd;
	shim.awaited = !a.detached;
	shim.adopt = a.adopt;
	shim.rows = a.rows;
	shim.columns = a.columns;
	shim.log_level = (int)a.log_level;
	shim.restarts = a.restarts;
	shim.restart_delay = a.delay * NSEC_PER_MSEC;
	shim.start_timeout = a.start_timeout;
	shim.start_deadline = deadline_in(a.start_timeout * NSEC_PER_SEC);
	fd_set_cloexec(shim.lock_fd, true);
	fd_set_cloexec(shim.status_fd, true);
	if (set_up(&shim, &a, &err) < 0) {
		log_error("%s", err.msg);
		if (shim.dfd >= 0) {
			shim.box.state.phase = SANDBOX_EXITED;
			shim.box.state.exit_code = 125;
			snprintf(shim.box.state.error, sizeof(shim.box.state.error), "%s", err.msg);
			shim_save_state(&shim);
		}
		shim_verdict(&shim, 125, &err);
		return 125;
	}
	if (shim.box.config.pod)
		shim.backend = backend->in_pod;
	shim.backend->boot(&shim);
	loop_run(shim.loop);
	log_info("done");
	return 0;
}
