/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/detach.h"
#include "cli/envs.h"
#include "cli/output.h"
#include "cli/ports.h"
#include "cli/record.h"
#include "cli/settings.h"
#include "cli/when.h"
#include "test.h"

/* Settings */

static int load(const char *text, struct settings *s, struct err *err)
{
	char path[] = "/tmp/test-cli-XXXXXX";
	int fd = mkstemp(path), r;

	REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	*s = (struct settings){ 0 };
	*err = ERR_INIT;
	r = settings_load_file(s, path, err);
	unlink(path);
	/* The file's name is random: the message is compared from the colon behind it on. */
	if (r < 0)
		memmove(err->msg, err->msg + strlen(path), strlen(err->msg + strlen(path)) + 1);
	return r;
}

static void settings_are_read(void)
{
	struct settings s;
	struct err err;

	CHECK_INT(load("# all of them\nkernel: /boot/k\nagent_rootfs: \"/a b\"\naccel: "
		       "tcg\nmemory: 512m\ncpus: 1.5\nvmm: /q\n",
			  &s, &err),
		0);
	CHECK_STR(s.kernel, "/boot/k");
	CHECK_STR(s.agent_rootfs, "/a b");
	CHECK_STR(s.vmm, "/q");
	CHECK_INT(s.accel, VM_ACCEL_TCG);
	CHECK_INT(s.memory, 512 << 20);
	CHECK_INT(s.cpu_milli, 1500);
	settings_deinit(&s);
	CHECK_INT(load("", &s, &err), 0);
	CHECK_INT(load("# nothing\n", &s, &err), 0);
	CHECK_INT(load("---\nmemory: 1g\n...\n", &s, &err), 0);
	CHECK_INT(s.memory, GIB);
	settings_deinit(&s);
	CHECK_INT(settings_load_file(&s, "/nonexistent/micropod.yaml", &err), 0);
}

static void wrong_settings_name_the_line(void)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "memory: 1g\nkernl: /x\n",
			":2: unknown key 'kernl': the keys are builder, cloud_hypervisor, "
			"firecracker, accel, "
			"agent_rootfs, cpus, driver, enable_virtio_fs, "
			"enable_vsock, kernel, memory, template_limit, vmm" },
		{ "agent-rootfs: /x\n",
			":1: unknown key 'agent-rootfs': the keys are builder, cloud_hypervisor, "
			"firecracker, accel, "
			"agent_rootfs, cpus, driver, enable_virtio_fs, "
			"enable_vsock, kernel, memory, template_limit, vmm" },
		{ "\n\nmemory: lots\n", ":3: key 'memory' is 'lots': give bytes, or a number with "
					"k, m, g or t, such as 512m" },
		{ "accel: warp\n", ":1: key 'accel' is 'warp': give one of auto, tcg, kvm" },
		{ "cpus: -1\n", ":1: key 'cpus' is '-1': give a number above 0 with at most three "
				"decimals, such as 1.5" },
		{ "cpus: 1\ncpus: 2\n", ":2: key 'cpus' is given twice" },
		{ "kernel:\n", ":1: key 'kernel' has no value" },
		{ "kernel: \"a\\0b\"\n", ":1: key 'kernel' has no value" },
		{ "kernel: [a]\n", ":1: one word as the key's value expected" },
		{ "kernel:\n  a: b\n", ":2: one word as the key's value expected" },
		{ "[a]: b\n", ":1: a key expected" },
		{ "- a\n", ":1: lines of 'key: value' expected" },
		{ "just words\n", ":1: lines of 'key: value' expected" },
		{ "cpus: 1\n---\ncpus: 2\n", ":2: the end of the file expected" },
		{ "cpus: *x\n", ":1: one word as the key's value expected" },
	};
	struct settings s;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(load(cases[i].text, &s, &err), -EINVAL);
		CHECK_STR(err.msg, cases[i].message);
		settings_deinit(&s);
	}
	CHECK_INT(load("cpus: 1\n\t: [\n", &s, &err), -EINVAL);
	CHECK(strncmp(err.msg, ":2: not valid YAML: ", 20) == 0);
	settings_deinit(&s);
}

static void settings_file_has_a_limit(void)
{
	auto_free char *big = malloc(LIMIT_SETTINGS + 2);
	struct settings s;
	struct err err;

	memset(big, '#', LIMIT_SETTINGS + 1);
	big[LIMIT_SETTINGS + 1] = 0;
	CHECK_INT(load(big, &s, &err), -EFBIG);
	big[LIMIT_SETTINGS] = 0;
	CHECK_INT(load(big, &s, &err), 0);
}

static void environment_wins_over_files(void)
{
	char dir[] = "/tmp/test-cli-XXXXXX", path[64];
	struct settings s = { 0 };
	struct err err = ERR_INIT;

	REQUIRE(mkdtemp(dir));
	setenv("XDG_CONFIG_HOME", dir, 1);
	snprintf(path, sizeof(path), "%s/micropod", dir);
	CHECK_INT(fs_make_dirs(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/micropod/micropod.yaml", dir);
	CHECK_INT(fs_replace_file(AT_FDCWD, path, "memory: 1g\ncpus: 2\n", 19, 0600, false), 0);
	setenv("MICROPOD_MEMORY", "256m", 1);
	setenv("MICROPOD_AGENT_ROOTFS", "/r", 1);
	CHECK_INT(settings_load(&s, &err), 0);
	CHECK_INT(s.memory, 256 << 20);
	CHECK_INT(s.cpu_milli, 2000);
	CHECK_STR(s.agent_rootfs, "/r");
	setenv("MICROPOD_MEMORY", "much", 1);
	CHECK_INT(settings_load(&s, &err), -EINVAL);
	CHECK_STR(err.msg, "variable MICROPOD_MEMORY is 'much': give bytes, or a number with k, m, "
			   "g or t, such as 512m");
	settings_deinit(&s);
	fs_remove_tree(AT_FDCWD, dir);
}

/* Times */

static void points_in_time(void)
{
	static const struct {
		const char *word;
		int64_t ns;
	} cases[] = {
		{ "0", 0 }, { "1767225600", 1767225600000000000 },
		{ "1767225600.5", 1767225600500000000 },
		{ "2026-01-01T00:00:00Z", 1767225600000000000 },
		{ "2026-01-01T00:00:00.123456789Z", 1767225600123456789 },
		{ "2026-01-01T01:30:00+01:30", 1767225600000000000 },
		{ "2025-12-31 19:00:00-05:00", 1767225600000000000 },
		{ "2026-01-01T00:00Z", 1767225600000000000 },
		{ "2026-01-01Z", 1767225600000000000 },
		{ "2026-01-01", 1767225600000000000 }, /* local time, here UTC */
	};
	static const char *const bad[] = { "", "x", "-5m", "2026-13-01", "2026-01-01T",
		"2026-01-01T25:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zz",
		"2026-01-01T00:00:00+1:00", "1767225600.", "99999999999999999999", "5 minutes" };
	struct err err = ERR_INIT;
	int64_t ns;

	setenv("TZ", "UTC", 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(when_parse(cases[i].word, &ns, &err), 0);
		CHECK_INT(ns, cases[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(when_parse(bad[i], &ns, &err), -EINVAL);
	CHECK_INT(when_parse("1h30m", &ns, &err), 0);
	CHECK(llabs(clock_realtime() - 5400 * NSEC_PER_SEC - ns) < NSEC_PER_SEC);
}

static void durations_as_docker_words_them(void)
{
	static const struct {
		int64_t sec;
		const char *text;
	} cases[] = { { 0, "Less than a second" }, { 1, "1 second" }, { 59, "59 seconds" },
		{ 60, "About a minute" }, { 120, "2 minutes" }, { 3599, "59 minutes" },
		{ 3600, "About an hour" }, { 5400, "2 hours" }, { 47 * 3600, "47 hours" },
		{ 48 * 3600, "2 days" }, { 14 * 86400, "2 weeks" }, { 61 * 86400, "2 months" },
		{ 800 * 86400, "2 years" } };
	char buf[40];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_STR(output_duration(cases[i].sec * NSEC_PER_SEC, buf, sizeof(buf)),
			cases[i].text);
	CHECK_STR(output_time(1767225600123456789, buf, sizeof(buf)),
		"2026-01-01T00:00:00.123456789Z");
	CHECK_STR(output_size(0, buf, sizeof(buf)), "0B");
	CHECK_STR(output_size(999, buf, sizeof(buf)), "999B");
	CHECK_STR(output_size(4261550, buf, sizeof(buf)), "4.26MB");
	CHECK_STR(output_size(187000000, buf, sizeof(buf)), "187MB");
	CHECK_STR(output_binary_size(0, buf, sizeof(buf)), "0B");
	CHECK_STR(output_binary_size(1023, buf, sizeof(buf)), "1023B");
	CHECK_STR(output_binary_size(520192, buf, sizeof(buf)), "508KiB");
	CHECK_STR(output_binary_size(1 << 30, buf, sizeof(buf)), "1GiB");
}

static void commands_are_printable(void)
{
	auto_strv struct strv args = STRV_INIT;
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	strv_add(&args, "sh");
	strv_add(&args, "-c");
	strv_add(&args, "echo \"\xc3\xa9\xff\n\x1b[0m");
	output_command(&args, 0, &sb);
	CHECK_STR(sb.data, "\"sh -c echo \\\"\xc3\xa9\\xff\\n\\x1b[0m\"");
	strbuf_reset(&sb);
	output_command(&args, 10, &sb);
	CHECK_STR(sb.data, "\"sh -c ech\xe2\x80\xa6\"");
}

/* Records */

static struct strbuf printed[2];

static int keep(bool is_stderr, const void *data, size_t n, void *arg)
{
	strbuf_add(&printed[is_stderr], data, n);
	return 0;
}

static void print_all(
	const char *const *lines, size_t n, struct record_filter filter, uint64_t skip)
{
	struct record_printer p = { .filter = filter, .skip_lines = skip, .write = keep };

	strbuf_deinit(&printed[0]);
	strbuf_deinit(&printed[1]);
	strbuf_adds(&printed[0], "");
	strbuf_adds(&printed[1], "");
	for (size_t i = 0; i < n; i++) {
		struct record r;

		REQUIRE(record_parse(lines[i], strlen(lines[i]), &r) == 0);
		CHECK_INT(record_print(&p, &r), 0);
	}
}

static void records_are_put_together(void)
{
	static const char *const lines[] = {
		"2026-01-01T00:00:00.000000001Z stdout F one",
		"2026-01-01T00:00:01.000000000Z stdout P tw",
		"2026-01-01T00:00:01.500000000Z stderr F oops",
		"2026-01-01T00:00:02.000000000Z stdout F o",
		"2026-01-01T00:00:03.000000000Z stdout F ",
		"2026-01-01T00:00:04.000000000Z stdout P  F end",
	};
	struct record_filter none = { 0 };

	print_all(lines, ARRAY_SIZE(lines), none, 0);
	CHECK_STR(printed[0].data, "one\ntwo\n\n F end");
	CHECK_STR(printed[1].data, "oops\n");
	print_all(lines, ARRAY_SIZE(lines), (struct record_filter){ .timestamps = true }, 0);
	CHECK_STR(printed[0].data,
		"2026-01-01T00:00:00.000000001Z one\n2026-01-01T00:00:01.000000000Z two\n"
		"2026-01-01T00:00:03.000000000Z \n2026-01-01T00:00:04.000000000Z  F end");
	print_all(lines, ARRAY_SIZE(lines),
		(struct record_filter){
			.since_ns = 1767225601500000000, .until_ns = 1767225603000000000 },
		0);
	CHECK_STR(printed[0].data, "o\n\n");
	CHECK_STR(printed[1].data, "oops\n");
	/* Lines are counted where they begin: "two" is the second, "oops" the third. */
	print_all(lines, ARRAY_SIZE(lines), none, 2);
	CHECK_STR(printed[0].data, "\n F end");
	CHECK_STR(printed[1].data, "oops\n");
	print_all(lines, ARRAY_SIZE(lines), none, 3);
	CHECK_STR(printed[0].data, "\n F end");
	CHECK_STR(printed[1].data, "");
}

static void what_is_no_record(void)
{
	static const char *const bad[] = { "", " ", "x", "2026-01-01T00:00:00Z stdout F",
		"2026-01-01T00:00:00Z stdout X a", "2026-01-01T00:00:00Z stdin F a",
		"2026-01-01T00:00:00Z  F a", "soon stdout F a", "2026-01-01T00:00:00Z stdout FF a",
		"2026-01-01T00:00:00.00000000000000000000000000Z stdout F a" };
	struct record r;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(record_parse(bad[i], strlen(bad[i]), &r), -EINVAL);
	CHECK_INT(record_parse("2026-01-01T00:00:00Z stderr P \0\xff", 32, &r), 0);
	CHECK(r.is_stderr && r.partial && r.len == 2 && r.data[1] == '\xff');
}

/* Options of run */

static void ports_of_docker(void)
{
	static const struct {
		const char *spec;
		const char *ip;
		unsigned host, guest, n;
		bool udp;
	} cases[] = {
		{ "80", "", 0, 80, 1, false },
		{ "8080:80", "", 8080, 80, 1, false },
		{ "8080:80/tcp", "", 8080, 80, 1, false },
		{ "53:53/udp", "", 53, 53, 1, true },
		{ "127.0.0.1:8080:80", "127.0.0.1", 8080, 80, 1, false },
		{ "127.0.0.1::80", "127.0.0.1", 0, 80, 1, false },
		{ "[::1]:8080:80", "::1", 8080, 80, 1, false },
		{ "[::]::80/udp", "::", 0, 80, 1, true },
		{ "0:80", "", 0, 80, 1, false },
		{ ":80", "", 0, 80, 1, false },
		{ "8000-8002:80-82", "", 8000, 80, 3, false },
		{ "80-82", "", 0, 80, 3, false },
		{ "65535:65535", "", 65535, 65535, 1, false },
	};
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct port_list list = { 0 };

		CHECK_INT(ports_parse(cases[i].spec, &list, &err), 0);
		CHECK_INT(list.n, cases[i].n);
		if (list.n) {
			CHECK_STR(list.v[0].host_ip, cases[i].ip);
			CHECK_INT(list.v[0].host, cases[i].host);
			CHECK_INT(list.v[0].guest, cases[i].guest);
			CHECK_INT(list.v[0].udp, cases[i].udp);
			CHECK_INT(list.v[list.n - 1].guest, cases[i].guest + cases[i].n - 1);
		}
		free(list.v);
	}
}

static void wrong_ports(void)
{
	static const char *const bad[] = { "", "x", "0", "80:0", "65536", "8080:65536", "1:2:3:4",
		"80/sctp", "80/", "8080:", "a:80", "1.2.3:8080:80", "localhost:8080:80",
		"[1.2.3.4]:1:80", "[::1:8080:80", "[::1]80", "82-80", "80-", "-80", "8080:80:90",
		"8000-8001:80-82", "8000-8001:80", " 80", "80 ", "+80" };
	struct port_list list = { 0 };
	struct err err = ERR_INIT;
	char big[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_INT(ports_parse(bad[i], &list, &err), -EINVAL);
		CHECK(strstr(err.msg, "option '--publish' is '"));
	}
	memset(big, '1', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	CHECK_INT(ports_parse(big, &list, &err), -EINVAL);
	CHECK_INT(list.n, 0);
	CHECK_INT(ports_parse("1-256", &list, &err), 0);
	CHECK_INT(list.n, LIMIT_PORTS);
	CHECK_INT(ports_parse("300", &list, &err), -E2BIG);
	free(list.v);
}

static void variables(void)
{
	auto_strv struct strv files = STRV_INIT, options = STRV_INIT, env = STRV_INIT;
	char path[] = "/tmp/test-cli-XXXXXX";
	struct err err = ERR_INIT;
	int fd = mkstemp(path);
	static const char text[] =
		"# comment\n\n  A=1\nB=two words\r\nHAVE\nHAVENOT\nC=a=b\nD=\n\xff=\xfe";

	REQUIRE(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
	close(fd);
	setenv("HAVE", "it", 1);
	unsetenv("HAVENOT");
	strv_add(&files, path);
	strv_add(&options, "A=over");
	strv_add(&options, "HAVENOT");
	strv_add(&options, "E=");
	CHECK_INT(envs_build(&files, &options, &env, &err), 0);
	CHECK_INT(env.n, 8);
	CHECK_STR(env.v[0], "A=over");
	CHECK_STR(env.v[1], "B=two words");
	CHECK_STR(env.v[2], "HAVE=it");
	CHECK_STR(env.v[3], "C=a=b");
	CHECK_STR(env.v[4], "D=");
	CHECK_STR(env.v[5], "\xff=\xfe");
	CHECK_STR(env.v[6], "HAVENOT");
	CHECK_STR(env.v[7], "E=");
	unlink(path);
	CHECK_INT(envs_build(&files, &options, &env, &err), -ENOENT);
	CHECK(strstr(err.msg, "cannot read env file '/tmp/test-cli-"));
}

static void wrong_variables(void)
{
	static const char *const bad[] = { "=x", "A\nB C=1", "A\nB=1\n\t =2" };
	struct strv none = STRV_INIT;
	auto_strv struct strv files = STRV_INIT, env = STRV_INIT, options = STRV_INIT;
	char path[] = "/tmp/test-cli-XXXXXX";
	struct err err = ERR_INIT;

	close(mkstemp(path));
	strv_add(&files, path);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char where[64];

		CHECK_INT(fs_replace_file(AT_FDCWD, path, bad[i], strlen(bad[i]), 0600, false), 0);
		CHECK_INT(envs_build(&files, &none, &env, &err), -EINVAL);
		snprintf(where, sizeof(where), "%s:%zu: ", path, i + 1);
		CHECK(strncmp(err.msg, where, strlen(where)) == 0);
	}
	CHECK_INT(fs_replace_file(AT_FDCWD, path, "A=\0b", 4, 0600, false), 0);
	CHECK_INT(envs_build(&files, &none, &env, &err), -EINVAL);
	unlink(path);
	strv_add(&options, "=1");
	CHECK_INT(envs_build(&none, &options, &env, &err), -EINVAL);
	CHECK_STR(err.msg, "option '--env' is '=1': a variable has no name: give KEY=VALUE");
}

static void keys_of_detaching(void)
{
	struct detach_keys k;
	struct err err = ERR_INIT;
	char out[64];
	bool leave;
	size_t n;

	CHECK_INT(detach_keys_parse("ctrl-p,ctrl-q", &k, &err), 0);
	CHECK_INT(k.n, 2);
	CHECK_INT(k.keys[0], 0x10);
	CHECK_INT(k.keys[1], 0x11);
	CHECK_INT(detach_keys_parse("a,ctrl-@,ctrl-[,ctrl-_", &k, &err), 0);
	CHECK(k.keys[0] == 'a' && k.keys[1] == 0 && k.keys[2] == 27 && k.keys[3] == 31);
	CHECK_INT(detach_keys_parse("", &k, &err), 0);
	CHECK_INT(k.n, 0);
	n = detach_keys_filter(&k, "\x10\x11", 2, out, &leave);
	CHECK(n == 2 && !leave);
	for (const char *const *bad = (const char *const[]){ "ctrl-", "ctrl-1", "ab", ",", "a,",
		     ",a", "a,,b", "a,a,a,a,a,a,a,a,a", NULL };
		*bad; bad++)
		CHECK_INT(detach_keys_parse(*bad, &k, &err), -EINVAL);
	/* What only begins like the keys comes through, in order, also over several reads. */
	CHECK_INT(detach_keys_parse("a,a,b", &k, &err), 0);
	n = detach_keys_filter(&k, "xaaacaa", 7, out, &leave);
	CHECK(n == 5 && !leave && memcmp(out, "xaaac", 5) == 0);
	n = detach_keys_filter(&k, "a", 1, out, &leave);
	CHECK(n == 1 && !leave && out[0] == 'a');
	n = detach_keys_filter(&k, "bz", 2, out, &leave);
	CHECK(n == 0 && leave);
}

TEST_MAIN(TEST(keys_of_detaching), TEST(settings_are_read), TEST(wrong_settings_name_the_line),
	TEST(settings_file_has_a_limit), TEST(environment_wins_over_files), TEST(points_in_time),
	TEST(durations_as_docker_words_them), TEST(commands_are_printable),
	TEST(records_are_put_together), TEST(what_is_no_record), TEST(ports_of_docker),
	TEST(wrong_ports), TEST(variables), TEST(wrong_variables))
