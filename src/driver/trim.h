/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has an emulated VM give back the memory of translated code once it is idle. QEMU does it by a
 * plugin (trim-plugin.c), which is told where that memory is; when, is decided here, from outside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/loop.h"

/* One order, as it goes over the socket: QEMU's own addresses. */
#define TRIM_RANGES 64
struct trim_order {
	uint32_t n, unused;
	struct {
		uint64_t start, len;
	} ranges[TRIM_RANGES];
};

struct trim;

/*
 * Watches the VMM with this pid from now on, and orders over sock (taken in every case) as often as
 * it has worked and is idle again. 0 or -errno.
 */
int trim_new(struct loop *loop, pid_t pid, int sock, struct trim **ret_trim);
/* Returns NULL. */
struct trim *trim_free(struct trim *trim);

/*
 * Whether the VMM loads the plugin: tried once, remembered below state_dir until one of them
 * changes (NULL: not remembered). A VMM may have been built without plugins, or want other ones.
 * Blocks the first time.
 */
bool trim_loads(const char *state_dir, const char *vmm, const char *plugin);

/* Where pid's translated code lies: large private memory without a file that is writable and
 * executable at once. 0 or -errno; n is 0 if there is none. */
int trim_ranges(pid_t pid, struct trim_order *ret_order);
