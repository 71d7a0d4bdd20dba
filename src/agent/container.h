/* SPDX-License-Identifier: Apache-2.0 */
/* A container: its bundle, what the runtime made of it, its first process, and what later processes
 * get. */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "agent/agent.h"
#include "agent/api.h"
#include "agent/exec.h"
#include "agent/launch.h"
#include "agent/worker.h"

enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
	CONTAINER_DELETING,
	CONTAINER_STATE_MAX
};

struct container;

/* The end of an operation: f is NULL when it went well. Once, never from within the call that began
 * it. */
struct container_done {
	void (*fn)(void *arg, struct container *c, const struct failure *f);
	void *arg;
};

struct container {
	struct list link;
	struct agent *agent;
	char id[LIMIT_ID + 1];
	char hostname[65];
	enum container_state state;
	int64_t created;    /* CLOCK_REALTIME ns */
	struct strv labels; /* key, value, ... */
	int stop_signal;
	bool disks, create_only, kill_wanted;
	char *bundle, *pid_file, *console_path, *cgroups_path;
	struct exec_settings settings;
	pid_t pid;
	int pidfd;		  /* -1: not made yet, or failed */
	struct enter_times times; /* of its making without a runtime */
	struct cgroup cgroup;
	uint64_t oom_kills;	   /* at the last look */
	struct process_watch init; /* its first process, once there is one */
	/* What is under way, one at a time. */
	struct worker *worker;
	struct runtime_job *job;
	struct launch *launch; /* made without a runtime, and not the program yet */
	bool builtin;	       /* no runtime knows of it */
	int mnt_fd; /* its mount namespace: what its disks hold is written back when the container
		       is removed, not while its exit waits for it; -1: a runtime's */
	struct exec_job *exec; /* of the one that the agent is in itself */
	bool starting;
	struct container_done done;
	struct failure failure;
	int console_fd; /* listening */
	struct loop_fd console_src;
	bool held; /* waiter_hold() */
	/* Between the runtime's start and the program's execve(2): which file the first process ran
	 * before, and under which name. */
	struct stat exe_before;
	char name_before[WAITER_NAME];
	struct loop_timer look;
	int64_t look_every, look_until;
};

/* NULL if there is none. */
struct container *container_find(const struct agent *agent, const char *id);

/*
 * Creates a container as req says (borrowed for the call) and starts it unless create_only. 0 and
 * later done, or -errno with f (EEXIST, EINVAL, ENOSPC, ...). On failure, now or by done, nothing
 * is left. f->kind FAILURE_SPAWN: the runtime could not execute it; other kinds: the request was
 * wrong, or something it names.
 */
int container_create(struct agent *agent, const API(CreateContainerRequest) * req,
	struct container_done done, struct failure *f);

/* The container that the agent is in itself (agent->self). */
struct container_self {
	const char *id;
	const struct strv *args; /* of its first process */
	bool tty;
	unsigned rows, columns; /* of the terminal; 0: not said */
};

/*
 * Starts its first process as a child of the agent, in the agent's own namespaces and with its
 * rights. 0 and later done, or -errno with f. Once: it is not removed, the agent ends with it.
 */
int container_take_over(struct agent *agent, const struct container_self *self,
	struct container_done done, struct failure *f);

/* Starts one made with create_only. 0 and later done, or -errno with f. */
int container_start(struct container *c, struct container_done done, struct failure *f);

/* Removes it; force: also one that runs. 0 and later done (with c NULL), or -errno with f. */
int container_delete(
	struct container *c, bool force, struct container_done done, struct failure *f);

/* To its first process. 0, -ESRCH or -errno. */
int container_signal(struct container *c, int signal);
/* SIGKILL to all its processes. */
void container_kill(struct container *c);

struct process *container_init(const struct container *c);

/* "created", "running", "stopped". */
const char *container_state_name(const struct container *c);

/* Whether exec can enter it. */
bool container_running(const struct container *c);

/* Drops what the agent knows of it, and only that. */
void container_forget(struct container *c);
void container_forget_all(struct agent *agent);
