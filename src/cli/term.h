/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal of whoever called us. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct term {
	bool raw;
	int fd;
	struct termios saved;
};

/* Puts the terminal at fd into raw mode, if it is one: keys go through as bytes, nothing is echoed.
 * 0 or -errno. */
int term_set_raw(struct term *term, int fd);

/* Puts it back as it was. Safe to call at any time, and twice. */
void term_restore(struct term *term);

/* Rows and columns of the first of stdout, stdin, stderr that is a terminal; false if none is. */
bool term_size(uint32_t *ret_rows, uint32_t *ret_columns);
