/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/parse.h"

#define XATTR_PREFIX "SCHILY.xattr."
#define ID_MAX	     2097151 /* what fits the header's seven octal digits */
#define SIZE_MAX_OCT 077777777777ULL

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
		magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155],
		padding[12];
};
static_assert(sizeof(struct header) == TAR_BLOCK, "a header is a block");

void tar_entry_deinit(struct tar_entry *e)
{
	free(e->path);
	free(e->link);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
	*e = (struct tar_entry){ 0 };
}

int tar_entry_add_xattr(struct tar_entry *e, const char *name, const void *value, size_t len)
{
	struct tar_xattr *v;
	size_t sum = strlen(name) + len;

	for (size_t i = 0; i < e->n_xattrs; i++)
		sum += strlen(e->xattrs[i].name) + e->xattrs[i].len;
	if (sum > LIMIT_XATTR_BYTES)
		return -E2BIG;
	v = realloc(e->xattrs, (e->n_xattrs + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	e->xattrs = v;
	v += e->n_xattrs;
	*v = (struct tar_xattr){ strdup(name), malloc(len + 1), len };
	if (!v->name || !v->value) {
		free(v->name);
		free(v->value);
		return -ENOMEM;
	}
	memcpy(v->value, value, len);
	e->n_xattrs++;
	return 0;
}

/* Writing */

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void add_record(struct strbuf *pax, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, total = rest, digits;
	char number[24];

	do {
		digits = (size_t)snprintf(number, sizeof(number), "%zu", total);
		if (rest + digits == total)
			break;
		total = rest + digits;
	} while (true);
	strbuf_addf(pax, "%s %s=", number, key);
	strbuf_add(pax, value, len);
	strbuf_addc(pax, '\n');
}

static void add_number(struct strbuf *pax, const char *key, uint64_t value)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);

	add_record(pax, key, text, (size_t)n);
}

/* What the plain header cannot say. */
static void fill_pax(struct strbuf *pax, const struct tar_entry *e)
{
	char text[48], key[300];
	int n;

	if (strlen(e->path) > sizeof(((struct header *)0)->name))
		add_record(pax, "path", e->path, strlen(e->path));
	if (e->link && strlen(e->link) > sizeof(((struct header *)0)->link))
		add_record(pax, "linkpath", e->link, strlen(e->link));
	if (e->size > SIZE_MAX_OCT)
		add_number(pax, "size", e->size);
	if (e->uid > ID_MAX)
		add_number(pax, "uid", e->uid);
	if (e->gid > ID_MAX)
		add_number(pax, "gid", e->gid);
	if (e->mtime_ns || e->mtime < 0 || (uint64_t)e->mtime > SIZE_MAX_OCT) {
		n = snprintf(text, sizeof(text), "%lld.%09u", (long long)e->mtime, e->mtime_ns);
		add_record(pax, "mtime", text, (size_t)n);
	}
	for (size_t i = 0; i < e->n_xattrs; i++) {
		snprintf(key, sizeof(key), XATTR_PREFIX "%.255s", e->xattrs[i].name);
		add_record(pax, key, e->xattrs[i].value, e->xattrs[i].len);
	}
}

static void put_octal(char *field, size_t size, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)value);
	memcpy(field, text, size);
}

static void put_header(
	struct strbuf *out, const struct tar_entry *e, char type, const char *name, uint64_t size)
{
	struct header h = { .type = type };
	unsigned sum = 0;

	memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
	if (e->link)
		memcpy(h.link, e->link, MIN(strlen(e->link), sizeof(h.link)));
	put_octal(h.mode, sizeof(h.mode), e->mode & 07777);
	put_octal(h.uid, sizeof(h.uid), MIN(e->uid, (uint32_t)ID_MAX));
	put_octal(h.gid, sizeof(h.gid), MIN(e->gid, (uint32_t)ID_MAX));
	put_octal(h.size, sizeof(h.size), MIN(size, SIZE_MAX_OCT));
	put_octal(h.mtime, sizeof(h.mtime), MIN((uint64_t)MAX(e->mtime, 0), SIZE_MAX_OCT));
	put_octal(h.major, sizeof(h.major), e->major & ID_MAX);
	put_octal(h.minor, sizeof(h.minor), e->minor & ID_MAX);
	memcpy(h.magic, "ustar", 6);
	memcpy(h.version, "00", 2);
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	put_octal(h.checksum, 7, sum);
	strbuf_add(out, &h, sizeof(h));
}

void tar_put_entry(struct strbuf *out, const struct tar_entry *e)
{
	static const char zeros[TAR_BLOCK];
	auto_strbuf struct strbuf pax = STRBUF_INIT;
	struct tar_entry plain = *e;

	fill_pax(&pax, e);
	if (pax.len) {
		plain.link = NULL;
		put_header(out, &plain, 'x', "pax", pax.len);
		strbuf_add(out, pax.data, pax.len);
		strbuf_add(out, zeros, tar_padding(pax.len));
	}
	put_header(out, e, e->type, e->path, e->size);
}

/* Reading */

/* 0, -ENODATA before the first byte, -EPROTO in the middle, or -errno. */
static int read_full(struct tar_reader *r, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = r->read(r->arg, (char *)buf + got, len - got);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return got ? -EPROTO : -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

static int skip(struct tar_reader *r)
{
	char buf[4096];
	uint64_t left = r->left + r->padding;

	r->left = r->padding = 0;
	while (left) {
		size_t n = (size_t)MIN(left, sizeof(buf));
		int e = read_full(r, buf, n);

		if (e < 0)
			return e == -ENODATA ? -EPROTO : e;
		left -= n;
	}
	return 0;
}

/* Octal digits, or GNU's base 256 with the highest bit set. */
static int get_number(const char *field, size_t size, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	if ((unsigned char)field[0] == 0x80) {
		for (i = 1; i < size; i++) {
			if (value >> 56)
				return -EPROTO;
			value = value << 8 | (unsigned char)field[i];
		}
		*ret = value;
		return 0;
	}
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
		if (value >> 60)
			return -EPROTO;
		value = value << 3 | (uint64_t)(field[i] - '0');
	}
	for (; i < size; i++)
		if (field[i] && field[i] != ' ')
			return -EPROTO;
	*ret = value;
	return 0;
}

static bool sum_is_right(const struct header *h)
{
	uint64_t said, sum = 0;

	if (get_number(h->checksum, sizeof(h->checksum), &said) < 0)
		return false;
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i >= offsetof(struct header, checksum) && i < offsetof(struct header, type)
			       ? ' '
			       : ((const unsigned char *)h)[i];
	return sum == said;
}

static int dup_field(const char *field, size_t size, char **ret)
{
	char *copy = strndup(field, size);

	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

/* A value with a NUL byte in it is no name. */
static int dup_value(const char *value, size_t len, char **ret)
{
	return memchr(value, 0, len) ? -EPROTO : dup_field(value, len, ret);
}

static int parse_decimal(const char *value, size_t len, uint64_t max, uint64_t *ret)
{
	char text[24];

	if (!len || len >= sizeof(text) || memchr(value, 0, len))
		return -EPROTO;
	memcpy(text, value, len);
	text[len] = 0;
	return parse_u64(text, 0, max, ret) < 0 ? -EPROTO : 0;
}

static int parse_time(const char *value, size_t len, struct tar_entry *e)
{
	bool negative = len && *value == '-';
	const char *dot = memchr(value, '.', len);
	size_t whole = dot ? (size_t)(dot - value) : len, digits = 0;
	uint64_t seconds;
	uint32_t ns = 0;
	int r = parse_decimal(value + negative, whole - negative, INT64_MAX / 2, &seconds);

	for (size_t i = whole + 1; r == 0 && i < len; i++) {
		if (value[i] < '0' || value[i] > '9')
			return -EPROTO;
		if (digits++ < 9)
			ns = ns * 10 + (uint32_t)(value[i] - '0');
	}
	for (; digits < 9; digits++)
		ns *= 10;
	e->mtime = negative ? -(int64_t)seconds : (int64_t)seconds;
	e->mtime_ns = negative ? 0 : ns;
	return r;
}

/* What a pax header has said of the entry to come. */
struct said {
	bool size, uid, gid, mtime;
};

static int take_record(struct tar_entry *e, struct said *said, const char *key, size_t key_len,
	const char *value, size_t len)
{
	const size_t prefix = strlen(XATTR_PREFIX);
	char name[256];
	uint64_t number;
	int r = 0;

#define IS(word) (key_len == strlen(word) && memcmp(key, word, key_len) == 0)
	if (IS("path")) {
		r = dup_value(value, len, &e->path);
	} else if (IS("linkpath")) {
		r = dup_value(value, len, &e->link);
	} else if (IS("size")) {
		said->size = true;
		r = parse_decimal(value, len, INT64_MAX, &e->size);
	} else if (IS("uid")) {
		said->uid = true;
		r = parse_decimal(value, len, UINT32_MAX, &number);
		e->uid = r == 0 ? (uint32_t)number : 0;
	} else if (IS("gid")) {
		said->gid = true;
		r = parse_decimal(value, len, UINT32_MAX, &number);
		e->gid = r == 0 ? (uint32_t)number : 0;
	} else if (IS("mtime")) {
		said->mtime = true;
		r = parse_time(value, len, e);
	} else if (key_len > prefix && key_len - prefix < sizeof(name) &&
		   memcmp(key, XATTR_PREFIX, prefix) == 0) {
		memcpy(name, key + prefix, key_len - prefix);
		name[key_len - prefix] = 0;
		r = tar_entry_add_xattr(e, name, value, len);
	} else if (key_len >= 10 && memcmp(key, "GNU.sparse", 10) == 0) {
		r = -EPROTO;
	}
#undef IS
	return r;
}

static int take_pax(struct tar_entry *e, struct said *said, const char *text, size_t len)
{
	while (len) {
		const char *space = memchr(text, ' ', MIN(len, (size_t)20)), *equals;
		uint64_t total;
		size_t head;
		int r;

		if (!space)
			return -EPROTO;
		head = (size_t)(space - text) + 1;
		r = parse_decimal(text, head - 1, len, &total);
		if (r < 0 || total < head + 2 || text[total - 1] != '\n')
			return -EPROTO;
		equals = memchr(space + 1, '=', (size_t)total - head - 1);
		if (!equals)
			return -EPROTO;
		r = take_record(e, said, space + 1, (size_t)(equals - space - 1), equals + 1,
			(size_t)(text + total - 1 - (equals + 1)));
		if (r < 0)
			return r;
		text += total;
		len -= (size_t)total;
	}
	return 0;
}

/* The content of a header that describes the next one. */
static int read_text(struct tar_reader *r, uint64_t size, char **ret)
{
	char *text;
	int e;

	if (size > LIMIT_TAR_HEADER)
		return -E2BIG;
	text = malloc((size_t)size + 1);
	if (!text)
		return -ENOMEM;
	r->padding = tar_padding(size);
	e = read_full(r, text, (size_t)size);
	if (e == 0)
		e = skip(r);
	if (e < 0) {
		free(text);
		return e == -ENODATA ? -EPROTO : e;
	}
	text[size] = 0;
	*ret = text;
	return 0;
}

/* 'x', 'L' and 'K' say something of the next entry, 'g' of all, which nobody needs. 1: it was one
 * of these. */
static int take_extra(
	struct tar_reader *r, const struct header *h, struct tar_entry *e, struct said *said)
{
	auto_free char *text = NULL;
	uint64_t size;
	int n;

	if (!strchr("xgLK", h->type) || !h->type)
		return 0;
	n = get_number(h->size, sizeof(h->size), &size);
	if (n == 0)
		n = read_text(r, size, &text);
	if (n == 0 && h->type == 'x')
		n = take_pax(e, said, text, (size_t)size);
	else if (n == 0 && h->type == 'L')
		n = dup_field(text, (size_t)size, &e->path);
	else if (n == 0 && h->type == 'K')
		n = dup_field(text, (size_t)size, &e->link);
	return n < 0 ? n : 1;
}

static int take_names(const struct header *h, struct tar_entry *e)
{
	char path[sizeof(h->prefix) + sizeof(h->name) + 2];
	/* GNU's own format has other things where ustar has the prefix. */
	bool prefix = memcmp(h->magic, "ustar\0", 6) == 0 && h->prefix[0];
	int r = 0;

	snprintf(path, sizeof(path), "%.*s%s%.*s", prefix ? (int)sizeof(h->prefix) : 0, h->prefix,
		prefix ? "/" : "", (int)sizeof(h->name), h->name);
	if (!e->path)
		r = dup_field(path, sizeof(path) - 1, &e->path);
	if (r == 0 && !e->link && h->link[0])
		r = dup_field(h->link, sizeof(h->link), &e->link);
	return r;
}

static int take_header(const struct header *h, struct tar_entry *e, const struct said *said)
{
	uint64_t mode, uid, gid, size, mtime, major, minor;
	size_t len;
	int r = take_names(h, e);

	if (r < 0)
		return r;
	if (get_number(h->mode, sizeof(h->mode), &mode) < 0 ||
		get_number(h->uid, sizeof(h->uid), &uid) < 0 ||
		get_number(h->gid, sizeof(h->gid), &gid) < 0 ||
		get_number(h->size, sizeof(h->size), &size) < 0 ||
		get_number(h->mtime, sizeof(h->mtime), &mtime) < 0 ||
		get_number(h->major, sizeof(h->major), &major) < 0 ||
		get_number(h->minor, sizeof(h->minor), &minor) < 0 || uid > UINT32_MAX ||
		gid > UINT32_MAX || size > INT64_MAX || mtime > INT64_MAX || major > UINT32_MAX ||
		minor > UINT32_MAX)
		return -EPROTO;
	e->type = h->type == 0 || h->type == '7' ? '0' : h->type;
	e->mode = (mode_t)mode & 07777;
	e->major = (uint32_t)major;
	e->minor = (uint32_t)minor;
	if (!said->uid)
		e->uid = (uint32_t)uid;
	if (!said->gid)
		e->gid = (uint32_t)gid;
	if (!said->mtime)
		e->mtime = (int64_t)mtime;
	if (!said->size)
		e->size = size;
	len = strlen(e->path);
	/* Before POSIX a slash at the end was how a folder was said. */
	if (e->type == '0' && len && e->path[len - 1] == '/')
		e->type = '5';
	if (!strchr("0123456", e->type) || (strchr("12", e->type) && !e->link))
		return -EPROTO;
	/* Some give a hard link the size of its file; the content is not there. */
	if (e->type != '0')
		e->size = 0;
	return 0;
}

static int failed(struct err *err, int code)
{
	if (code == -EPROTO)
		return err_set(err, EPROTO,
			"the archive is broken, or has what is not read here (sparse files, say)");
	if (code == -E2BIG)
		return err_set(
			err, E2BIG, "the archive has a name or attributes that are too long");
	return err_errno(err, -code, "cannot read the archive");
}

int tar_next(struct tar_reader *r, struct tar_entry *ret_entry, struct err *err)
{
	struct tar_entry e = { 0 };
	struct said said = { 0 };
	struct header h;
	int n = skip(r), extras = 0;

	for (; n >= 0; extras++) {
		n = read_full(r, &h, sizeof(h));
		/* The two blocks of zeros at the end are often one, or none. */
		if ((n == -ENODATA && !extras) || (n == 0 && !h.name[0] && !h.checksum[0])) {
			tar_entry_deinit(&e);
			return 0;
		}
		if (n == 0 && (extras == 4 || !sum_is_right(&h)))
			n = -EPROTO;
		if (n == 0)
			n = take_extra(r, &h, &e, &said);
		if (n <= 0)
			break;
	}
	if (n == 0)
		n = take_header(&h, &e, &said);
	if (n < 0) {
		tar_entry_deinit(&e);
		return failed(err, n == -ENODATA ? -EPROTO : n);
	}
	r->left = e.size;
	r->padding = tar_padding(e.size);
	*ret_entry = e;
	return 1;
}

ssize_t tar_content(struct tar_reader *r, void *buf, size_t len, struct err *err)
{
	ssize_t n = (ssize_t)MIN(r->left, (uint64_t)len);

	if (n == 0)
		return 0;
	n = r->read(r->arg, buf, (size_t)n);
	if (n <= 0)
		return failed(err, n == 0 ? -EPROTO : (int)n);
	r->left -= (uint64_t)n;
	return n;
}
