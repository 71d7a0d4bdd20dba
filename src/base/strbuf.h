/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte string, always NUL-terminated. A failed allocation is remembered: further calls do
 * nothing, and strbuf_finish() or strbuf_error() tells, so that a chain of appends is checked once.
 */
#pragma once

#include <stdbool.h>

#include "base/macro.h"

struct strbuf {
	char *data; /* NULL until something is added */
	size_t len; /* without the NUL */
	size_t cap;
	bool failed;
};

#define STRBUF_INIT ((struct strbuf){ 0 })

void strbuf_deinit(struct strbuf *sb);
void strbuf_reset(struct strbuf *sb); /* empty, memory kept, failure forgotten */
void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_adds(struct strbuf *sb, const char *s);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) PRINTF(2, 3);

/* Drops the first n bytes (n <= len). */
void strbuf_consume(struct strbuf *sb, size_t n);

/* 0, or -ENOMEM if any append failed. */
int strbuf_error(const struct strbuf *sb);

/* The string, owned by the caller (free()), never NULL on success; sb is empty afterwards. NULL:
 * out of memory. */
char *strbuf_finish(struct strbuf *sb);

#define auto_strbuf __attribute__((cleanup(strbuf_deinit)))
