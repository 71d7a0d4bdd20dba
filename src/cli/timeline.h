/* SPDX-License-Identifier: Apache-2.0 */
/* What MICROPOD_TRACE asks for: "1" shows each step with its time on stderr when the command is
 * done; a name ending in ".svg" gets the picture as well, one bar a step. */
#pragma once

#include "base/err.h"

/* Begins to trace if the variable says so. 0, or -errno with err. */
int timeline_begin(struct err *err);

/* Shows what was traced, if anything was. 0, or -errno with err. Call once, at the end. */
int timeline_show(struct err *err);
