/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's cgroup v2 tree (kernel's cgroup-v2 document): /agent for the agent, protected, and
 * /containers/<id> for each container, all with every controller the kernel has.
 */
#pragma once

#include "base/err.h"

#define CGROUP_ROOT	  "/sys/fs/cgroup"
#define CGROUP_CONTAINERS "/containers"

/*
 * Hands the controllers down, makes both groups, moves this process to /agent with memory.min and a
 * high cpu.weight, and sets its oom_score_adj to -1000. 0 or -errno with err.
 */
int cgroups_setup(struct err *err);

/*
 * For every child that runs what is not the agent's, the container runtime included, between fork
 * and execve: gives up the oom_score_adj that it has inherited. crun does not: it takes a 0 in a
 * spec for "not said". A process that was never protected, and may not lower its own, keeps what it
 * has. 0 or -errno. Async-signal-safe.
 */
int cgroups_unprotect_child(void);
