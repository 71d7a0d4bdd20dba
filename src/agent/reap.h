/* SPDX-License-Identifier: Apache-2.0 */
/* A container's pid 1 for programs that do not reap (`init` of CreateContainerRequest): `reap --
 * PROGRAM ARGS`. */
#pragma once

/* argv as of main(). Runs the program, passes signals on, reaps all, and returns what the program's
 * exit code is (128 + signal). */
int reap_main(int argc, char **argv);

/* The same for no program at all: returns 0 when it is told to end. */
int reap_pause(void);
