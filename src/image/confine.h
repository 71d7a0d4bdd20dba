/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that parse what strangers wrote. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * Gives away what this process will not need to parse and to write to the descriptors it has: it
 * can open nothing any more (Landlock, where the kernel has it, and seccomp), has at most memory
 * bytes of address space, no core and no new privileges. Only for a forked worker: there is no way
 * back. 0 or -errno with err.
 */
int confine_worker(uint64_t memory, struct err *err);

/* The same, but files can be made below the folder dir; without Landlock -EOPNOTSUPP with err. */
int confine_unpacker(uint64_t memory, int dir, struct err *err);
