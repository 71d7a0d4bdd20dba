/* SPDX-License-Identifier: Apache-2.0 */
/* Process objects made by CreateProcess and ExecInContainer: their settings, start, time limit and
 * OOM count. */
#pragma once

#include "agent/container.h"

/*
 * A process object in a running container, not started. exec_id "": one is chosen. The same request
 * under the same id gives the same object (*ret_known: true); another request under that id is
 * EEXIST. 0 or -errno with f.
 */
int execs_create(struct agent *agent, const char *container_id, const char *exec_id,
	const API(ProcessSpec) * spec, struct process **ret_process, bool *ret_known,
	struct failure *f);

/*
 * Begins to start p unless it has been: who watches p hears how it went (execs_started()). 0 or
 * -errno with f.
 */
int execs_start(struct agent *agent, struct process *p, struct failure *f);

/* 0: not decided yet; 1: it runs or has run; -1: it could not be started, *ret_failure (borrowed)
 * says why. */
int execs_started(const struct process *p, const struct failure **ret_failure);
