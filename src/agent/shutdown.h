/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the machine. */
#pragma once

#include "base/macro.h"

/* Kills every process but this one, unmounts, syncs, powers off. Does not return: if the power
 * stays on, it halts. */
_Noreturn void shutdown_power_off(void);

/* From now on the machine ends with a reset instead: its VMM knows no power-off. */
void shutdown_by_reset(void);

/* One line on the console that says why, then shutdown_power_off() (not as PID 1: exits with 1). */
_Noreturn void shutdown_fatal(const char *fmt, ...) PRINTF(1, 2);
