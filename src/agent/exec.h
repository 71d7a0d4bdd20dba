/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a process in a running container without a runtime: the agent forks into the container's
 * pid namespace and cgroup, and the child takes on everything else that the container's first
 * process has.
 */
#pragma once

#include "agent/cgroup.h"
#include "agent/failure.h"
#include "agent/process.h"
#include "oci/rlimit.h"
#include "oci/seccomp.h"
#include "oci/user.h"

/* What a process in a container gets. A container has one (its defaults); each exec makes its own
 * from it. */
struct exec_settings {
	struct strv env;
	char *cwd;
	/* By name: looked up in the container's files by the child, in Docker's syntax. Else uid,
	 * gid, groups of `user`. */
	bool by_name;
	struct strv user_words; /* the user, then additional groups */
	struct oci_user user;	/* home is looked up either way */
	uint64_t bounding, effective, permitted, inheritable, ambient;
	bool no_new_privileges;
	struct oci_rlimit rlimits[OCI_RLIMIT_MAX];
	size_t n_rlimits;
	void *seccomp;	    /* struct sock_filter[], owned; NULL: no filter */
	size_t seccomp_len; /* bytes */
	int oom_score_adj;
	bool as_is; /* user, groups and capabilities are what the agent has itself */
};

void exec_settings_deinit(struct exec_settings *s);
/* A deep copy. 0 or -ENOMEM; exec_settings_deinit() is right after either. */
int exec_settings_copy(struct exec_settings *dst, const struct exec_settings *src);

/* Where: borrowed for the call. */
struct exec_target {
	bool self; /* where the agent itself is; the rest counts for nothing then */
	int pidfd; /* of the container's first process */
	pid_t pid; /* the same */
	const struct cgroup *cgroup;
	bool kept;	/* with a keeper in front (agent/keeper.h) */
	int sub_cgroup; /* instead of the container's own (agent/cgroup.h); -1: none */
};

struct exec_job;

/*
 * Starts p (state created) with p->args. done comes once, never from within this call: f is NULL
 * when the program runs (p is running then), else says what failed at which step. settings and
 * target are only read during the call. 0 with *ret_job (valid until done), or -errno with f.
 */
int exec_start(struct process *p, const struct exec_settings *settings,
	const struct exec_target *target, void (*done)(void *arg, const struct failure *f),
	void *arg, struct exec_job **ret_job, struct failure *f);

/* done does not come; the child is killed if it has not become the program yet. Returns NULL. */
struct exec_job *exec_cancel(struct exec_job *job);
