/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/console.h"

#include <stdio.h>
#include <string.h>

#define PANIC "Kernel panic - not syncing: "

static void end_line(struct console *c)
{
	char *text;

	c->line[c->line_len] = 0;
	text = strstr(c->line, PANIC);
	/* The first one counts: what follows is often "panic in panic". */
	if (text && !c->panic[0])
		snprintf(c->panic, sizeof(c->panic), "%s", text + strlen(PANIC));
	c->line_len = 0;
}

void console_feed(struct console *c, const void *data, size_t len)
{
	const char *p = data;

	for (size_t i = 0; i < len; i++) {
		c->ring[c->total++ % sizeof(c->ring)] = p[i];
		if (p[i] == '\n' || p[i] == '\r')
			end_line(c);
		else if (p[i] && c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = p[i];
	}
}

void console_tail(const struct console *c, unsigned n, struct strbuf *out)
{
	size_t have = MIN(c->total, sizeof(c->ring)), start = c->total - have, from = c->total;

	/* Back over n newlines, the one at the very end not counted. */
	while (from > start) {
		char byte = c->ring[(from - 1) % sizeof(c->ring)];

		if (byte == '\n' && from != c->total && n-- <= 1)
			break;
		from--;
	}
	for (; from < c->total; from++) {
		char byte = c->ring[from % sizeof(c->ring)];

		if (byte == '\r')
			continue;
		strbuf_addc(out,
			byte == '\n' || byte == '\t' || (byte >= 0x20 && byte < 0x7f) ? byte : '?');
	}
}
