/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "driver/accel.h"
#include "driver/console.h"
#include "driver/session.h"
#include "driver/trim.h"
#include "io/greeting.h"
#include "test.h"

static struct accel_verdict judge(struct accel_facts facts)
{
	struct accel_verdict v;

	snprintf(facts.user, sizeof(facts.user), "ann");
	accel_judge(&facts, &v);
	CHECK_INT(v.accel == VM_ACCEL_KVM, v.notice[0] == 0);
	CHECK(!strchr(v.notice, '\n'));
	return v;
}

#define NOTICE(part, ...) \
	CHECK(strstr(judge((struct accel_facts){ __VA_ARGS__ }).notice, part) != NULL)

static void each_cause_has_its_remedy(void)
{
	CHECK_INT(judge((struct accel_facts){ .cpu_flag = true }).accel, VM_ACCEL_KVM);
	NOTICE("sudo usermod -aG kvm ann", .open_error = EACCES, .cpu_flag = true);
	NOTICE("modprobe kvm_intel", .open_error = ENOENT, .cpu_flag = true);
	NOTICE("nested virtualisation in the hypervisor", .open_error = ENOENT);
	NOTICE("neither vmx nor svm", .cpu_flag = false);
	NOTICE("makes no VM (Device or resource busy)", .cpu_flag = true, .vm_error = EBUSY);
	NOTICE("no answer in 60 s): --accel kvm tries again", .cpu_flag = true,
		.failed_before = true, .why_before = "no answer in 60 s");
	NOTICE("isolation", .cpu_flag = false);
}

static void verdict_is_remembered(void)
{
	char dir[] = "/tmp/micropod-test-accel-XXXXXX", path[64];
	struct accel_verdict v;
	struct err err = ERR_INIT;

	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/accel.json", dir);
	CHECK_INT(accel_choose(dir, VM_ACCEL_KVM, &v, &err), 0);
	CHECK_INT(v.accel, VM_ACCEL_KVM);
	CHECK_STR(v.notice, "");
	CHECK_INT(accel_record(dir, false, "no answer", &err), 0);
	CHECK_INT(accel_choose(dir, VM_ACCEL_AUTO, &v, &err), 0);
	CHECK_INT(v.accel, VM_ACCEL_TCG); /* with or without /dev/kvm here */
	CHECK(v.notice[0]);
	/* Another boot's verdict and a damaged file say nothing, and are no error. */
	CHECK_INT(fs_replace_file(AT_FDCWD, path, "{", 1, 0600, false), 0);
	CHECK_INT(accel_choose(dir, VM_ACCEL_AUTO, &v, &err), 0);
	CHECK(!strstr(v.notice, "no answer"));
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

static void accel_words(void)
{
	enum vm_accel accel = VM_ACCEL_MAX;

	CHECK_INT(accel_parse("kvm", &accel), 0);
	CHECK_INT(accel, VM_ACCEL_KVM);
	CHECK_INT(accel_parse("xen", &accel), -EINVAL);
	CHECK_STR(accel_name(VM_ACCEL_TCG), "tcg");
}

static void tsc_rate_is_steady(void)
{
	uint64_t a = accel_tsc_khz(), b = accel_tsc_khz();

	if (!a)
		SKIP("this CPU has no constant TSC");
	CHECK(a > 100000 && a < 10000000);
	CHECK((a > b ? a - b : b - a) * 1000 < a);
}

static void panic_is_found(void)
{
	static const char text[] = "boot\r\n[    1.0] Kernel panic - not syncing: Attempted to "
				   "kill init! exitcode=0x00000900\r\n"
				   "[    1.1] Kernel panic - not syncing: again\r\n";
	static struct console c;

	memset(&c, 0, sizeof(c));
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		console_feed(&c, text + i, 1);
	CHECK_STR(c.panic, "Attempted to kill init! exitcode=0x00000900");
	memset(&c, 0, sizeof(c));
	console_feed(&c, "all is well\n", 12);
	CHECK_STR(c.panic, "");
}

static void tail_is_bounded_and_clean(void)
{
	static struct console c;
	auto_strbuf struct strbuf out = STRBUF_INIT;
	char line[64];

	memset(&c, 0, sizeof(c));
	for (int i = 0; i < 10000; i++)
		console_feed(
			&c, line, (size_t)snprintf(line, sizeof(line), "line %d\033[2J\r\n", i));
	console_tail(&c, 2, &out);
	CHECK_STR(out.data, "line 9998?[2J\nline 9999?[2J\n");
	strbuf_reset(&out);
	console_tail(&c, 1000000, &out);
	CHECK(out.len <= LIMIT_CONSOLE_TAIL);
	strbuf_reset(&out);
	memset(&c, 0, sizeof(c));
	console_feed(&c, "a\nb", 3);
	console_tail(&c, 1, &out);
	CHECK_STR(out.data, "b");
	strbuf_reset(&out);
	console_tail(&c, 5, &out);
	CHECK_STR(out.data, "a\nb");
}

struct joined {
	struct io_stream *stream;
	int calls, code;
};

static void on_joined(struct io_stream *stream, const struct err *err, void *arg)
{
	struct joined *j = arg;

	j->calls++;
	j->stream = stream;
	j->code = err ? err->code : 0;
}

/* The agent's end of a socketpair, greeting included; noise comes before the echo and tail right
 * behind it. */
static void answer(int fd, const char *noise, const char *tail, size_t *ret_zeros)
{
	uint8_t byte;
	struct greeting g;
	bool done = false;

	*ret_zeros = 0;
	greeting_answer(&g);
	while (!done && recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
		*ret_zeros += byte == 0;
		greeting_feed(&g, &byte, 1, &done);
	}
	CHECK(done);
	CHECK_INT(fd_write_full(fd, noise, strlen(noise)), 0);
	CHECK_INT(fd_write_full(fd, g.frame, GREETING_LEN), 0);
	CHECK_INT(fd_write_full(fd, tail, strlen(tail)), 0);
}

static void greeting_gives_a_clean_stream(void)
{
	for (int flush = 0; flush < 2; flush++) {
		struct joined j = { 0 };
		struct session *session;
		struct loop *loop;
		char buf[64] = "";
		size_t zeros;
		int fds[2];

		REQUIRE(loop_new(&loop) == 0 && fd_socketpair(fds) == 0);
		CHECK_INT(session_greet(loop, fds[0], flush, deadline_in(5 * NSEC_PER_SEC),
				  on_joined, &j, &session),
			0);
		for (int i = 0; i < 5; i++)
			CHECK_INT(loop_once(loop, clock_monotonic()), 0);
		answer(fds[1], "end of an old session", "first of the new", &zeros);
		CHECK_INT(zeros, flush ? GREETING_FLUSH + 1 : 1);
		while (!j.calls)
			CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
		CHECK_INT(j.calls, 1);
		REQUIRE(j.stream);
		CHECK_INT(io_stream_read(j.stream, buf, sizeof(buf) - 1), 16);
		CHECK_STR(buf, "first of the new");
		io_stream_free(j.stream);
		close(fds[1]);
		loop_free(loop);
	}
}

static void silence_meets_its_deadline(void)
{
	struct joined j = { 0 };
	struct session *session;
	struct loop *loop;
	int fds[2];

	REQUIRE(loop_new(&loop) == 0 && fd_socketpair(fds) == 0);
	CHECK_INT(session_greet(loop, fds[0], true, deadline_in(20 * NSEC_PER_MSEC), on_joined, &j,
			  &session),
		0);
	while (!j.calls) {
		CHECK_INT(fd_write_full(fds[1], "noise without end ", 18), 0);
		CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_MSEC)), 0);
	}
	CHECK_INT(j.code, ETIMEDOUT);
	close(fds[1]);
	loop_free(loop);
}

static void closed_port_is_an_error(void)
{
	struct joined j = { 0 };
	struct session *session;
	struct loop *loop;
	int fds[2];

	REQUIRE(loop_new(&loop) == 0 && fd_socketpair(fds) == 0);
	CHECK_INT(session_greet(loop, fds[0], false, DEADLINE_NONE, on_joined, &j, &session), 0);
	close(fds[1]);
	while (!j.calls)
		CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	CHECK(j.code == EPIPE || j.code == ECONNRESET);
	loop_free(loop);
}

static bool has_range(const struct trim_order *o, const void *start, size_t len)
{
	for (uint32_t i = 0; i < o->n; i++)
		if (o->ranges[i].start == (uintptr_t)start && o->ranges[i].len == len)
			return true;
	return false;
}

static void translated_code_is_found_and_nothing_else(void)
{
	const size_t size = 1 * MIB;
	const int all = PROT_READ | PROT_WRITE | PROT_EXEC, mine = MAP_PRIVATE | MAP_ANONYMOUS;
	struct trim_order o;
	char *code, *apart, *data, *small;

	/* A guard page keeps the second from being one with the first, as QEMU has it. */
	code = mmap(NULL, 3 * size, PROT_NONE, mine, -1, 0);
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, mine, -1, 0);
	small = mmap(NULL, 64 * KIB, all, mine, -1, 0);
	REQUIRE(code != MAP_FAILED && data != MAP_FAILED && small != MAP_FAILED);
	apart = code + 2 * size;
	REQUIRE(mprotect(code, size, all) == 0 && mprotect(apart, size, all) == 0);
	CHECK_INT(trim_ranges(getpid(), &o), 0);
	CHECK_INT(o.n, 2);
	/* The first has what the code is entered by at its begin. */
	CHECK(has_range(&o, code + 64 * KIB, size - 64 * KIB));
	CHECK(has_range(&o, apart, size));
	munmap(code, 3 * size);
	munmap(data, size);
	munmap(small, 64 * KIB);
	CHECK_INT(trim_ranges(getpid(), &o), 0);
	CHECK_INT(o.n, 0);
	CHECK(trim_ranges(0x7ffffffe, &o) < 0);
}

static void plugin_that_is_none_does_not_load(void)
{
	char dir[] = "/tmp/micropod-test-trim-XXXXXX", path[64];
	auto_free char *text = NULL;

	REQUIRE(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/trim.json", dir);
	/* Ends with 1 whatever it is told; and one that succeeds is believed. */
	CHECK(!trim_loads(dir, "/bin/false", "/nowhere/trim.so"));
	CHECK_INT(fs_read_file(AT_FDCWD, path, 4096, &text, NULL), 0);
	CHECK(text && strstr(text, "/bin/false") && strstr(text, "false"));
	CHECK(trim_loads(dir, "/bin/true", "/nowhere/trim.so"));
	/* Remembered: the verdict on the pair, not on its last part. */
	CHECK_INT(fs_replace_file(AT_FDCWD, path, "{", 1, 0600, false), 0);
	CHECK(trim_loads(dir, "/bin/true", "/nowhere/trim.so"));
	CHECK(!trim_loads(NULL, "/bin/false", "/nowhere/trim.so"));
	CHECK(!trim_loads(NULL, "/nowhere/qemu", "/nowhere/trim.so"));
	unlink(path);
	rmdir(dir);
}

TEST_MAIN(TEST(translated_code_is_found_and_nothing_else), TEST(plugin_that_is_none_does_not_load),
	TEST(each_cause_has_its_remedy), TEST(verdict_is_remembered), TEST(accel_words),
	TEST(tsc_rate_is_steady), TEST(panic_is_found), TEST(tail_is_bounded_and_clean),
	TEST(greeting_gives_a_clean_stream), TEST(silence_meets_its_deadline),
	TEST(closed_port_is_an_error))
