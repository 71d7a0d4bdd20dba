/* SPDX-License-Identifier: Apache-2.0 */
/* agent/tar.h: the input is an archive. */
#include <stdlib.h>
#include <string.h>

#include "agent/tar.h"
#include "base/limits.h"
#include "fuzz.h"

struct source {
	const uint8_t *at, *end;
};

static ssize_t take(void *arg, void *buf, size_t len)
{
	struct source *s = arg;
	size_t n = (size_t)(s->end - s->at) < len ? (size_t)(s->end - s->at) : len;

	memcpy(buf, s->at, n);
	s->at += n;
	return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source source = { data, data + size };
	struct tar_reader reader = { .read = take, .arg = &source };
	struct err err = ERR_INIT;
	struct tar_entry e;
	char buf[100];
	int r;

	while ((r = tar_next(&reader, &e, &err)) == 1) {
		size_t xattrs = 0;

		if (!e.path || !strchr("0123456", e.type) || !e.type || (e.mode & ~07777u))
			abort();
		if ((e.type == '1' || e.type == '2') && !e.link)
			abort();
		for (size_t i = 0; i < e.n_xattrs; i++)
			xattrs += strlen(e.xattrs[i].name) + e.xattrs[i].len;
		if (xattrs > LIMIT_XATTR_BYTES || e.mtime_ns > 999999999)
			abort();
		if (tar_content(&reader, buf, sizeof(buf), &err) < 0 && !err.msg[0])
			abort();
		tar_entry_deinit(&e);
	}
	if (r < 0 && (err.code != -r || !err.msg[0]))
		abort();
	return 0;
}
