/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>

#include "agent/tar.h"
#include "base/limits.h"

struct source {
	const char *data;
	size_t left, step; /* at most so many bytes at once */
};

static ssize_t take(void *arg, void *buf, size_t len)
{
	struct source *s = arg;
	size_t n = MIN(MIN(len, s->left), s->step);

	memcpy(buf, s->data, n);
	s->data += n;
	s->left -= n;
	return (ssize_t)n;
}

static struct tar_reader reader_of(struct source *s, const struct strbuf *sb, size_t step)
{
	*s = (struct source){ sb->data, sb->len, step };
	return (struct tar_reader){ .read = take, .arg = s };
}

static void add_content(struct strbuf *sb, const char *text, size_t len)
{
	static const char zeros[TAR_BLOCK];

	strbuf_add(sb, text, len);
	strbuf_add(sb, zeros, tar_padding(len));
}

static void what_is_written_is_read(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	char path[600], link[200];
	struct tar_entry file = { .type = '0',
		.path = path,
		.mode = 04755,
		.uid = 3000000,
		.gid = 100,
		.size = 5,
		.mtime = 1700000000,
		.mtime_ns = 123456789 };
	struct tar_entry sym = { .type = '2', .path = (char *)"s", .link = link, .mode = 0777 };
	struct tar_entry dev = {
		.type = '3', .path = (char *)"d\xff/x", .mode = 0600, .major = 1, .minor = 3
	};

	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	memset(link, 'l', sizeof(link) - 1);
	link[sizeof(link) - 1] = 0;
	CHECK_INT(tar_entry_add_xattr(&file, "user.x", "a\0b\n", 4), 0);
	tar_put_entry(&sb, &file);
	add_content(&sb, "hello", 5);
	tar_put_entry(&sb, &sym);
	tar_put_entry(&sb, &dev);
	strbuf_add(&sb, (const char[TAR_BLOCK]){ 0 }, TAR_BLOCK);
	CHECK_INT(sb.len % TAR_BLOCK, 0);
	for (size_t step = 1; step < 2000; step = step * 7 + 1) {
		struct source s;
		struct tar_reader r = reader_of(&s, &sb, step);
		struct err err = ERR_INIT;
		struct tar_entry e;
		char text[8] = "";
		size_t got = 0;

		REQUIRE(tar_next(&r, &e, &err) == 1);
		CHECK_STR(e.path, path);
		CHECK_INT(e.type, '0');
		CHECK_INT(e.mode, 04755);
		CHECK_INT(e.uid, 3000000);
		CHECK_INT(e.gid, 100);
		CHECK_INT(e.size, 5);
		CHECK_INT(e.mtime, 1700000000);
		CHECK_INT(e.mtime_ns, 123456789);
		REQUIRE(e.n_xattrs == 1 && e.xattrs[0].len == 4);
		CHECK_STR(e.xattrs[0].name, "user.x");
		CHECK_INT(memcmp(e.xattrs[0].value, "a\0b\n", 4), 0);
		while (got < 5)
			got += (size_t)tar_content(&r, text + got, 8 - got, &err);
		CHECK_STR(text, "hello");
		CHECK_INT(tar_content(&r, text, 1, &err), 0);
		tar_entry_deinit(&e);
		REQUIRE(tar_next(&r, &e, &err) == 1);
		CHECK_STR(e.link, link);
		tar_entry_deinit(&e);
		REQUIRE(tar_next(&r, &e, &err) == 1);
		CHECK_STR(e.path, "d\xff/x");
		CHECK_INT(e.major, 1);
		CHECK_INT(e.minor, 3);
		tar_entry_deinit(&e);
		CHECK_INT(tar_next(&r, &e, &err), 0);
	}
	file.path = NULL;
	tar_entry_deinit(&file);
}

static void content_that_nobody_reads_is_skipped(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct tar_entry one = { .type = '0', .path = (char *)"one", .size = 1000 };
	struct tar_entry two = { .type = '5', .path = (char *)"two" };
	char text[1000] = "x";
	struct source s;
	struct tar_reader r;
	struct err err = ERR_INIT;
	struct tar_entry e;

	tar_put_entry(&sb, &one);
	add_content(&sb, text, sizeof(text));
	tar_put_entry(&sb, &two);
	r = reader_of(&s, &sb, 4096);
	REQUIRE(tar_next(&r, &e, &err) == 1);
	tar_entry_deinit(&e);
	REQUIRE(tar_next(&r, &e, &err) == 1);
	CHECK_STR(e.path, "two");
	tar_entry_deinit(&e);
	/* Cut off behind a whole entry is an end. */
	CHECK_INT(tar_next(&r, &e, &err), 0);
}

static int code_of(const struct strbuf *sb)
{
	struct source s;
	struct tar_reader r = reader_of(&s, sb, 4096);
	struct err err = ERR_INIT;
	struct tar_entry e;
	int n;

	while ((n = tar_next(&r, &e, &err)) == 1)
		tar_entry_deinit(&e);
	return n;
}

static void broken_ones_and_limits(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct tar_entry e = { .type = '0', .path = (char *)"file", .size = 600 };
	char *long_name = malloc(LIMIT_TAR_HEADER + 1000);

	tar_put_entry(&sb, &e);
	CHECK_INT(code_of(&sb), -EPROTO); /* its content is missing */
	sb.data[0] ^= 1;
	CHECK_INT(code_of(&sb), -EPROTO); /* the sum is wrong */
	strbuf_reset(&sb);
	strbuf_adds(&sb, "short");
	CHECK_INT(code_of(&sb), -EPROTO);
	strbuf_reset(&sb);
	CHECK_INT(code_of(&sb), 0);
	memset(long_name, 'n', LIMIT_TAR_HEADER + 999);
	long_name[LIMIT_TAR_HEADER + 999] = 0;
	e = (struct tar_entry){ .type = '5', .path = long_name };
	tar_put_entry(&sb, &e);
	CHECK_INT(code_of(&sb), -E2BIG);
	long_name[LIMIT_TAR_HEADER - 20] = 0;
	strbuf_reset(&sb);
	tar_put_entry(&sb, &e);
	CHECK_INT(code_of(&sb), 0);
	CHECK_INT(tar_entry_add_xattr(&e, "user.a", long_name, LIMIT_XATTR_BYTES), -E2BIG);
	CHECK_INT(tar_entry_add_xattr(&e, "user.a", long_name, LIMIT_XATTR_BYTES - 6), 0);
	CHECK_INT(tar_entry_add_xattr(&e, "b", "", 0), -E2BIG);
	tar_entry_deinit(&e); /* with the long name */
}

TEST_MAIN(TEST(what_is_written_is_read), TEST(content_that_nobody_reads_is_skipped),
	TEST(broken_ones_and_limits))
