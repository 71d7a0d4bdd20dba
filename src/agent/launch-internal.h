/* SPDX-License-Identifier: Apache-2.0 */
/* Between launch.c and launch-stage.c. */
#pragma once

#include "agent/cgroup.h"
#include "agent/launch.h"

/* What is held of a child that is, or will be, a container's first process. Descriptors are owned;
 * -1: not there. */
struct launch_child {
	pid_t pid;
	int sock; /* its reports (agent/enter.h) */
	int pidfd;
	int group,
		devices; /* its cgroup's folder, and the rules for devices that will hold there */
	int mnt_fd;	 /* its mount namespace */
	struct cgroup cgroup;
};

void launch_child_init(struct launch_child *child);
/* Lets go of it; it lives on. */
void launch_child_deinit(struct launch_child *child);
void launch_child_kill(const struct launch_child *child);

/*
 * Clones it into new namespaces and its cgroup. Returns 0 in the parent; in the child it does not
 * return but calls main(arg, report). -errno with f.
 */
int launch_child_clone(struct launch_child *child, const char *cgroups_path, bool share_ipc,
	void (*child_main)(const void *arg, int report), const void *arg, struct failure *f);

/* Once the child is settled: its mount namespace and cgroup. 0 or -errno. */
int launch_child_look(struct launch_child *child);

/* The child is taken out of the stage if it is for such a request, and told what it is to be. 0, or
 * -errno: there is none. go: the descriptor on which it will wait. */
int launch_stage_take(struct launch_stage *stage, const struct process *p,
	const struct launch_spec *spec, int go, struct launch_child *ret_child);
