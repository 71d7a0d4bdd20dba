/* SPDX-License-Identifier: Apache-2.0 */
/* What a running sandbox costs its host: all its processes together (shim, VMM, network, those that
 * serve volumes). */
#pragma once

#include "sandbox/config.h"

struct sandbox_cost {
	/* Proportional set size (proc_pid_smaps_rollup(5)): pages shared with others, such as a
	 * template's or a program's, count by their share. */
	uint64_t memory_bytes;
	uint64_t cpu_ns; /* used since their start */
};

/* Reads /proc for some milliseconds. One that has ended costs nothing. 0, or -errno with err. */
int sandbox_cost(const struct sandbox_state *state, struct sandbox_cost *ret_cost, struct err *err);
