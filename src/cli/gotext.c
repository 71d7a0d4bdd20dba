/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/gotext.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define WORDS_MAX 8
#define WORD_MAX  256

/* As Go prints values: [a b], map[key:value]. */
static void put_value(const json_t *v, struct strbuf *out)
{
	const char *key, *sep = "";
	json_t *item;
	size_t i;

	switch (json_typeof(v)) {
	case JSON_STRING:
		strbuf_adds(out, json_string_value(v));
		break;
	case JSON_INTEGER:
		strbuf_addf(out, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		strbuf_addf(out, "%g", json_real_value(v));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		strbuf_adds(out, json_is_true(v) ? "true" : "false");
		break;
	case JSON_NULL:
		strbuf_adds(out, "<nil>");
		break;
	case JSON_ARRAY:
		strbuf_adds(out, "[");
		json_array_foreach(v, i, item)
		{
			strbuf_adds(out, i ? " " : "");
			put_value(item, out);
		}
		strbuf_adds(out, "]");
		break;
	case JSON_OBJECT:
		strbuf_adds(out, "map[");
		json_object_foreach((json_t *)v, key, item)
		{
			strbuf_addf(out, "%s%s:", sep, key);
			put_value(item, out);
			sep = " ";
		}
		strbuf_adds(out, "]");
		break;
	}
}

static void put_json(const json_t *v, struct strbuf *out)
{
	auto_free char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

	strbuf_adds(out, text ? text : "");
}

/* ".A.B": NULL with err if it is not there. */
static const json_t *look_up(const json_t *v, const char *path, struct err *err)
{
	char name[WORD_MAX];
	const char *p = path;

	if (strcmp(path, ".") == 0)
		return v;
	while (v && *p == '.') {
		size_t len = strcspn(p + 1, ".");

		snprintf(name, sizeof(name), "%.*s", (int)len, p + 1);
		v = json_object_get(v, name);
		p += 1 + len;
	}
	if (!v || *p)
		err_set(err, EINVAL, "option '--format': there is no '%.100s'", path);
	return *p ? NULL : v;
}

/* Words of an action: a path, a name, or a quoted string, without its quotes. */
static int split(const char *text, size_t len, char words[][WORD_MAX], size_t *ret_n)
{
	const char *end = text + len;
	size_t n = 0;

	while (text < end) {
		size_t k = 0;
		char quote;

		if (isspace((unsigned char)*text)) {
			text++;
			continue;
		}
		if (n == WORDS_MAX)
			return -EINVAL;
		quote = *text == '"' || *text == '`' ? *text++ : 0;
		while (text < end && (quote ? *text != quote : !isspace((unsigned char)*text))) {
			if (k == WORD_MAX - 1)
				return -EINVAL;
			words[n][k++] = *text++;
		}
		words[n++][k] = 0;
		if (quote && (text == end || *text++ != quote))
			return -EINVAL;
	}
	*ret_n = n;
	return 0;
}

static const json_t *index_of(const json_t *v, char words[][WORD_MAX], size_t n, struct err *err)
{
	for (size_t i = 0; v && i < n; i++) {
		char *rest;
		unsigned long at = strtoul(words[i], &rest, 10);

		if (json_is_array(v) && !*rest && *words[i])
			v = json_array_get(v, at);
		else
			v = json_object_get(v, words[i]);
		if (!v)
			err_set(err, EINVAL, "option '--format': there is no '%.100s'", words[i]);
	}
	return v;
}

static int act(const char *text, size_t len, const json_t *v, struct strbuf *out, struct err *err)
{
	char words[WORDS_MAX][WORD_MAX];
	bool json;
	size_t n;

	if (split(text, len, words, &n) == 0 && n) {
		json = n == 2 && strcmp(words[0], "json") == 0;
		if (n == 1 && words[0][0] == '.')
			v = look_up(v, words[0], err);
		else if (json && words[1][0] == '.')
			v = look_up(v, words[1], err);
		else if (n > 2 && strcmp(words[0], "index") == 0 && words[1][0] == '.')
			v = index_of(look_up(v, words[1], err), words + 2, n - 2, err);
		else
			goto unknown;
		if (!v)
			return -EINVAL;
		if (json)
			put_json(v, out);
		else
			put_value(v, out);
		return 0;
	}
unknown:
	return err_set(err, EINVAL,
		"option '--format': '{{%.*s}}' is not understood: use {{.Field}}, {{json .Field}} "
		"or {{index .Field \"key\"}}",
		(int)MIN(len, 100), text);
}

int gotext_format(const char *format, const json_t *value, struct strbuf *out, struct err *err)
{
	while (*format) {
		const char *end;
		int r;

		if (format[0] == '\\' && (format[1] == 't' || format[1] == 'n')) {
			strbuf_addc(out, format[1] == 't' ? '\t' : '\n');
			format += 2;
			continue;
		}
		if (format[0] != '{' || format[1] != '{') {
			strbuf_addc(out, *format++);
			continue;
		}
		format += 2;
		end = strstr(format, "}}");
		if (!end)
			return err_set(
				err, EINVAL, "option '--format': a '{{' is not closed by '}}'");
		r = act(format, (size_t)(end - format), value, out, err);
		if (r < 0)
			return r;
		format = end + 2;
	}
	return strbuf_error(out) < 0 ? err_errno(err, ENOMEM, "cannot format") : 0;
}
