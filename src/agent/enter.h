/* SPDX-License-Identifier: Apache-2.0 */
/* The child's side of agent/exec.h: from fork to execve(2). */
#pragma once

#include "agent/exec.h"

/* What the child tells: a terminal's master (as SCM_RIGHTS), then why it could not go on; end of
 * file is success. */
#define ENTER_REPORT_TTY     'T'
#define ENTER_REPORT_FAILURE 'F'

struct enter_report {
	char kind;
	struct failure failure;
};

/* In the forked child, already in the container's pid namespace and v2 cgroup. report:
 * SOCK_SEQPACKET. */
_Noreturn void enter_main(const struct process *p, const struct exec_settings *s,
	const struct exec_target *t, int report);
