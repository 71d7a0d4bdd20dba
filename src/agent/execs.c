/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with a time limit runs in a cgroup of its own below the container's, so that everything
 * that comes from it can be killed at once, double forks and new sessions included. Where the agent
 * makes no cgroups it has a keeper instead.
 */
#include "agent/execs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/keeper.h"
#include "agent/settings.h"
#include "agent/layers.h"
#include "agent/tree.h"
#include "base/cleanup.h"
#include "base/id.h"

struct extra {
	struct agent *agent;
	struct exec_settings *settings; /* NULL once it has started: large, and hundreds of finished
					   processes are kept */
	int64_t kill_after;		/* ns; 0: never */
	bool timed_out;
	struct loop_timer kill_timer;
	char sub_name[48];
	int sub, sub_parent; /* -1: none */
	int still;	     /* layers_open(); -1: none */
	uint64_t oom_kills;  /* of the container, when it started */
	pid_t keeper;	     /* where there are no cgroups (agent/keeper.h) */
	struct exec_job *job;
	struct failure *failure;      /* owned */
	const struct failure *failed; /* why the last attempt failed; NULL: it has not */
};

static void remove_sub(struct extra *x)
{
	if (x->sub < 0)
		return;
	/* Busy while something in it is still dying: then it goes with the container's. */
	if (unlinkat(x->sub_parent, x->sub_name, AT_REMOVEDIR) < 0 && errno == EBUSY)
		return;
	x->sub = safe_close(x->sub);
	x->sub_parent = safe_close(x->sub_parent);
}

static void drop_settings(struct extra *x)
{
	if (x->settings)
		exec_settings_deinit(x->settings);
	free(x->settings);
	x->settings = NULL;
}

static void release(struct process *p)
{
	struct extra *x = p->owner;

	loop_timer_disarm(&x->kill_timer);
	if (x->sub >= 0)
		cgroup_kill_sub(x->sub);
	remove_sub(x);
	safe_close(x->sub);
	safe_close(x->sub_parent);
	layers_go_on(x->still);
	drop_settings(x);
	free(x->failure);
	free(x);
}

static int add_args(struct process *p, const API(ProcessSpec) * spec, struct failure *f)
{
	size_t bytes = 0;
	int r = 0;

	if (!spec->n_args || !spec->args[0].len)
		return failure_set(
			f, FAILURE_INVALID, EINVAL, "args", "", "args: must name a program");
	for (size_t i = 0; r == 0 && i < spec->n_args; i++) {
		bytes += spec->args[i].len + 1;
		r = api_add_bytes(&p->args, &spec->args[i]);
	}
	for (size_t i = 0; i < spec->n_env; i++)
		bytes += spec->env[i].len + 1;
	if (bytes > LIMIT_ARGV)
		return failure_set(f, FAILURE_LIMIT, E2BIG, "args", "",
			"args and env are longer than %llu bytes", (unsigned long long)LIMIT_ARGV);
	for (size_t i = 0; r == 0 && i < spec->n_labels; i++) {
		r = strv_add(&p->labels, spec->labels[i]->key);
		if (r == 0)
			r = strv_add(&p->labels, spec->labels[i]->value);
	}
	if (r < 0)
		return failure_set(f, r == -EINVAL ? FAILURE_INVALID : FAILURE_UNKNOWN, -r, "args",
			"", "args: %s", r == -EINVAL ? "a NUL byte in one" : strerror(-r));
	return failure_check_labels(&p->labels, f);
}

static int make_extra(
	struct container *c, struct process *p, const API(ProcessSpec) * spec, struct failure *f)
{
	struct extra *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	x->agent = c->agent;
	x->sub = x->sub_parent = x->still = -1;
	x->kill_after = spec->kill_after_ns;
	p->owner = x;
	p->release = release;
	if (spec->kill_after_ns < 0)
		return failure_set(f, FAILURE_INVALID, EINVAL, "kill_after_ns", "",
			"kill_after_ns: must not be negative");
	x->settings = malloc(sizeof(*x->settings));
	r = x->settings ? exec_settings_copy(x->settings, &c->settings) : -ENOMEM;
	if (r == 0)
		r = settings_for_exec(x->settings, spec, &f->err);
	if (r < 0)
		return failure_set(f, r == -EINVAL ? FAILURE_INVALID : FAILURE_UNKNOWN, -r,
			"process", "", "process: %s", strerror(-r));
	if (spec->window) {
		p->rows = spec->window->rows;
		p->columns = spec->window->columns;
	}
	p->tool = tree_tool_find(spec->tool);
	if (spec->tool && !p->tool)
		return failure_set(f, FAILURE_INVALID, EINVAL, "tool", "",
			"tool: this agent has no tool of number %u", (unsigned)spec->tool);
	return add_args(p, spec, f);
}

/* It runs in the container, which sees its root alone: what that is made of comes as its stdin. */
static int give_layers(struct process *p, struct failure *f)
{
	struct extra *x = p->owner;
	struct err err = ERR_INIT;
	int fd = p->args.n >= 3 ? layers_open(p->args.v[0], p->args.v[1],
					  p->args.n > 3 ? &x->still : NULL, &err)
				: err_set(&err, EINVAL, "tool: wants ROOT, LAYER, list or tar");

	if (fd < 0)
		return failure_set(f, FAILURE_INVALID, err.code, "tool", "", "%s", err.msg);
	safe_close(p->io.child[0]);
	p->io.child[0] = fd;
	return 0;
}

int execs_create(struct agent *agent, const char *container_id, const char *exec_id,
	const API(ProcessSpec) * spec, struct process **ret_process, bool *ret_known,
	struct failure *f)
{
	static const API(ProcessSpec) nothing = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	struct container *c = container_find(agent, container_id);
	struct process_opts po = { .container_id = container_id, .exec_id = exec_id };
	char chosen[ID_LEN + 1];
	struct process *p = NULL;
	uint64_t print;
	int r;

	spec = spec ? spec : &nothing;
	print = api_fingerprint(&spec->base);
	if (!c)
		return failure_set(f, FAILURE_NOT_FOUND, ENOENT, "container_id", container_id,
			"no container '%s'", container_id);
	if (*exec_id && !api_id_valid(exec_id))
		return failure_set(f, FAILURE_INVALID, EINVAL, "exec_id", "",
			"exec_id: must be [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128 bytes");
	p = *exec_id ? process_find(&agent->processes, container_id, exec_id) : NULL;
	if (p && p->fingerprint != print)
		return failure_set(f, FAILURE_CONFLICT, EEXIST, "exec_id", exec_id,
			"exec '%s' already exists and is another one", exec_id);
	*ret_known = p;
	*ret_process = p;
	if (p)
		return 0;
	if (!container_running(c) || agent->stopping)
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "state", container_id,
			"container '%s' is not running", container_id);
	if (!*exec_id) {
		id_generate(chosen);
		po.exec_id = chosen;
	}
	po.tty = spec->tty;
	po.open_stdin = spec->open_stdin;
	po.policy = spec->output_policy == MICROPOD__AGENT__V1__OUTPUT_POLICY__OUTPUT_POLICY_DROP
			    ? RING_DROP
			    : RING_BLOCK;
	r = process_new(&agent->processes, &po, &p);
	if (r < 0)
		return failure_set(f, r == -ENOSPC ? FAILURE_LIMIT : FAILURE_UNKNOWN, -r,
			"processes", container_id, "cannot make another process: %s", strerror(-r));
	p->fingerprint = print;
	r = make_extra(c, p, spec, f);
	if (r == 0 && spec->tool == MICROPOD__AGENT__V1__TOOL__TOOL_LAYER)
		r = give_layers(p, f);
	if (r < 0) {
		process_delete(p);
		return r;
	}
	*ret_process = p;
	return 0;
}

static void on_kill_after(struct loop_timer *timer)
{
	struct extra *x = container_of(timer, struct extra, kill_timer);

	x->timed_out = true;
	if (x->sub >= 0)
		cgroup_kill_sub(x->sub);
	else if (x->keeper > 1)
		kill(x->keeper, KEEPER_KILL);
}

static void on_exit_count(struct process *p, void *arg)
{
	struct extra *x = arg;
	struct container *c = container_find(x->agent, p->container_id);

	if (p->exit.signal == SIGKILL && x->timed_out)
		p->exit.timed_out = true;
	else if (c && p->exit.signal == SIGKILL && cgroup_oom_kills(&c->cgroup) > x->oom_kills)
		p->exit.oom_killed = true;
	remove_sub(x);
	x->still = layers_go_on(x->still);
}

static void on_spawned(void *arg, const struct failure *f)
{
	struct process *p = arg;
	struct extra *x = p->owner;

	x->job = NULL;
	if (f) {
		/* Without memory to say why, what is told is that. */
		static const struct failure no_memory = { .kind = FAILURE_SPAWN,
			.err = { ENOMEM, "out of memory" } };

		x->failure = malloc(sizeof(*x->failure));
		if (x->failure)
			*x->failure = *f;
		x->failed = x->failure ? x->failure : &no_memory;
		/* The next attempt makes its own. */
		remove_sub(x);
	} else {
		drop_settings(x);
		x->keeper = x->agent->self && x->kill_after ? p->pid : 0;
		if (x->kill_after)
			loop_timer_arm(
				p->loop, &x->kill_timer, deadline_in(x->kill_after), on_kill_after);
	}
	process_notify(p);
}

int execs_start(struct agent *agent, struct process *p, struct failure *f)
{
	struct container *c = container_find(agent, p->container_id);
	struct extra *x = p->owner;
	struct exec_target t = { .sub_cgroup = -1 };

	if (!x)
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "exec_id", p->container_id,
			"the first process of a container is started with StartContainer");
	if (p->state != PROCESS_CREATED)
		return 0;
	if (!c || !container_running(c))
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "state", p->container_id,
			"container '%s' is not running", p->container_id);
	t.self = agent->self;
	t.kept = agent->self && x->kill_after;
	if (x->kill_after && x->sub < 0 && !agent->self) {
		snprintf(x->sub_name, sizeof(x->sub_name), "exec-%llu",
			(unsigned long long)agent->numbers++);
		x->sub = cgroup_make_sub(&c->cgroup, x->sub_name, &x->sub_parent);
		if (x->sub < 0)
			return failure_set(f, FAILURE_SPAWN, -x->sub, "make a cgroup", "",
				"cannot make a cgroup for kill_after: %s", strerror(-x->sub));
	}
	t.pid = c->pid;
	t.pidfd = c->pidfd;
	t.cgroup = &c->cgroup;
	t.sub_cgroup = x->sub;
	free(x->failure);
	x->failure = NULL;
	x->failed = NULL;
	x->oom_kills = cgroup_oom_kills(&c->cgroup);
	p->on_exit = on_exit_count;
	p->on_exit_arg = x;
	return exec_start(p, x->settings, &t, on_spawned, p, &x->job, f);
}

int execs_started(const struct process *p, const struct failure **ret_failure)
{
	const struct extra *x = p->owner;

	if (p->state == PROCESS_RUNNING || p->state == PROCESS_EXITED)
		return 1;
	if (x && x->failed) {
		*ret_failure = x->failed;
		return -1;
	}
	return 0;
}
