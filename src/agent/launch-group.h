/* SPDX-License-Identifier: Apache-2.0 */
/* The cgroup of a container that is made without a runtime: v2, below the agent's own root. */
#pragma once

#include "agent/api.h"
#include "base/err.h"

/* Makes the group "/containers/<id>"; one that is there is taken. Returns its descriptor, the
 * caller's, or -errno with err. */
int launch_group_make(const char *cgroups_path, struct err *err);

/* Sets the limits that res names; 0 means none. 0 or -errno. */
int launch_group_limit(int dir, const API(Resources) * res);

/* Docker's device rules as a program of the kernel's: its descriptor, the caller's, or -errno.
 * bpf(2). */
int launch_group_load_devices(void);
/* They hold for all that the group holds from now on. 0 or -errno. */
int launch_group_restrict_devices(int dir, int prog);
