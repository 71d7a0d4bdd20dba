/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "agent.desc.h"
#include "agent/container.h"
#include "agent/launch.h"
#include "agent/seal.h"
#include "agent/serve.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"

#define FIRST_NAME "api.Agent" /* of the service, before it had a package */

static void on_call(const struct rpc_call *call, const struct rpc_status *status,
	int64_t duration_ns, void *arg)
{
	/* A line on an emulated console costs as much as the call; the shim logs them all. */
	log_line(status->code == RPC_OK ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
		"call id=%llu method=%s status=%s ms=%lld", (unsigned long long)rpc_call_id(call),
		rpc_call_path(call), rpc_code_name(status->code),
		(long long)(duration_ns / NSEC_PER_MSEC));
}

static int make_server(struct agent *agent)
{
	static const struct rpc_descriptors descriptors = { agent_desc, 0 };
	struct rpc_descriptors set = descriptors;
	struct rpc_server_opts opts = { .on_call = on_call,
		.admit = serve_admit,
		.on_conn_closed = serve_conn_closed,
		.arg = agent };
	int r = rpc_server_new(agent->loop, &opts, &agent->server);

	set.len = agent_desc_len;
	if (r == 0)
		r = rpc_server_add_service(agent->server, &agent_service, NULL, agent);
	if (r == 0)
		r = rpc_server_add_service(agent->server, &agent_service, FIRST_NAME, agent);
	return r < 0 ? r : rpc_server_add_descriptors(agent->server, &set);
}

/* What making containers takes. */
static int set_up_containers(struct agent *agent, const struct agent_opts *opts, struct err *err)
{
	int r;

	agent->containers_dir = strdup(opts->containers_dir);
	agent->state_dir = strdup(opts->state_dir);
	agent->cgroup_parent = strdup(opts->cgroup_parent);
	if (!agent->containers_dir || !agent->state_dir || !agent->cgroup_parent)
		return err_errno(err, ENOMEM, "cannot start");
	r = fs_make_dirs(agent->state_dir, 0700);
	if (r == 0)
		r = fs_make_dirs(agent->containers_dir, 0700);
	if (r < 0)
		return err_errno(err, -r, "cannot make '%s' and '%s'", agent->state_dir,
			agent->containers_dir);
	agent->self_fd = agent_self_fd();
	if (agent->self_fd < 0)
		return err_errno(err, -agent->self_fd, "cannot open the agent itself");
	r = runtime_init(
		&agent->runtime, agent->loop, agent->waiter, opts->runtime, agent->state_dir, err);
	if (r < 0)
		return r;
	if (runtime_version(
		    &agent->runtime, agent->runtime_version, sizeof(agent->runtime_version)) < 0)
		return err_set(
			err, ENOEXEC, "container runtime '%s' does not run", agent->runtime.path);
	return 0;
}

static int set_up(struct agent *agent, const struct agent_opts *opts, struct err *err)
{
	int r = waiter_new(agent->loop, &agent->waiter);

	if (r < 0)
		return err_errno(err, -r, "cannot watch children");
	process_table_init(&agent->processes, agent->loop, agent->waiter);
	r = opts->self ? 0 : set_up_containers(agent, opts, err);
	if (r < 0)
		return r;
	r = make_server(agent);
	return r < 0 ? err_errno(err, -r, "cannot make the server") : 0;
}

int agent_new(
	struct loop *loop, const struct agent_opts *opts, struct agent **ret_agent, struct err *err)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	int r;

	if (!agent)
		return err_errno(err, ENOMEM, "cannot start");
	/* What it forks inherits both until execve(2): nobody in a container may trace it or follow
	 * its /proc/PID links. */
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	agent->loop = loop;
	agent->pid1 = opts->pid1;
	agent->builtin = opts->builtin;
	agent->self = opts->self;
	agent->self_shutdown = opts->self_shutdown;
	agent->self_arg = opts->self_arg;
	agent->self_fd = -1;
	agent->self_cgroup = (struct cgroup){ .dir = -1, .v2_root = -1 };
	if (agent->self) {
		cgroup_open_here(&agent->self_cgroup);
		agent->self_oom_kills = cgroup_oom_kills(&agent->self_cgroup);
	}
	list_init(&agent->containers);
	list_init(&agent->processes.list);
	r = set_up(agent, opts, err);
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	*ret_agent = agent;
	return 0;
}

struct agent *agent_free(struct agent *agent)
{
	if (!agent)
		return NULL;
	serve_vsock_close(agent);
	loop_defer_cancel(&agent->leave_session);
	agent->server = rpc_server_free(agent->server);
	agent->stage = launch_stage_free(agent->stage);
	agent->rehearsal = launch_stage_free(agent->rehearsal);
	container_forget_all(agent);
	process_table_deinit(&agent->processes);
	runtime_deinit(&agent->runtime);
	agent->waiter = waiter_free(agent->waiter);
	safe_close(agent->self_fd);
	cgroup_close(&agent->self_cgroup);
	free(agent->network);
	free(agent->containers_dir);
	free(agent->state_dir);
	free(agent->cgroup_parent);
	free(agent);
	return NULL;
}

/* Stopping */

struct stop {
	struct agent *agent;
	struct loop_timer grace;
	struct loop_timer look;
	void (*stopped)(void *arg);
	void *arg;
};

#define LOOK_EVERY \
	(20 * NSEC_PER_MSEC) /* while containers that are busy with something else end that */

static void look(struct loop_timer *timer);

static void on_deleted(void *arg, struct container *c, const struct failure *f)
{
	/* What cannot be removed goes with the power. */
	if (c)
		container_forget(c);
}

static void look(struct loop_timer *timer)
{
	struct stop *s = container_of(timer, struct stop, look);
	struct container *c, *next;

	list_foreach_safe (c, next, &s->agent->containers, link) {
		struct failure f = FAILURE_INIT;

		if (container_init(c)->state == PROCESS_EXITED || !container_init(c)->pid)
			(void)container_delete(c, true, (struct container_done){ on_deleted, NULL },
				&f); /* busy: again later */
	}
	if (!list_empty(&s->agent->containers)) {
		loop_timer_arm(s->agent->loop, &s->look, deadline_in(LOOK_EVERY), look);
		return;
	}
	loop_timer_disarm(&s->grace);
	s->stopped(s->arg);
	free(s);
}

static void on_grace(struct loop_timer *timer)
{
	struct stop *s = container_of(timer, struct stop, grace);
	struct container *c;

	list_foreach (c, &s->agent->containers, link)
		container_kill(c);
}

void agent_stop(struct agent *agent, int64_t grace_ns, void (*stopped)(void *arg), void *arg)
{
	struct stop *s = calloc(1, sizeof(*s));
	struct container *c;

	agent->stopping = true;
	if (!s) {
		stopped(arg);
		return;
	}
	s->agent = agent;
	s->stopped = stopped;
	s->arg = arg;
	list_foreach (c, &agent->containers, link)
		(void)container_signal(c, c->stop_signal);
	loop_timer_arm(agent->loop, &s->grace, deadline_in(grace_ns), on_grace);
	loop_timer_arm(agent->loop, &s->look, deadline_in(0), look);
}
