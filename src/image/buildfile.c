/* SPDX-License-Identifier: Apache-2.0 */
#include "image/buildfile.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/strbuf.h"

struct buildfile {
	const struct strv *given;
	struct strv args;   /* "NAME=value", by ARG before the first FROM */
	struct strv stages; /* names */
	struct strv *names;
	bool from; /* there was one */
	char escape;
};

static bool has(const struct strv *list, const char *word)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcasecmp(list->v[i], word) == 0)
			return true;
	return false;
}

static const char *value_in(const struct strv *list, const char *name, size_t len)
{
	for (size_t i = list->n; i > 0; i--) {
		const char *entry = list->v[i - 1];

		if (strncmp(entry, name, len) == 0 && entry[len] == '=')
			return entry + len + 1;
	}
	return NULL;
}

/* What was given counts for what an ARG of the file has declared. */
static const char *value_of(const struct buildfile *b, const char *name, size_t len)
{
	const char *declared = value_in(&b->args, name, len);
	const char *given = declared ? value_in(b->given, name, len) : NULL;

	return given ? given : declared ? declared : "";
}

static size_t name_length(const char *s)
{
	size_t n = 0;

	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return n;
}

/* $NAME, ${NAME}, ${NAME:-word}, ${NAME:+word}; quotes go. */
static void substitute(const struct buildfile *b, const char *s, struct strbuf *out)
{
	while (*s) {
		bool braces = s[0] == '$' && s[1] == '{';
		size_t n = *s == '$' ? name_length(s + 1 + braces) : 0;
		const char *name = s + 1 + braces, *value, *end;

		if (*s == '"' || *s == '\'') {
			s++;
			continue;
		}
		if (!n || (braces && !strchr(name, '}'))) {
			strbuf_addc(out, *s++);
			continue;
		}
		value = value_of(b, name, n);
		end = braces ? strchr(name, '}') : name + n;
		if (braces && name[n] == ':' && name[n + 1] == '-' && !*value)
			strbuf_add(out, name + n + 2, (size_t)(end - name) - n - 2);
		else if (braces && name[n] == ':' && name[n + 1] == '+') {
			if (*value)
				strbuf_add(out, name + n + 2, (size_t)(end - name) - n - 2);
		} else {
			strbuf_adds(out, value);
		}
		s = end + braces;
	}
}

static int add_base(struct buildfile *b, const char *word, struct err *err)
{
	auto_strbuf struct strbuf name = STRBUF_INIT;

	substitute(b, word, &name);
	if (strbuf_error(&name))
		return -ENOMEM;
	if (!name.len || strcasecmp(name.data, "scratch") == 0 || has(&b->stages, name.data) ||
		has(b->names, name.data))
		return 0;
	/* A stage by its number. */
	if (strspn(name.data, "0123456789") == name.len)
		return 0;
	if (b->names->n == LIMIT_BUILD_BASES)
		return err_set(
			err, EINVAL, "the Dockerfile names more than %d images", LIMIT_BUILD_BASES);
	return strv_add(b->names, name.data);
}

/* ---- instructions; words: behind the keyword ---- */

static int on_arg(struct buildfile *b, const struct strv *words, struct err *err)
{
	int r = 0;

	/* Those of a stage are not seen by FROM. */
	for (size_t i = 0; r == 0 && !b->from && i < words->n; i++) {
		auto_strbuf struct strbuf entry = STRBUF_INIT;

		substitute(b, words->v[i], &entry);
		if (entry.len && !strchr(entry.data, '='))
			strbuf_addc(&entry, '=');
		r = strbuf_error(&entry) ? -ENOMEM : entry.len ? strv_add(&b->args, entry.data) : 0;
	}
	return r;
}

static int on_from(struct buildfile *b, const struct strv *words, struct err *err)
{
	size_t i = 0;
	int r;

	while (i < words->n && strncmp(words->v[i], "--", 2) == 0)
		i++;
	b->from = true;
	if (i == words->n)
		return 0; /* the builder says what is wrong */
	r = add_base(b, words->v[i], err);
	if (r == 0 && i + 2 < words->n && strcasecmp(words->v[i + 1], "AS") == 0)
		r = strv_add(&b->stages, words->v[i + 2]);
	return r;
}

static int on_copy(struct buildfile *b, const struct strv *words, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < words->n && strncmp(words->v[i], "--", 2) == 0; i++)
		if (strncmp(words->v[i], "--from=", 7) == 0)
			r = add_base(b, words->v[i] + 7, err);
	return r;
}

static int on_run(struct buildfile *b, const struct strv *words, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < words->n && strncmp(words->v[i], "--", 2) == 0; i++) {
		char *word = words->v[i], *save = NULL;

		if (strncmp(word, "--mount=", 8) != 0)
			continue;
		for (char *part = strtok_r(word + 8, ",", &save); r == 0 && part;
			part = strtok_r(NULL, ",", &save))
			if (strncmp(part, "from=", 5) == 0)
				r = add_base(b, part + 5, err);
	}
	return r;
}

static const struct {
	const char *keyword;
	int (*fn)(struct buildfile *b, const struct strv *words, struct err *err);
} instructions[] = {
	{ "ARG", on_arg },
	{ "FROM", on_from },
	{ "COPY", on_copy },
	{ "ADD", on_copy },
	{ "RUN", on_run },
};

static int take_instruction(struct buildfile *b, char *line, struct err *err)
{
	auto_strv struct strv words = STRV_INIT;
	char *save = NULL, *keyword = strtok_r(line, " \t\r\n", &save);
	int r = 0;

	for (size_t i = 0; keyword && i < ARRAY_SIZE(instructions); i++) {
		if (strcasecmp(keyword, instructions[i].keyword) != 0)
			continue;
		for (char *w = strtok_r(NULL, " \t\r\n", &save); r == 0 && w;
			w = strtok_r(NULL, " \t\r\n", &save))
			r = strv_add(&words, w);
		return r < 0 ? r : instructions[i].fn(b, &words, err);
	}
	return 0;
}

/* ---- lines ---- */

/* "# escape=`" among the first lines. */
static void find_escape(struct buildfile *b, const char *line, size_t len)
{
	static const char word[] = "escape=";
	const char *at = len && *line == '#' ? line + 1 : NULL;

	while (at && at < line + len && (*at == ' ' || *at == '\t'))
		at++;
	if (at && (size_t)(line + len - at) > strlen(word) &&
		strncasecmp(at, word, strlen(word)) == 0)
		b->escape = at[strlen(word)];
}

static int take_lines(struct buildfile *b, const char *text, size_t len, struct err *err)
{
	auto_strbuf struct strbuf whole = STRBUF_INIT;
	bool first = true;
	int r = 0;

	for (const char *p = text, *end = text + len; r == 0 && p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p), indent = 0;
		bool more;

		while (indent < n && (p[indent] == ' ' || p[indent] == '\t'))
			indent++;
		if (first)
			find_escape(b, p + indent, n - indent);
		first = first && n > indent && p[indent] == '#';
		/* A comment, also between the lines of one instruction. */
		if (indent < n && p[indent] == '#') {
			p += n + (nl != NULL);
			continue;
		}
		while (n && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '\r'))
			n--;
		more = n && p[n - 1] == b->escape;
		strbuf_add(&whole, p, n - more);
		p = nl ? nl + 1 : end;
		if (more && p < end)
			continue;
		strbuf_addc(&whole, '\n');
		if (strbuf_error(&whole))
			return -ENOMEM;
		r = take_instruction(b, whole.data, err);
		whole.len = 0;
	}
	return r;
}

int buildfile_bases(
	const char *text, size_t len, const struct strv *args, struct strv *names, struct err *err)
{
	struct buildfile b = { .given = args, .names = names, .escape = '\\' };
	int r;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	r = memchr(text, 0, len) ? err_set(err, EINVAL, "the Dockerfile is no text")
				 : take_lines(&b, text, len, err);
	if (r == 0 && !b.from)
		r = err_set(err, EINVAL, "the Dockerfile has no FROM");
	strv_deinit(&b.args);
	strv_deinit(&b.stages);
	return r == -ENOMEM && !err->code ? err_errno(err, ENOMEM, "cannot read the Dockerfile")
					  : r;
}
