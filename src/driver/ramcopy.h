/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a VM's own, perhaps a copy of a saved one's (VM_RAM_OWN). */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* A memory file (memfd_create(2)) of size bytes, all holes. *ret_fd is the caller's. 0 or -errno
 * with err. */
int ram_new(uint64_t size, int *ret_fd, struct err *err);

/*
 * Fills it with what source, as large, holds; holes stay holes. A VMM that has been started with it
 * waits for the loop to run before it maps it, so this may come after the start. 0 or -errno with
 * err. Blocks: some 25 ms for a fresh guest.
 */
int ram_copy(int source, int fd, struct err *err);
