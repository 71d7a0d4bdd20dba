/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of one container, as the runtime made it: joining, killing, counting. In a VM it is
 * one folder of the v2 tree; on a host with v1 hierarchies (`agent serve`) there is one for each,
 * and the unified tree beside them. All functions read and write files of cgroupfs, which does not
 * block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/strv.h"

struct cgroup {
	int dir;	/* of the v2 tree, O_PATH; -1: the process is in the root group there */
	int v2_root;	/* the v2 tree itself, O_PATH; -1: there is none */
	struct strv v1; /* folders of v1 hierarchies, "/sys/fs/cgroup/pids/containers/id" */
};

struct cgroup_stats {
	uint64_t cpu_usage_ns, cpu_user_ns, cpu_system_ns, cpu_throttled_ns;
	uint64_t memory, memory_limit, memory_peak,
		memory_cache; /* memory: without inactive page cache, as Docker counts */
	uint64_t oom_kills, pids, pids_limit; /* limits: 0 for none */
	uint64_t io_read, io_write;
};

/* That of a process, from its /proc/PID/cgroup. 0 or -errno; cgroup_close() is right after either.
 */
int cgroup_open(struct cgroup *cg, pid_t pid);
/* That which this process finds at the usual place: inside of a container its own, and with it all
 * of the container's. To be read only: elsewhere it is the whole host's. What is not there counts
 * 0. */
void cgroup_open_here(struct cgroup *cg);
void cgroup_close(struct cgroup *cg);

/* In a forked child: moves it into the v1 groups (v2: clone3(2) has done it). 0 or -errno. */
int cgroup_join_v1(const struct cgroup *cg);

/* SIGKILL to everything in it. 0 or -errno. */
int cgroup_kill(const struct cgroup *cg);

/* Its processes stand still, or go on (cgroup.freeze). 0; -EOPNOTSUPP: no v2 group. */
int cgroup_freeze(const struct cgroup *cg, bool still);

/* Calls fn for each process in it and in the groups below, until one returns negative, which is
 * returned. 0 or -errno. */
int cgroup_each(const struct cgroup *cg, int (*fn)(pid_t pid, void *arg), void *arg);

/* How many processes in it the kernel has killed for memory so far. */
uint64_t cgroup_oom_kills(const struct cgroup *cg);

/* What the kernel counts there; what it does not count stays 0. */
void cgroup_read_stats(const struct cgroup *cg, struct cgroup_stats *ret_stats);

/*
 * A group below the container's (its limits hold there too) for one process and all that comes from
 * it, so that they can be killed together whatever they do. Returns the folder's fd, or -errno.
 * name: unique in the container. *ret_parent: the folder it is in, for removing it (a descriptor of
 * the caller's).
 */
int cgroup_make_sub(const struct cgroup *cg, const char *name, int *ret_parent);
int cgroup_kill_sub(int fd);

/*
 * Removes the group of this path ("/containers/id") with those below it from every hierarchy, where
 * it is empty: what a runtime that failed has left behind. Missing ones are no error.
 */
void cgroup_remove(const char *path);

/* Waits until nobody is in the v2 group of this path, or the deadline. Blocks: for workers. */
void cgroup_wait_empty(const char *path, int64_t deadline);
