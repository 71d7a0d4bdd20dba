/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/parse.h"
#include "base/proc.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "test.h"

static void errors(void)
{
	struct err err = ERR_INIT;
	char big[2 * LIMIT_ERR_MESSAGE];

	CHECK_INT(err_set(&err, ENOENT, "image '%s'\nnot found", "x"), -ENOENT);
	CHECK_STR(err.msg, "image 'x' not found");
	CHECK_INT(err_wrap(&err, "pull"), -ENOENT);
	CHECK_STR(err.msg, "pull: image 'x' not found");
	CHECK_INT(err_errno(&err, EACCES, "cannot open '%s'", "f"), -EACCES);
	CHECK_STR(err.msg, "cannot open 'f': Permission denied");
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	err_set(&err, EIO, "%s", big);
	CHECK_INT(strlen(err.msg), LIMIT_ERR_MESSAGE - 1);
	CHECK_INT(err_set(NULL, EIO, "x"), -EIO);
}

static void numbers(void)
{
	uint64_t u = 42;
	int64_t d;
	bool b;

	CHECK_INT(parse_u64("18446744073709551615", 0, UINT64_MAX, &u), 0);
	CHECK(u == UINT64_MAX);
	CHECK_INT(parse_u64("18446744073709551616", 0, UINT64_MAX, &u), -ERANGE);
	CHECK_INT(parse_u64("", 0, 9, &u), -EINVAL);
	CHECK_INT(parse_u64("1x", 0, 9, &u), -EINVAL);
	CHECK_INT(parse_u64(" 1", 0, 9, &u), -EINVAL);
	CHECK_INT(parse_u64("+1", 0, 9, &u), -EINVAL);
	CHECK_INT(parse_u64("10", 0, 9, &u), -ERANGE);
	CHECK(u == UINT64_MAX);
	CHECK_INT(parse_i64("-5", -9, 9, &d), 0);
	CHECK_INT(d, -5);
	CHECK_INT(parse_octal("755", 07777, &u), 0);
	CHECK_INT(u, 0755);
	CHECK_INT(parse_octal("8", 07777, &u), -EINVAL);

	static const struct {
		const char *text;
		int r;
		uint64_t bytes;
	} sizes[] = { { "0", 0, 0 }, { "512", 0, 512 }, { "64k", 0, 65536 },
		{ "1.5G", 0, 3ULL << 29 }, { "1GiB", 0, 1 << 30 }, { "2mb", 0, 2 << 20 },
		{ "7b", 0, 7 }, { "x", -EINVAL, 0 }, { "1q", -EINVAL, 0 }, { "1kk", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 }, { "9999999999999t", -ERANGE, 0 }, { ".5k", 0, 512 },
		{ "1.", -EINVAL, 0 }, { "bib", -EINVAL, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		u = 0;
		CHECK_INT(parse_size(sizes[i].text, &u), sizes[i].r);
		CHECK_INT(u, sizes[i].bytes);
	}

	static const struct {
		const char *text;
		int r;
		int64_t ns;
	} times[] = { { "10", 0, 10 * NSEC_PER_SEC }, { "1.5s", 0, 1500 * NSEC_PER_MSEC },
		{ "300ms", 0, 300 * NSEC_PER_MSEC }, { "1h30m", 0, 5400 * NSEC_PER_SEC },
		{ "1h30", -EINVAL, 0 }, { "", -EINVAL, 0 }, { "5x", -EINVAL, 0 },
		{ "99999999999h", -ERANGE, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		d = 0;
		CHECK_INT(parse_duration(times[i].text, &d), times[i].r);
		CHECK_INT(d, times[i].ns);
	}
	CHECK_INT(parse_milli("1.5", &u), 0);
	CHECK_INT(u, 1500);
	CHECK_INT(parse_milli("0", &u), -ERANGE);
	CHECK_INT(parse_milli("1.2345", &u), -EINVAL);
	CHECK_INT(parse_bool("Yes", &b), 0);
	CHECK(b);
	CHECK_INT(parse_bool("maybe", &b), -EINVAL);
}

static void utf8(void)
{
	CHECK(utf8_valid("", 0));
	CHECK(utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
	CHECK(!utf8_valid("\xc0\x80", 2));	   /* overlong NUL */
	CHECK(!utf8_valid("\xed\xa0\x80", 3));	   /* surrogate */
	CHECK(!utf8_valid("\xf4\x90\x80\x80", 4)); /* above U+10FFFF */
	CHECK(!utf8_valid("\xe2\x82", 2));	   /* cut off */
	CHECK(!utf8_valid("\x80", 1));
	CHECK(!utf8_valid("\xff", 1));
}

static void strings(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	auto_strv struct strv sv = STRV_INIT;
	auto_free char *s = NULL;

	strbuf_adds(&sb, "ab");
	strbuf_addf(&sb, "%d", 12);
	strbuf_addc(&sb, 'c');
	CHECK_STR(sb.data, "ab12c");
	strbuf_consume(&sb, 2);
	CHECK_STR(sb.data, "12c");
	for (int i = 0; i < 1000; i++)
		strbuf_addf(&sb, "%04d", i);
	CHECK_INT(sb.len, 4003);
	s = strbuf_finish(&sb);
	CHECK_INT(strlen(s), 4003);
	CHECK(sb.data == NULL);

	CHECK(strv_items(&sv)[0] == NULL);
	for (int i = 0; i < 20; i++)
		CHECK_INT(strv_addf(&sv, "K%d=%d", i, i), 0);
	CHECK_INT(strv_setenv(&sv, "K1=new"), 0);
	CHECK_INT(strv_setenv(&sv, "K=k"), 0);
	CHECK_INT(sv.n, 21);
	CHECK_STR(sv.v[1], "K1=new");
	CHECK_STR(sv.v[10], "K10=10");
	CHECK(sv.v[21] == NULL);
}

static void ids(void)
{
	char a[ID_LEN + 1], b[ID_LEN + 1], name[LIMIT_NAME + 1], hex[9];
	uint8_t raw[4];

	id_generate(a);
	id_generate(b);
	CHECK_INT(strlen(a), ID_LEN);
	CHECK(strcmp(a, b) != 0);
	hex_encode("\x00\xff\x10z", 4, hex);
	CHECK_STR(hex, "00ff107a");
	CHECK_INT(hex_decode("00FF107a", raw, 4), 0);
	CHECK(memcmp(raw, "\x00\xff\x10z", 4) == 0);
	CHECK_INT(hex_decode("0g", raw, 1), -EINVAL);
	CHECK_INT(hex_decode("000", raw, 1), -EINVAL);
	name_generate(name, sizeof(name));
	CHECK(name_valid(name));
	CHECK(name_valid("web-1.x_y"));
	CHECK(!name_valid("-x"));
	CHECK(!name_valid("a"));
	CHECK(!name_valid("a/b"));
	CHECK(!name_valid("../x"));
	CHECK(secret_equal("abc", "abc", 3));
	CHECK(!secret_equal("abc", "abd", 3));
}

static void files(void)
{
	char dir[] = "/tmp/test-base-XXXXXX", path[64];
	auto_close int dfd = -1, lock = -1;
	auto_free char *data = NULL;
	struct err err = ERR_INIT;
	size_t len;

	REQUIRE(mkdtemp(dir));
	dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(fs_replace_file(dfd, "f", "one", 3, 0600, true), 0);
	CHECK_INT(fs_replace_file(dfd, "f", "two!", 4, 0600, true), 0);
	CHECK_INT(fs_read_file(dfd, "f", 100, &data, &len), 0);
	CHECK_STR(data, "two!");
	CHECK_INT(fs_read_file(dfd, "f", 3, &data, &len), -EFBIG);
	CHECK_INT(fs_replace_file(dfd, "missing/f", "x", 1, 0600, false), -ENOENT);

	lock = fs_lock(dfd, "lock", true, false);
	CHECK(lock >= 0);
	CHECK_INT(fs_lock(dfd, "lock", true, false), -EWOULDBLOCK);

	snprintf(path, sizeof(path), "%s/a/b/c", dir);
	CHECK_INT(fs_make_dirs(path, 0755), 0);
	CHECK_INT(symlinkat("/etc", dfd, "a/out"), 0);
	CHECK_INT(fs_open_beneath(dfd, "a/out/passwd", O_RDONLY, 0), -EXDEV);
	CHECK_INT(fs_open_beneath(dfd, "../x", O_RDONLY, 0), -EXDEV);
	CHECK_INT(fs_remove_tree(dfd, "a"), 0);
	CHECK_INT(faccessat(dfd, "a", F_OK, 0), -1);
	CHECK(access("/etc/passwd", F_OK) == 0);
	CHECK_INT(fs_remove_tree(dfd, "a"), 0);

	snprintf(path, sizeof(path), "%s/p", dir);
	CHECK_INT(fs_private_dir(path, &err), 0);
	CHECK_INT(chmod(path, 0777), 0);
	CHECK_INT(fs_private_dir(path, &err), -EPERM);
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

static void sparse_copy(void)
{
	FILE *a = tmpfile(), *b = tmpfile();
	auto_fclose FILE *a_owner = a, *b_owner = b;
	char buf[4] = "";
	struct stat st;

	REQUIRE(a && b);
	CHECK_INT(ftruncate(fileno(a), 100 << 20), 0);
	CHECK_INT(pwrite(fileno(a), "xyz", 3, 50 << 20), 3);
	CHECK_INT(fd_copy_sparse(fileno(a), fileno(b)), 0);
	CHECK_INT(fstat(fileno(b), &st), 0);
	CHECK_INT(st.st_size, 100 << 20);
	CHECK(st.st_blocks < 4096);
	CHECK_INT(pread(fileno(b), buf, 3, 50 << 20), 3);
	CHECK_STR(buf, "xyz");
}

static int worker_ok(void *arg, struct err *err)
{
	return *(int *)arg == 7 ? 0 : err_set(err, EINVAL, "not seven");
}

static int worker_hangs(void *arg, struct err *err)
{
	pause();
	return 0;
}

static int worker_dies(void *arg, struct err *err)
{
	raise(SIGKILL);
	return 0;
}

static void processes(void)
{
	struct err err = ERR_INIT;
	auto_free char *out = NULL;
	char boot[37];
	uint64_t t1, t2;
	int seven = 7, eight = 8;

	CHECK_INT(proc_run((const char *const[]){ "echo", "hi", NULL }, 100, &out, &err), 0);
	CHECK_STR(out, "hi\n");
	CHECK_INT(proc_run((const char *const[]){ "no-such-program-here", NULL }, 100, NULL, &err),
		-ENOENT);
	CHECK_STR(err.msg, "cannot execute 'no-such-program-here': No such file or directory");
	CHECK_INT(proc_run((const char *const[]){ "sh", "-c", "echo one >&2; echo two >&2; exit 3",
				   NULL },
			  0, NULL, &err),
		-EIO);
	CHECK_STR(err.msg, "sh failed with status 3: two");

	CHECK_INT(proc_call(worker_ok, &seven, DEADLINE_NONE, &err), 0);
	CHECK_INT(proc_call(worker_ok, &eight, DEADLINE_NONE, &err), -EINVAL);
	CHECK_STR(err.msg, "not seven");
	CHECK_INT(proc_call(worker_hangs, NULL, deadline_in(20 * NSEC_PER_MSEC), &err), -ETIMEDOUT);
	CHECK_INT(proc_call(worker_dies, NULL, DEADLINE_NONE, &err), -EIO);

	CHECK_INT(proc_start_time(getpid(), &t1), 0);
	CHECK_INT(proc_start_time(1, &t2), 0);
	CHECK(t1 > t2);
	CHECK_INT(proc_boot_id(boot), 0);
	CHECK_INT(strlen(boot), 36);
}

static void spawn_fds(void)
{
	int pipefd[2], status;
	struct err err = ERR_INIT;
	char buf[16] = "";
	pid_t pid;

	REQUIRE(pipe2(pipefd, O_CLOEXEC) == 0);
	struct proc_opts opts = {
		.path = "sh",
		.argv = (char *const[]){ "sh", "-c", "ls /proc/self/fd | wc -l", NULL },
		.stdin_fd = -1,
		.stdout_fd = pipefd[1],
		.stderr_fd = -1,
	};
	CHECK_INT(proc_spawn(&opts, &pid, NULL, &err), 0);
	close(pipefd[1]);
	CHECK(fd_read_full(pipefd[0], buf, sizeof(buf) - 1) > 0);
	CHECK_STR(buf, "4\n"); /* stdio and ls's own */
	close(pipefd[0]);
	CHECK_INT(waitpid(pid, &status, 0), pid);
}

TEST_MAIN(TEST(errors), TEST(numbers), TEST(utf8), TEST(strings), TEST(ids), TEST(files),
	TEST(sparse_copy), TEST(processes), TEST(spawn_fds))
