/* SPDX-License-Identifier: Apache-2.0 */
/* Writing JSON (RFC 8259) straight into a strbuf: commas by themselves, memory in one place. Only
 * for this library. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"

struct json_out {
	struct strbuf *sb;
	bool comma; /* the next member or element wants one in front */
};

/* key: NULL in arrays. open and close: '{' '}' '[' ']'. Strings must be UTF-8. */
void json_open(struct json_out *out, const char *key, char bracket);
void json_close(struct json_out *out, char bracket);
void json_str(struct json_out *out, const char *key, const char *value);
void json_int(struct json_out *out, const char *key, int64_t value);
void json_uint(struct json_out *out, const char *key, uint64_t value);
void json_bool(struct json_out *out, const char *key, bool value);
/* text is JSON already. */
void json_raw(struct json_out *out, const char *key, const void *text, size_t len);
