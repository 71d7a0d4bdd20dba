/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "sandbox/root.h"

#define CONSOLE_TAIL_LINES 12

/*
 * Prints the last lines of the guest's console, for a start that failed: each behind "  | ",
 * control characters of the guest made harmless. Nothing where the guest has said nothing. Blocks
 * on the disk.
 */
void console_show_tail(const struct sandbox_root *root, const char *id, FILE *out);
