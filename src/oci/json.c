/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/json.h"

#include <inttypes.h>
#include <string.h>

static void add_quoted(struct strbuf *sb, const char *s)
{
	strbuf_addc(sb, '"');
	while (*s) {
		size_t plain = 0;
		unsigned char c;

		while ((c = (unsigned char)s[plain]) >= 0x20 && c != '"' && c != '\\')
			plain++;
		strbuf_add(sb, s, plain);
		s += plain;
		if (!*s)
			break;
		if (*s == '"' || *s == '\\')
			strbuf_addf(sb, "\\%c", *s);
		else
			strbuf_addf(sb, "\\u%04x", (unsigned char)*s);
		s++;
	}
	strbuf_addc(sb, '"');
}

static void begin(struct json_out *out, const char *key)
{
	if (out->comma)
		strbuf_addc(out->sb, ',');
	out->comma = true;
	if (key) {
		add_quoted(out->sb, key);
		strbuf_addc(out->sb, ':');
	}
}

void json_open(struct json_out *out, const char *key, char bracket)
{
	begin(out, key);
	strbuf_addc(out->sb, bracket);
	out->comma = false;
}

void json_close(struct json_out *out, char bracket)
{
	strbuf_addc(out->sb, bracket);
	out->comma = true;
}

void json_str(struct json_out *out, const char *key, const char *value)
{
	begin(out, key);
	add_quoted(out->sb, value);
}

void json_int(struct json_out *out, const char *key, int64_t value)
{
	begin(out, key);
	strbuf_addf(out->sb, "%" PRId64, value);
}

void json_uint(struct json_out *out, const char *key, uint64_t value)
{
	begin(out, key);
	strbuf_addf(out->sb, "%" PRIu64, value);
}

void json_bool(struct json_out *out, const char *key, bool value)
{
	begin(out, key);
	strbuf_adds(out->sb, value ? "true" : "false");
}

void json_raw(struct json_out *out, const char *key, const void *text, size_t len)
{
	begin(out, key);
	strbuf_add(out->sb, text, len);
}
