/* SPDX-License-Identifier: Apache-2.0 */
/* A growing, NULL-terminated array of owned strings, as execve(2) takes it. */
#pragma once

#include <stdbool.h>

#include "base/macro.h"

struct strv {
	char **v; /* NULL while empty; use strv_items() where an array is needed */
	size_t n;
	size_t cap;
};

#define STRV_INIT ((struct strv){ 0 })

void strv_deinit(struct strv *sv);

/* Each appends a copy (strv_take: takes ownership, also on failure). Return 0 or -ENOMEM. */
int strv_add(struct strv *sv, const char *s);
int strv_addn(struct strv *sv, const char *s, size_t len);
int strv_addf(struct strv *sv, const char *fmt, ...) PRINTF(2, 3);
int strv_take(struct strv *sv, char *s);
int strv_addv(struct strv *sv, const char *const *more); /* NULL-terminated; NULL is nothing */

/* Sets KEY=VALUE, replacing an earlier KEY=...; entry is "KEY=VALUE". Returns 0 or -ENOMEM. */
int strv_setenv(struct strv *sv, const char *entry);

/* The array itself, never NULL, borrowed until the next change. */
char **strv_items(const struct strv *sv);

#define auto_strv __attribute__((cleanup(strv_deinit)))
