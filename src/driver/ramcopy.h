/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's own copy of a saved VM's memory. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * A memory file (memfd_create(2)) of size bytes with what source, as large, holds; its holes stay
 * holes. *ret_fd is the caller's. 0 or -errno with err. Blocks: some 25 ms for a fresh guest.
 */
int ram_copy(int source, uint64_t size, int *ret_fd, struct err *err);
