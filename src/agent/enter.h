/* SPDX-License-Identifier: Apache-2.0 */
/* The child's side of agent/exec.h: from fork to execve(2). */
#pragma once

#include <stdint.h>

#include "agent/exec.h"

/* What the child tells: a terminal's master (as SCM_RIGHTS), then why it could not go on; end of
 * file is success. */
#define ENTER_REPORT_TTY     'T'
#define ENTER_REPORT_FAILURE 'F'
#define ENTER_REPORT_CREATED 'C' /* of a container's first process (agent/launch.h) */
#define ENTER_REPORT_STAGED  'S' /* of one that nobody has asked for yet */

/* When a container's first process was that far: CLOCK_MONOTONIC ns. */
struct enter_times {
	int64_t taken, disks, root, user, rights;
};

struct enter_report {
	char kind;
	struct enter_times times; /* with ENTER_REPORT_CREATED */
	struct failure failure;
};

/* In the forked child, already in the container's pid namespace and v2 cgroup. report:
 * SOCK_SEQPACKET. */
_Noreturn void enter_main(const struct process *p, const struct exec_settings *s,
	const struct exec_target *t, int report);

/* The parent's end of such a socket: 1 with a report (and *ret_fd, or -1), 0 at end of file,
 * -EAGAIN, -EPROTO or -errno. Does not block. */
int enter_receive(int sock, struct enter_report *ret_report, int *ret_fd);

/*
 * The steps, for a child that has got into its namespaces otherwise. All return 0, or -errno with
 * f, after which the child can only report it and end. The report's socket is descriptor 3.
 */
#define ENTER_REPORT_FD 3

int enter_send(const struct enter_report *report, int fd_to_pass);
int enter_set_limits(const struct exec_settings *s, struct failure *f);
int enter_terminal(const struct process *p, struct failure *f);
int enter_find_user(struct exec_settings *s, struct failure *f);
int enter_change_folder(const struct exec_settings *s, struct failure *f);
int enter_drop_rights(const struct exec_settings *s, struct failure *f);
/* Does not return when it goes well. */
int enter_execute(const struct process *p, const struct exec_settings *s, struct failure *f);
