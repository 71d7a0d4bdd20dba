/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/console.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"

/* A guest's bytes on the user's terminal: no escape sequence may survive. */
static void make_harmless(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\n' &&
			((unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f))
			text[i] = text[i] == '\r' || text[i] == '\t' ? ' ' : '?';
}

/* Where the last n lines of text begin. */
static char *last_lines(char *text, size_t len, unsigned n)
{
	char *p = text + len;

	while (p > text && p[-1] == '\n')
		p--;
	for (; p > text; p--)
		if (p[-1] == '\n' && --n == 0)
			break;
	return p;
}

void console_show_tail(const struct sandbox_root *root, const char *id, FILE *out)
{
	auto_free char *path = sandbox_path(root, id, "console.log");
	auto_close int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char text[LIMIT_CONSOLE_TAIL + 1], *save = NULL;
	struct stat st;
	ssize_t len;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return;
	if ((uint64_t)st.st_size > LIMIT_CONSOLE_TAIL &&
		lseek(fd, -(off_t)LIMIT_CONSOLE_TAIL, SEEK_END) < 0)
		return;
	len = fd_read_full(fd, text, sizeof(text) - 1);
	if (len <= 0)
		return;
	text[len] = 0;
	make_harmless(text, (size_t)len);
	fprintf(out, "The guest's console ended with:\n");
	for (char *line = strtok_r(last_lines(text, (size_t)len, CONSOLE_TAIL_LINES), "\n", &save);
		line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = strlen(line);

		while (n && line[n - 1] == ' ') /* that of its carriage return */
			n--;
		fprintf(out, "  | %.*s\n", (int)n, line);
	}
}
