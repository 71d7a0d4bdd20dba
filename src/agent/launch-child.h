/* SPDX-License-Identifier: Apache-2.0 */
/* The child's side of agent/launch.h: from clone to execve(2). */
#pragma once

#include "agent/launch.h"

/* In the cloned child, process 1 of its pid namespace and already in its cgroup. report:
 * SOCK_SEQPACKET; go: a byte on it means start. */
_Noreturn void launch_main(
	const struct process *p, const struct launch_spec *spec, int report, int go);
