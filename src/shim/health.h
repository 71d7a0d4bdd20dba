/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the program does what it is there for, found out by a command in its container, as
 * Docker's health checks do: every so often, "healthy" after one success, "unhealthy" after so many
 * failures in a row, none of which count while it starts. It counts as nobody's use of the sandbox.
 */
#pragma once

#include "shim/shim.h"

/* The program has started. No-op without a command, or without a session to an agent. */
void shim_health_start(struct shim *shim);
/* It has ended, or the shim does. */
void shim_health_end(struct shim *shim);
