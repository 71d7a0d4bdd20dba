/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a VMM map a file as its guest's private memory without being able to change that file, which
 * other VMs start from too. QEMU 7.2 opens it for writing, whatever its options say, and discards
 * guest memory (balloon, free page reporting) by punching holes into the file itself: one guest
 * could destroy every other.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"

struct ramguard;

/*
 * In the child, after no_new_privs and just before execve(2): installs the filter (seccomp(2)) and
 * sends its listener over sock. own: the memory file is this VMM's alone, and may have holes
 * punched. 0 or -errno with err (-ENOSYS, -EINVAL: the kernel is too old).
 */
int ramguard_install(int sock, bool own, struct err *err);

/*
 * In the parent, once the child has been executed: takes the listener from sock and from now on
 * answers the child's attempt to open guest_path for reading and writing with ram_fd (read-only,
 * but for one of its own; duplicated), as the loop runs. 0 or -errno.
 */
int ramguard_watch(struct loop *loop, int sock, int ram_fd, const char *guest_path,
	struct ramguard **ret_guard);

/* Returns NULL. The child's later attempts fail. */
struct ramguard *ramguard_free(struct ramguard *guard);
