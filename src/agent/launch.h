/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a container without a runtime: one clone into new namespaces and a cgroup of its own, and
 * the child does the rest. For what most containers are; others go through crun or runc
 * (agent/runtime.h). Under emulation each instruction that runs for the first time is dear, and a
 * runtime is two programs with many.
 */
#pragma once

#include "agent/api.h"
#include "agent/cgroup.h"
#include "agent/enter.h"
#include "agent/exec.h"
#include "agent/process.h"

/* Whether a request is one of those. */
bool launch_covers(const API(CreateContainerRequest) * req);

/*
 * A container that will be asked for: its first process' child is there, in its namespaces and
 * cgroup, with the file systems that every container has. Made before a machine is saved, it spares
 * each start from it the making; the disks are mounted when the machine goes on, beside the session
 * that is being made.
 */
struct launch_stage;

/* Borrowed until launch_stage_new() returns. */
struct launch_stage_spec {
	const char *id, *bundle, *cgroups_path; /* the bundle's folder is there */
	const API(RootDisks) * disks;		/* NULL: of a root that is a folder */
};

/* done, once, never from within this: with f if it cannot be made. 0 with *ret_stage, or -errno
 * with f. */
int launch_stage_new(struct loop *loop, const struct launch_stage_spec *spec,
	void (*done)(void *arg, const struct failure *f), void *arg,
	struct launch_stage **ret_stage, struct failure *f);
/* The disks are there now. */
void launch_stage_mount(struct launch_stage *stage);

/*
 * A stage without disks is made a container whose program, the agent itself with this verb, ends at
 * once: what a container's start needs of the kernel has then run before. Its root is an empty
 * folder. Best effort.
 */
#define LAUNCH_REHEARSAL_VERB	"rehearse"
#define LAUNCH_REHEARSAL_BUNDLE "/run/rehearsal"
#define LAUNCH_REHEARSAL_ROOT	"/run/rehearsal/root"
void launch_stage_rehearse(struct launch_stage *stage);
/* Kills the child. Returns NULL. */
struct launch_stage *launch_stage_free(struct launch_stage *stage);

/* Borrowed until launch_start() returns: the child has its copy. */
struct launch_spec {
	const API(CreateContainerRequest) * req;
	const char *id, *bundle, *hostname;
	const char *cgroups_path;	      /* "/containers/<id>" */
	const struct exec_settings *settings; /* of the first process; the user is found by name */
	struct launch_stage *stage; /* consumed: used if it is for such a request. Or NULL */
};

struct launch;

struct launch_made {
	pid_t pid;
	int pidfd, mnt_fd; /* mnt_fd: its mount namespace */
	struct cgroup cgroup;
	struct enter_times times;
};

struct launch_ops {
	/* It is made and waits for launch_go(). Descriptors and cgroup are the callee's. */
	void (*created)(void *arg, struct launch_made *made);
	/* f NULL: the program runs. Else what failed, at any time before: then it is gone. The
	 * last. */
	void (*done)(void *arg, const struct failure *f);
};

/* Callbacks never come from within these. 0 with *ret_launch (valid until done), or -errno with f.
 */
int launch_start(struct process *p, const struct launch_spec *spec, const struct launch_ops *ops,
	void *arg, struct launch **ret_launch, struct failure *f);
void launch_go(struct launch *launch);

/* Kills the child unless it has become the program; no callback comes. Returns NULL. */
struct launch *launch_cancel(struct launch *launch);

/* The first process' arguments, appended. 0 or -errno with err. */
int launch_args(const API(CreateContainerRequest) * req, struct strv *args, struct err *err);

/* What later processes of such a container get, out of the request. 0 or -errno with err. */
int launch_settings(const API(CreateContainerRequest) * req, const char *hostname,
	struct exec_settings *s, struct err *err);
