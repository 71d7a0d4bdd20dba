/* SPDX-License-Identifier: Apache-2.0 */
/* The child's side of agent/launch.h: from clone to execve(2). */
#pragma once

#include "agent/launch.h"

/* In the cloned child, process 1 of its pid namespace and already in its cgroup. report:
 * SOCK_SEQPACKET; go: a byte on it means start. */
_Noreturn void launch_main(
	const struct process *p, const struct launch_spec *spec, int report, int go);

/* What a staged child is told over the report's socket. */
#define LAUNCH_ORDER_DISKS  'D' /* mount the disks */
#define LAUNCH_ORDER_CREATE 'C' /* go on: the packed request follows, fds come with it */
#define LAUNCH_ORDER_FDS    4	/* go, stdin, stdout, stderr */

struct launch_order {
	char kind;
	char hostname[65];
};

/* The same for a child that will be a container's first process, if one like that is asked for.
 * Tells ENTER_REPORT_STAGED and waits for orders. */
_Noreturn void launch_stage_main(const struct launch_stage_spec *spec, int report);
