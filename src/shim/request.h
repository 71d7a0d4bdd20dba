/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent of a VM is asked to make, of the sandbox' configuration. */
#pragma once

#include "shim/shim.h"

#include "agent.pb-c.h"

#define CPUSET_TEXT 24

/*
 * The VM is of a class, and the sandbox gets what it asked for: whole CPUs by their numbers, so
 * that programs that count them find as many, a fraction by time. all: also what is no limit now,
 * since it may have been one before. Strings are borrowed.
 */
void container_request_limits(const struct shim *shim, bool all,
	Micropod__Agent__V1__Resources *limits, char cpuset[static CPUSET_TEXT]);

/* Strings are borrowed from the shim. */
struct container_request {
	Micropod__Agent__V1__CreateContainerRequest req;
	Micropod__Agent__V1__RootDisks disks;
	Micropod__Agent__V1__User user;
	Micropod__Agent__V1__WindowSize window;
	Micropod__Agent__V1__Resources limits;
	char hostname[ID_SHOWN_LEN + 1], cpuset[CPUSET_TEXT];
	void **owned; /* free() */
	size_t n_owned;
	struct strv strings; /* made for it */
};

/* 0 or -ENOMEM; container_request_deinit() in either case. */
int container_request_make(const struct shim *shim, struct container_request *ret_request);
void container_request_deinit(struct container_request *request);

#define auto_request __attribute__((cleanup(container_request_deinit)))
