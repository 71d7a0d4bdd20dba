/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crilog.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

static const char *const stream_words[] = { "stdout", "stderr" };

static void stamp(int64_t ns, char out[static 40])
{
	time_t sec = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm;
	size_t n;

	gmtime_r(&sec, &tm);
	n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 40 - n, ".%09ldZ", (long)(ns % NSEC_PER_SEC));
}

void crilog_format(
	struct strbuf *out, unsigned stream, int64_t time_ns, const void *data, size_t len)
{
	const char *p = data;
	char when[40];

	stamp(time_ns, when);
	while (len) {
		const char *nl = memchr(p, '\n', len);
		size_t n = nl ? (size_t)(nl - p) : len, taken = n + (nl != NULL);

		strbuf_addf(out, "%s %s %c ", when, stream_words[stream], nl ? 'F' : 'P');
		strbuf_add(out, p, n);
		strbuf_addc(out, '\n');
		p += taken;
		len -= taken;
	}
}

void crilog_count(const char *text, size_t len, uint64_t bytes[static 2])
{
	const char *end = text + len, *nl;

	for (; text < end && (nl = memchr(text, '\n', (size_t)(end - text))); text = nl + 1) {
		const char *word = memchr(text, ' ', (size_t)(nl - text));

		/* " stdout F " has ten bytes. */
		if (!word || nl - word < 10)
			continue;
		bytes[strncmp(word + 1, "stderr", 6) == 0] +=
			(size_t)(nl - word) - 10 + (word[8] == 'F');
	}
}
