/* SPDX-License-Identifier: Apache-2.0 */
/* What every part of the agent shares. One for each process; passed down, never global. */
#pragma once

#include "agent/cgroup.h"
#include "agent/process.h"
#include "agent/runtime.h"
#include "rpc/server.h"

struct launch_stage;
struct pid1;
struct vsock;

struct agent {
	struct loop *loop;
	struct waiter *waiter;
	struct process_table processes;
	struct runtime runtime;
	char runtime_version[128];
	bool builtin; /* containers without a runtime, where they can be (agent/launch.h) */
	bool self;    /* no containers but the one that it is in itself (agent/takeover.h) */
	void (*self_shutdown)(void *arg, int64_t grace_ns);
	void *self_arg;
	struct cgroup self_cgroup; /* to be read only; all zero unless self */
	uint64_t self_oom_kills;   /* in it, before it was us */
	struct list containers;
	size_t n_containers;
	struct launch_stage *stage;	/* of the container to come (Quiesce); or NULL */
	struct launch_stage *rehearsal; /* for it; or NULL */
	char *containers_dir;		/* bundles: "/containers" */
	char *state_dir;		/* pid files, console sockets, the runtime's state */
	char *cgroup_parent;		/* "/containers" */
	uint64_t numbers;		/* for names of files and exec ids */
	int self_fd;			/* the sealed binary */
	struct rpc_server *server;
	struct rpc_conn *session; /* over the serial port; NULL: none */
	struct pid1 *pid1;	  /* NULL: `serve` */
	struct vsock *vsock;
	struct list vsock_conns; /* those that have not shown the key yet, or have */
	uint8_t vsock_key[32];
	bool vsock_open; /* no key is asked for */
	bool stopping;	 /* no new containers or processes */
	void *network;	 /* the last ConfigureNetwork's lasting part, packed; NULL: none */
	size_t network_len;
	struct rpc_call *quiesce;	 /* waits for the stage; NULL: none */
	struct loop_defer leave_session; /* after Quiesce */
	uint64_t generation;		 /* of the last Resumed; 0: none */
};

struct agent_opts {
	const char *runtime; /* "crun", "runc", a path, or NULL */
	bool builtin;	     /* only for what the agent does not start itself */
	bool self;	     /* as in struct agent; the rest is not needed then */
	/* Shutdown has been called: of self only. */
	void (*self_shutdown)(void *arg, int64_t grace_ns);
	void *self_arg;
	const char *state_dir, *containers_dir, *cgroup_parent;
	struct pid1 *pid1;
};

/* Everything but a way in: add streams or listen on agent->server. 0 or -errno with err. */
int agent_new(struct loop *loop, const struct agent_opts *opts, struct agent **ret_agent,
	struct err *err);
/* Returns NULL. Containers that run are left alone: agent_stop() first. */
struct agent *agent_free(struct agent *agent);

/* Stops and removes all containers (stop signal, grace, SIGKILL) and calls stopped once. */
void agent_stop(struct agent *agent, int64_t grace_ns, void (*stopped)(void *arg), void *arg);

extern const struct rpc_service agent_service;
