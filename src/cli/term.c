/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/term.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macro.h"

int term_set_raw(struct term *term, int fd)
{
	struct termios raw;

	if (term->raw || tcgetattr(fd, &term->saved) < 0)
		return 0;
	raw = term->saved;
	cfmakeraw(&raw);
	/* Now, not when pending input is read: what was typed ahead belongs to the program too. */
	if (tcsetattr(fd, TCSANOW, &raw) < 0)
		return -errno;
	term->fd = fd;
	term->raw = true;
	return 0;
}

void term_restore(struct term *term)
{
	if (!term->raw)
		return;
	term->raw = false;
	tcsetattr(term->fd, TCSANOW, &term->saved);
}

bool term_size(uint32_t *ret_rows, uint32_t *ret_columns)
{
	static const int fds[] = { STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct winsize ws;

		if (ioctl(fds[i], TIOCGWINSZ, &ws) == 0 && ws.ws_row && ws.ws_col) {
			*ret_rows = ws.ws_row;
			*ret_columns = ws.ws_col;
			return true;
		}
	}
	return false;
}
