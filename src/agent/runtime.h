/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI runtime, crun or runc: a program that makes, starts and removes containers. Each command
 * is a child with a deadline; the loop goes on meanwhile.
 */
#pragma once

#include "agent/waiter.h"
#include "base/err.h"

struct runtime {
	struct loop *loop;
	struct waiter *waiter;
	char *path;    /* of the program */
	char *name;    /* its last component: "crun" */
	char *root;    /* --root: the runtime's own state */
	char *log_dir; /* where its messages go, a file a command */
	uint64_t commands;
};

struct runtime_job;

struct runtime_done {
	/* err.code 0: it succeeded. Once, never from within the call. */
	void (*fn)(void *arg, const struct err *err);
	void *arg;
};

struct runtime_create {
	const char *id, *bundle, *pid_file;
	const char *console_socket; /* NULL: no terminal */
	int stdio[3];		    /* borrowed; -1: /dev/null */
	int blob_fd, self_fd;	    /* oci/spec.h's descriptors 3 and 4, borrowed; -1: none */
};

/* program: "crun", "runc", or a path; NULL: crun if it is there, else runc. dir: below which state
 * is kept. 0 or -errno with err (ENOENT: none found). */
int runtime_init(struct runtime *rt, struct loop *loop, struct waiter *waiter, const char *program,
	const char *dir, struct err *err);
void runtime_deinit(struct runtime *rt);

/* Commands. 0 with *ret_job (valid until done), or -errno with err. */
int runtime_create(struct runtime *rt, const struct runtime_create *c, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err);
int runtime_start(struct runtime *rt, const char *id, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err);
/* delete --force: also what is half made; one that is not there is no error. */
int runtime_delete(struct runtime *rt, const char *id, struct runtime_done done,
	struct runtime_job **ret_job, struct err *err);

/* Kills the command; done does not come. Returns NULL. */
struct runtime_job *runtime_cancel(struct runtime_job *job);

/* First line of `--version`, by a child with a short deadline; blocks that long, so only at the
 * start. 0 or -errno. */
int runtime_version(const struct runtime *rt, char *out, size_t size);

/* The errno that a runtime's message means, for the few that callers tell apart; 0: unknown. */
int runtime_errno(const char *message);
