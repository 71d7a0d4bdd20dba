/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/record.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "cli/when.h"

/* Cuts the word in front of the next space off. */
static const char *word(const char **s, const char *end, size_t *ret_len)
{
	const char *start = *s, *space = memchr(start, ' ', (size_t)(end - start));

	if (!space)
		return NULL;
	*ret_len = (size_t)(space - start);
	*s = space + 1;
	return start;
}

int record_parse(const char *line, size_t len, struct record *ret_record)
{
	const char *end = line + len, *stream, *tag;
	struct record r = { 0 };
	char stamp[40];
	size_t n;

	r.stamp = word(&line, end, &r.stamp_len);
	stream = r.stamp ? word(&line, end, &n) : NULL;
	if (!stream || n != 6 || r.stamp_len >= sizeof(stamp))
		return -EINVAL;
	r.is_stderr = memcmp(stream, "stderr", 6) == 0;
	if (!r.is_stderr && memcmp(stream, "stdout", 6) != 0)
		return -EINVAL;
	tag = word(&line, end, &n);
	if (!tag || n != 1 || (*tag != 'F' && *tag != 'P'))
		return -EINVAL;
	r.partial = *tag == 'P';
	memcpy(stamp, r.stamp, r.stamp_len);
	stamp[r.stamp_len] = 0;
	if (when_parse(stamp, &r.time_ns, NULL) < 0)
		return -EINVAL;
	r.data = line;
	r.len = (size_t)(end - line);
	*ret_record = r;
	return 0;
}

bool record_wanted(const struct record_filter *filter, const struct record *record)
{
	return (!filter->since_ns || record->time_ns >= filter->since_ns) &&
	       (!filter->until_ns || record->time_ns <= filter->until_ns);
}

int record_print(struct record_printer *p, const struct record *record)
{
	bool *inside = &p->inside[record->is_stderr], *skipping = &p->skipping[record->is_stderr];
	int r = 0;

	if (p->filter.until_ns && record->time_ns > p->filter.until_ns)
		p->past_until = true;
	if (!record_wanted(&p->filter, record))
		return 0;
	if (!*inside) {
		*skipping = p->skip_lines > 0;
		p->skip_lines -= *skipping;
	}
	if (*skipping) {
		*inside = record->partial;
		return 0;
	}
	if (p->filter.timestamps && !*inside) {
		r = p->write(record->is_stderr, record->stamp, record->stamp_len, p->arg);
		if (r == 0)
			r = p->write(record->is_stderr, " ", 1, p->arg);
	}
	if (r == 0)
		r = p->write(record->is_stderr, record->data, record->len, p->arg);
	if (r == 0 && !record->partial)
		r = p->write(record->is_stderr, "\n", 1, p->arg);
	*inside = record->partial;
	return r;
}
