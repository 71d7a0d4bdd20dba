/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the text is checked by a scanner that keeps nothing, and the few places that must
 * change are remembered as edits and cut in afterwards. So every number, key and byte that is not
 * ours reaches the runtime as it came: a parser that makes doubles or 64-bit signed integers of
 * RLIM_INFINITY would not do that. A key that stands twice in an object we look into is refused:
 * which one counts differs between parsers.
 */
#include "oci/spec.h"

#include <errno.h>
#include <string.h>

#include "base/parse.h"
#include "base/strbuf.h"
#include "oci/json.h"

#define DEPTH_MAX 64
#define EDITS_MAX 2

struct scan {
	const char *at, *end;
};

struct span {
	const char *from, *to;
};

struct edit {
	struct span old; /* empty: insertion */
	const char *before, *after;
	const char *value; /* written as a JSON string */
};

struct full {
	const char *rootfs, *cgroups_path;
	bool root, process, args, linux_, path_absolute;
	bool terminal;
	struct span root_path, cgroup;
	const char *root_begin, *linux_begin; /* just behind the '{' */
	bool root_empty, linux_empty;
	struct err *err;
};

typedef int (*member_fn)(struct scan *s, struct span key, struct full *full);

static void skip_space(struct scan *s)
{
	while (s->at < s->end &&
		(*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool take(struct scan *s, char c)
{
	skip_space(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static int scan_escape(struct scan *s)
{
	if (s->at == s->end || !*s->at || !strchr("\"\\/bfnrtu", *s->at))
		return -EINVAL;
	if (*s->at++ != 'u')
		return 0;
	for (int i = 0; i < 4; i++)
		if (s->at == s->end || !is_hex(*s->at++))
			return -EINVAL;
	/* A NUL would end the runtime's string early. */
	return memcmp(s->at - 4, "0000", 4) == 0 ? -EINVAL : 0;
}

/* ret: with the quotes. */
static int scan_string(struct scan *s, struct span *ret)
{
	skip_space(s);
	ret->from = s->at;
	if (!take(s, '"'))
		return -EINVAL;
	while (s->at < s->end && *s->at != '"') {
		if ((unsigned char)*s->at < 0x20)
			return -EINVAL;
		if (*s->at++ == '\\' && scan_escape(s) < 0)
			return -EINVAL;
	}
	if (s->at == s->end)
		return -EINVAL;
	ret->to = ++s->at;
	return utf8_valid(ret->from, (size_t)(ret->to - ret->from)) ? 0 : -EINVAL;
}

static bool scan_digits(struct scan *s)
{
	const char *from = s->at;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return s->at > from;
}

static int scan_number(struct scan *s)
{
	if (s->at < s->end && *s->at == '-')
		s->at++;
	if (s->at < s->end && *s->at == '0')
		s->at++;
	else if (!scan_digits(s))
		return -EINVAL;
	if (s->at < s->end && *s->at == '.') {
		s->at++;
		if (!scan_digits(s))
			return -EINVAL;
	}
	if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
		s->at++;
		if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
			s->at++;
		if (!scan_digits(s))
			return -EINVAL;
	}
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
		return -EINVAL;
	s->at += n;
	return 0;
}

static int scan_value(struct scan *s, int depth);

/* The members of an object whose '{' is next. fn (or NULL) must scan the value. */
static int scan_object(struct scan *s, int depth, member_fn fn, struct full *full)
{
	struct span key;
	int r;

	if (!take(s, '{') || depth > DEPTH_MAX)
		return -EINVAL;
	if (take(s, '}'))
		return 0;
	do {
		r = scan_string(s, &key);
		if (r == 0 && !take(s, ':'))
			r = -EINVAL;
		if (r == 0)
			r = fn ? fn(s, key, full) : scan_value(s, depth);
	} while (r == 0 && take(s, ','));
	if (r < 0)
		return r;
	return take(s, '}') ? 0 : -EINVAL;
}

/* The elements of an array whose '[' is next. strings: none but strings. */
static int scan_array(struct scan *s, int depth, bool strings, size_t *ret_n)
{
	struct span text;
	size_t n = 0;
	int r;

	if (!take(s, '[') || depth > DEPTH_MAX)
		return -EINVAL;
	if (!take(s, ']')) {
		do {
			r = strings ? scan_string(s, &text) : scan_value(s, depth);
			n++;
		} while (r == 0 && take(s, ','));
		if (r < 0 || !take(s, ']'))
			return -EINVAL;
	}
	*ret_n = n;
	return 0;
}

static int scan_value(struct scan *s, int depth)
{
	struct span text;
	size_t n;

	skip_space(s);
	switch (s->at < s->end ? *s->at : 0) {
	case '{':
		return scan_object(s, depth + 1, NULL, NULL);
	case '[':
		return scan_array(s, depth + 1, false, &n);
	case '"':
		return scan_string(s, &text);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return scan_number(s);
	}
}

/* Keys with escapes in them could spell the ones we look for: they are refused where we look. */
static bool key_is(struct span key, const char *name)
{
	size_t n = strlen(name);

	return (size_t)(key.to - key.from) == n + 2 && memcmp(key.from + 1, name, n) == 0;
}

static int check_key(struct span key, struct full *full)
{
	if (memchr(key.from, '\\', (size_t)(key.to - key.from)))
		return err_set(full->err, EINVAL, "the OCI spec has an escaped key");
	return 0;
}

static int twice(struct full *full, const char *name)
{
	return err_set(full->err, EINVAL, "the OCI spec has '%s' twice", name);
}

static int root_member(struct scan *s, struct span key, struct full *full)
{
	const char *text;
	int r = check_key(key, full);

	if (r < 0 || !key_is(key, "path"))
		return r < 0 ? r : scan_value(s, 2);
	if (full->root_path.from)
		return twice(full, "root.path");
	r = scan_string(s, &full->root_path);
	if (r == 0) {
		text = full->root_path.from + 1;
		full->path_absolute = text[0] == '/' || (text[0] == '\\' && text[1] == '/');
	}
	return r;
}

static int process_member(struct scan *s, struct span key, struct full *full)
{
	size_t n = 0;
	int r = check_key(key, full);

	if (r < 0)
		return r;
	if (key_is(key, "args")) {
		if (full->args)
			return twice(full, "process.args");
		r = scan_array(s, 2, true, &n);
		full->args = r == 0 && n;
		return r;
	}
	if (key_is(key, "terminal")) {
		skip_space(s);
		full->terminal = s->at < s->end && *s->at == 't';
		return scan_word(s, full->terminal ? "true" : "false");
	}
	return scan_value(s, 2);
}

static int linux_member(struct scan *s, struct span key, struct full *full)
{
	int r = check_key(key, full);

	if (r < 0 || !key_is(key, "cgroupsPath"))
		return r < 0 ? r : scan_value(s, 2);
	if (full->cgroup.from)
		return twice(full, "linux.cgroupsPath");
	return scan_string(s, &full->cgroup);
}

/* Remembers where an object begins and whether it has members, for an insertion. */
static void note_begin(struct scan s, const char **ret_begin, bool *ret_empty)
{
	if (!take(&s, '{'))
		return;
	*ret_begin = s.at;
	*ret_empty = take(&s, '}');
}

static int top_member(struct scan *s, struct span key, struct full *full)
{
	int r = check_key(key, full);

	if (r < 0)
		return r;
	if (key_is(key, "root")) {
		if (full->root)
			return twice(full, "root");
		full->root = true;
		note_begin(*s, &full->root_begin, &full->root_empty);
		return scan_object(s, 1, root_member, full);
	}
	if (key_is(key, "process")) {
		if (full->process)
			return twice(full, "process");
		full->process = true;
		return scan_object(s, 1, process_member, full);
	}
	if (key_is(key, "linux")) {
		if (full->linux_)
			return twice(full, "linux");
		full->linux_ = true;
		note_begin(*s, &full->linux_begin, &full->linux_empty);
		return scan_object(s, 1, linux_member, full);
	}
	return scan_value(s, 1);
}

static struct edit edit_root(const struct full *f)
{
	if (f->root_path.from)
		return (struct edit){
			.old = f->root_path, .before = "", .after = "", .value = f->rootfs
		};
	return (struct edit){ .old = { f->root_begin, f->root_begin },
		.before = "\"path\":",
		.after = f->root_empty ? "" : ",",
		.value = f->rootfs };
}

static struct edit edit_cgroup(const struct full *f, const char *top_begin)
{
	if (f->cgroup.from)
		return (struct edit){
			.old = f->cgroup, .before = "", .after = "", .value = f->cgroups_path
		};
	if (f->linux_)
		return (struct edit){ .old = { f->linux_begin, f->linux_begin },
			.before = "\"cgroupsPath\":",
			.after = f->linux_empty ? "" : ",",
			.value = f->cgroups_path };
	return (struct edit){ .old = { top_begin, top_begin },
		.before = "\"linux\":{\"cgroupsPath\":",
		.after = "},",
		.value = f->cgroups_path };
}

static void apply(struct strbuf *sb, struct span text, struct edit *edits, size_t n)
{
	const char *at = text.from;
	struct json_out j;

	if (n == 2 && edits[1].old.from < edits[0].old.from) {
		struct edit first = edits[1];

		edits[1] = edits[0];
		edits[0] = first;
	}
	for (size_t i = 0; i < n; i++) {
		strbuf_add(sb, at, (size_t)(edits[i].old.from - at));
		strbuf_adds(sb, edits[i].before);
		j = (struct json_out){ .sb = sb };
		json_str(&j, NULL, edits[i].value);
		strbuf_adds(sb, edits[i].after);
		at = edits[i].old.to;
	}
	strbuf_add(sb, at, (size_t)(text.to - at));
}

static int check_full(const struct full *full, struct err *err)
{
	if (!full->root)
		return err_set(err, EINVAL, "the OCI spec has no root");
	if (!full->args)
		return err_set(err, EINVAL, "the OCI spec has no process.args");
	if (!full->rootfs && !full->path_absolute)
		return err_set(err, EINVAL, "the OCI spec has no absolute root.path");
	return 0;
}

int oci_spec_merge_full(const void *json, size_t len, const char *rootfs, const char *cgroups_path,
	struct oci_spec *ret_spec, bool *ret_terminal, struct err *err)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct full full = { .rootfs = rootfs, .cgroups_path = cgroups_path, .err = err };
	struct span text = { json, (const char *)json + len };
	struct scan s = { json, text.to };
	struct edit edits[EDITS_MAX];
	const char *top_begin = NULL;
	size_t n = 0;
	bool empty;
	int r;

	if (len > LIMIT_OCI_SPEC)
		return err_set(err, EFBIG, "the OCI spec is larger than %ju bytes",
			(uintmax_t)LIMIT_OCI_SPEC);
	if ((rootfs && !utf8_valid(rootfs, strlen(rootfs))) ||
		(cgroups_path && !utf8_valid(cgroups_path, strlen(cgroups_path))))
		return err_set(err, EINVAL, "the root's path is not UTF-8");
	/* Set first: what the scanner itself says no to has no message of its own. */
	err_set(err, EINVAL, "the OCI spec is not valid JSON of the expected form");
	note_begin(s, &top_begin, &empty);
	r = scan_object(&s, 0, top_member, &full);
	skip_space(&s);
	if (r < 0 || s.at != s.end)
		return -EINVAL;
	r = check_full(&full, err);
	if (r < 0)
		return r;
	if (rootfs)
		edits[n++] = edit_root(&full);
	if (cgroups_path)
		edits[n++] = edit_cgroup(&full, top_begin);
	apply(&sb, text, edits, n);
	if (strbuf_error(&sb) < 0)
		return err_set(err, ENOMEM, "out of memory for the spec");
	if (err)
		*err = ERR_INIT;
	*ret_terminal = full.terminal;
	ret_spec->json_len = sb.len;
	ret_spec->json = strbuf_finish(&sb);
	ret_spec->blob = NULL;
	ret_spec->blob_len = 0;
	return 0;
}
