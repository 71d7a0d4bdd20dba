/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strv_deinit(struct strv *sv)
{
	for (size_t i = 0; i < sv->n; i++)
		free(sv->v[i]);
	free(sv->v);
	*sv = STRV_INIT;
}

int strv_take(struct strv *sv, char *s)
{
	if (!s)
		return -ENOMEM;
	if (sv->n + 2 > sv->cap) {
		size_t cap = sv->cap ? sv->cap * 2 : 8;
		char **v = reallocarray(sv->v, cap, sizeof(*v));

		if (!v) {
			free(s);
			return -ENOMEM;
		}
		sv->v = v;
		sv->cap = cap;
	}
	sv->v[sv->n++] = s;
	sv->v[sv->n] = NULL;
	return 0;
}

int strv_add(struct strv *sv, const char *s)
{
	return strv_take(sv, strdup(s));
}

int strv_addn(struct strv *sv, const char *s, size_t len)
{
	return strv_take(sv, strndup(s, len));
}

int strv_addf(struct strv *sv, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? -ENOMEM : strv_take(sv, s);
}

int strv_addv(struct strv *sv, const char *const *more)
{
	for (; more && *more; more++) {
		int r = strv_add(sv, *more);

		if (r < 0)
			return r;
	}
	return 0;
}

int strv_setenv(struct strv *sv, const char *entry)
{
	size_t key = strcspn(entry, "=");

	for (size_t i = 0; i < sv->n; i++) {
		if (strncmp(sv->v[i], entry, key) == 0 && sv->v[i][key] == '=') {
			char *copy = strdup(entry);

			if (!copy)
				return -ENOMEM;
			free(sv->v[i]);
			sv->v[i] = copy;
			return 0;
		}
	}
	return strv_add(sv, entry);
}

char **strv_items(const struct strv *sv)
{
	static char *empty[] = { NULL };

	return sv->v ? sv->v : empty;
}
