/* SPDX-License-Identifier: Apache-2.0 */
/* The end of what a guest wrote to its console, and its last words if the kernel panicked. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"
#include "base/strbuf.h"

struct console {
	char ring[LIMIT_CONSOLE_TAIL];
	size_t total; /* bytes ever seen */
	char line[192];
	size_t line_len;
	char panic[160]; /* what the kernel said; empty: it did not panic */
};

void console_feed(struct console *c, const void *data, size_t len);

/* Appends the last lines (at most n) to out, fit for a terminal: other bytes than printable ASCII
 * become '?'. */
void console_tail(const struct console *c, unsigned n, struct strbuf *out);
