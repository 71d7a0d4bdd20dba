/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up rights, for good, in this process and what it executes: capabilities, Landlock, dumps.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* What a Landlock rule leaves allowed below a path (or on it, if it is a file). */
enum lockdown_access {
	LOCKDOWN_READ = 1 << 0, /* open files for reading, list folders */
	LOCKDOWN_EXECUTE = 1 << 1,
	LOCKDOWN_WRITE = 1 << 2,  /* write and truncate files that exist */
	LOCKDOWN_DEVICE = 1 << 3, /* ioctl(2) on device files */
	LOCKDOWN_MAKE = 1 << 4,	  /* make, rename, link and remove all but device files */
};

struct lockdown_rule {
	const char *path; /* a missing one is no error: nothing is allowed there */
	unsigned access;
};

/* The kernel's Landlock ABI version, 0 where it has none or it is switched off. */
int lockdown_landlock_abi(void);

/*
 * From here on only what the rules name can be opened (landlock(7)); descriptors that are open stay
 * as they are. tcp: binding and connecting TCP sockets stays allowed (ABI 4 knows of it). Abstract
 * unix sockets and signals outside are shut off where the ABI knows of them. Sets no_new_privs. 0;
 * -EOPNOTSUPP without Landlock (nothing is changed but no_new_privs); -errno with err.
 */
int lockdown_landlock(const struct lockdown_rule *rules, unsigned n, bool tcp, struct err *err);

/* no_new_privs, no capability in any set, the bounding set included where we may, no core dumps. 0
 * or -errno with err. */
int lockdown_drop_privileges(struct err *err);

/* The same, but those in keep (1 << CAP_...) stay, for a program that runs as user 0 too. */
int lockdown_limit_privileges(uint64_t keep, struct err *err);
