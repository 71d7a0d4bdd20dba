/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of one command goes: MICROPOD_TRACE. The command line makes a file that all
 * processes of the command append to, each step a line; it shows them in order when all is done
 * (cli/timeline.h). Off, a step costs one comparison.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TRACE_VARIABLE "MICROPOD_TRACE_FD" /* how a process hands the file to its children */

/* In the process that shows it: makes the file (memfd_create(2)) and hands it on by environment.
 * 0 or -errno. */
int trace_begin(void);

/* In a child that was started by a process that traces: takes the file over, and from now on no
 * child of its own has it. who stands in front of its steps, and is borrowed for ever. */
void trace_join(const char *who);

/* The descriptor, for a child to keep; -1: nothing is traced. */
int trace_fd(void);

/* Something has just been done. */
void trace_step(const char *step);
/* The same of another (a guest's agent, say) at a time of its own: CLOCK_MONOTONIC ns here. */
void trace_step_at(const char *who, const char *step, int64_t at);
