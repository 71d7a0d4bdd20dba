/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "oci/caps.h"
#include "oci/execblob.h"
#include "oci/rlimit.h"
#include "oci/seccomp.h"
#include "oci/signal.h"
#include "oci/spec.h"
#include "oci/user.h"
#include "test.h"

static void caps(void)
{
	unsigned cap = 99;

	CHECK_STR(oci_cap_name(0), "CAP_CHOWN");
	CHECK_STR(oci_cap_name(40), "CAP_CHECKPOINT_RESTORE");
	CHECK(oci_cap_name(41) == NULL);
	for (unsigned i = 0; i < OCI_CAP_MAX; i++) {
		CHECK_INT(oci_cap_parse(oci_cap_name(i), &cap), 0);
		CHECK_INT(cap, i);
	}
	CHECK_INT(oci_cap_parse("net_bind_service", &cap), 0);
	CHECK_INT(cap, CAP_NET_BIND_SERVICE);
	CHECK_INT(oci_cap_parse("cap_Sys_Admin", &cap), 0);
	CHECK_INT(cap, CAP_SYS_ADMIN);
	CHECK_INT(oci_cap_parse("CAP_NOTHING", &cap), -EINVAL);
	CHECK_INT(oci_cap_parse("", &cap), -EINVAL);
	CHECK_INT(cap, CAP_SYS_ADMIN);
	CHECK_INT(oci_caps_default,
		0xa80425fb); /* as /proc/1/status shows it in a Docker container */
}

static void signals(void)
{
	static const struct {
		const char *word;
		int number;
	} good[] = { { "TERM", 15 }, { "SIGTERM", 15 }, { "sigterm", 15 }, { "15", 15 },
		{ "KILL", 9 }, { "RTMIN", 34 }, { "RTMIN+3", 37 }, { "SIGRTMIN+15", 49 },
		{ "SIGRTMAX", 64 }, { "rtmax-14", 50 }, { "64", 64 }, { "WINCH", 28 },
		{ "IOT", 6 } };
	static const char *const bad[] = { "", "SIG", "0", "65", "-9", "TERM ", "RTMIN+31",
		"RTMIN+", "RTMAX-31", "SIGSIGTERM", "9x" };
	char buf[16];
	int sig = -1;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CHECK_INT(oci_signal_parse(good[i].word, &sig), 0);
		CHECK_INT(sig, good[i].number);
	}
	sig = -1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(oci_signal_parse(bad[i], &sig), -EINVAL);
	CHECK_INT(sig, -1);
	for (int n = 1; n <= 64; n++) {
		if (n == 32 || n == 33)
			continue; /* nameless */
		CHECK_INT(oci_signal_parse(oci_signal_name(n, buf, sizeof(buf)), &sig), 0);
		CHECK_INT(sig, n);
	}
	CHECK_STR(oci_signal_name(6, buf, sizeof(buf)), "SIGABRT");
	CHECK_STR(oci_signal_name(37, buf, sizeof(buf)), "SIGRTMIN+3");
	CHECK_STR(oci_signal_name(99, buf, sizeof(buf)), "signal 99");
}

static void rlimits(void)
{
	struct oci_rlimit limit = { 0 };
	struct err err = ERR_INIT;
	int resource;

	CHECK_INT(oci_rlimit_parse("nofile=1024:2048", &limit, &err), 0);
	CHECK_INT(limit.resource, RLIMIT_NOFILE);
	CHECK_INT(limit.soft, 1024);
	CHECK_INT(limit.hard, 2048);
	CHECK_INT(oci_rlimit_parse("core=-1", &limit, &err), 0);
	CHECK(limit.soft == UINT64_MAX && limit.hard == UINT64_MAX);
	CHECK_INT(oci_rlimit_parse("nproc=unlimited", &limit, &err), 0);
	CHECK_INT(oci_rlimit_parse("nofile=2:1", &limit, &err), -EINVAL);
	CHECK_INT(oci_rlimit_parse("nofile", &limit, &err), -EINVAL);
	CHECK_INT(oci_rlimit_parse("nofile=", &limit, &err), -EINVAL);
	CHECK_INT(oci_rlimit_parse("nofile=1:2:3", &limit, &err), -EINVAL);
	CHECK_INT(oci_rlimit_parse("files=1", &limit, &err), -EINVAL);
	CHECK_INT(limit.resource, RLIMIT_NPROC);
	for (int i = 0; i < OCI_RLIMIT_MAX; i++) {
		CHECK_INT(oci_rlimit_parse_name(oci_rlimit_name(i), &resource), 0);
		CHECK_INT(resource, i);
	}
	CHECK(oci_rlimit_name(16) == NULL && oci_rlimit_name(-1) == NULL);
}

/* Users */

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
			     "bad line\n:x:5:5::/:\nbad:x:minus:5::/:\n"
			     "big:x:4294967296:5::/:\n"
			     "www:x:33:33:www:/var/www:/bin/sh\n"
			     "www:x:34:34:second:/second:/bin/sh\n"
			     "relhome:x:40:40::home:/bin/sh\n"
			     "1000:x:77:77::/seventyseven:\n"
			     "short:x:50:51";
static const char group[] =
	"root:x:0:\nadm:x:4:root,www\ntty:x:5:www\nwww:x:33:\nvideo:x:44:www,root\nnolist:x:60";

static struct oci_word word(const char *s)
{
	return (struct oci_word){ s, strlen(s) };
}

static int look(const char *spec, const char *more, struct oci_user *user, struct err *err)
{
	struct oci_user_files files = { passwd, group, sizeof(passwd) - 1, sizeof(group) - 1 };
	struct oci_word additional = more ? word(more) : (struct oci_word){ 0 };

	return oci_user_lookup(word(spec), &additional, more ? 1 : 0, &files, user, err);
}

static void users(void)
{
	struct oci_user u;
	struct err err = ERR_INIT;

	CHECK_INT(look("", NULL, &u, &err), 0);
	CHECK_INT(u.uid, 0);
	CHECK_STR(u.home, "/root");
	CHECK_INT(u.n_groups, 2); /* adm, video */
	CHECK_INT(look("www", NULL, &u, &err), 0);
	CHECK_INT(u.uid, 33);
	CHECK_INT(u.gid, 33);
	CHECK_STR(u.home, "/var/www");
	CHECK_INT(u.n_groups, 3);
	CHECK(u.groups[0] == 4 && u.groups[1] == 5 && u.groups[2] == 44);
	/* With a group no others hold. */
	CHECK_INT(look("www:tty", NULL, &u, &err), 0);
	CHECK_INT(u.gid, 5);
	CHECK_INT(u.n_groups, 0);
	CHECK_INT(look("33:1234", "video", &u, &err), 0);
	CHECK_INT(u.gid, 1234);
	CHECK_INT(u.n_groups, 1);
	CHECK_INT(u.groups[0], 44);
	/* A number is a number, also where a user bears it as a name. */
	CHECK_INT(look("1000", NULL, &u, &err), 0);
	CHECK_INT(u.uid, 1000);
	CHECK_INT(u.gid, 0);
	CHECK_STR(u.home, "/");
	CHECK_INT(look("relhome", NULL, &u, &err), 0);
	CHECK_STR(u.home, "/");
	CHECK_INT(look("short", NULL, &u, &err), 0);
	CHECK_INT(u.gid, 51);
	CHECK_INT(look(":nolist", NULL, &u, &err), 0);
	CHECK_INT(u.uid, 0);
	CHECK_INT(u.gid, 60);
	CHECK_INT(look("2147483647:2147483647", NULL, &u, &err), 0);
	CHECK_INT(u.uid, 2147483647);
}

static void users_refused(void)
{
	struct oci_user u = { .uid = 4711 };
	struct err err = ERR_INIT;
	struct oci_user_files none = { 0 },
			      huge = { .passwd = "", .passwd_len = LIMIT_PASSWD_FILE + 1 };

	CHECK_INT(look("nobody", NULL, &u, &err), -ENOENT);
	CHECK_STR(err.msg, "user 'nobody' is not in the container's /etc/passwd");
	CHECK_INT(look("bad", NULL, &u, &err), -ENOENT);
	CHECK_INT(look("big", NULL, &u, &err), -ENOENT);
	CHECK_INT(look("2147483648", NULL, &u, &err), -EINVAL);
	CHECK_INT(look("99999999999999999999999", NULL, &u, &err), -EINVAL);
	CHECK_INT(look("-1", NULL, &u, &err), -ENOENT);
	CHECK_INT(look("www:nogroup", NULL, &u, &err), -ENOENT);
	CHECK_INT(look("www", "nogroup", &u, &err), -ENOENT);
	CHECK_INT(oci_user_lookup(word("www"), NULL, 0, &none, &u, &err), -ENOENT);
	CHECK_INT(oci_user_lookup(word("www"), NULL, 0, &huge, &u, &err), -EFBIG);
	CHECK_INT(u.uid, 4711);
	CHECK_INT(oci_user_lookup(word("7:8"), NULL, 0, &none, &u, &err), 0);
	CHECK_INT(u.uid, 7);
	CHECK_INT(u.gid, 8);
}

static void users_many_groups(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct oci_user_files files = { passwd, NULL, sizeof(passwd) - 1, 0 };
	struct err err = ERR_INIT;
	struct oci_user u;

	for (int i = 0; i < OCI_GROUPS_MAX; i++)
		strbuf_addf(&sb, "g%d:x:%d:www\ndouble%d:x:%d:a,www\n", i, 1000 - i, i, 1000 - i);
	files.group = sb.data;
	files.group_len = sb.len;
	CHECK_INT(oci_user_lookup(word("www"), NULL, 0, &files, &u, &err), 0);
	CHECK_INT(u.n_groups, OCI_GROUPS_MAX);
	for (size_t i = 1; i < u.n_groups; i++)
		CHECK(u.groups[i - 1] < u.groups[i]);
	strbuf_adds(&sb, "one:x:1:www\n");
	files.group = sb.data;
	files.group_len = sb.len;
	CHECK_INT(oci_user_lookup(word("www"), NULL, 0, &files, &u, &err), -E2BIG);
}

/* Specs */

static const char *const sh[] = { "sh", "-c", "a \"b\" \\ \n\x01 \xc3\xa4", NULL };

static bool has(const struct oci_spec *spec, const char *text)
{
	if (strstr(spec->json, text))
		return true;
	printf("# %s\n", spec->json);
	return false;
}

static void spec_defaults(void)
{
	auto_oci_spec struct oci_spec spec = { 0 };
	struct oci_container c = { .args = sh,
		.rootfs = "/containers/a/rootfs",
		.hostname = "a",
		.caps = oci_caps_default,
		.cgroups_path = "/containers/a" };
	struct err err = ERR_INIT;

	CHECK_INT(oci_spec_make(&c, &spec, &err), 0);
	REQUIRE(spec.json);
	CHECK(!spec.blob);
	CHECK_INT(strlen(spec.json), spec.json_len);
	CHECK(has(&spec, "\"args\":[\"sh\",\"-c\",\"a \\\"b\\\" \\\\ \\u000a\\u0001 \xc3\xa4\"]"));
	CHECK(has(&spec, "\"cwd\":\"/\""));
	CHECK(has(&spec, "\"user\":{\"uid\":0,\"gid\":0,\"additionalGids\":[0]}"));
	CHECK(has(&spec, "\"effective\":[\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\","));
	CHECK(has(&spec, "\"oomScoreAdj\":0"));
	CHECK(has(&spec, "{\"type\":\"RLIMIT_NOFILE\",\"hard\":1048576,\"soft\":1048576}"));
	CHECK(has(&spec,
		"{\"destination\":\"/sys/fs/"
		"cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"ro\","));
	CHECK(has(&spec, "\"size=67108864\""));
	CHECK(has(&spec, "\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"uts\"},{\"type\":"
			 "\"pid\"},{\"type\":\"ipc\"},"
			 "{\"type\":\"cgroup\"}]"));
	CHECK(has(&spec, "\"maskedPaths\":[\"/proc/asound\""));
	CHECK(!strstr(spec.json, "seccomp"));
}

static void spec_everything(void)
{
	static const char *const env[] = { "A=b", "C=", NULL };
	static const char *const ro[] = { "rbind", "ro", NULL };
	static const struct oci_mount mounts[] = { { "/x", "/etc/resolv.conf", NULL, ro },
		{ "tmpfs", "/dev/shm/", "tmpfs", NULL } };
	static const struct oci_rlimit limits[] = { { RLIMIT_NOFILE, 10, UINT64_MAX } };
	static const struct oci_pair sysctls[] = { { "kernel.msgmax", "1" } };
	struct oci_user user = { .uid = 33, .gid = 34, .n_groups = 2, .groups = { 5, 34 } };
	auto_oci_spec struct oci_spec spec = { 0 };
	struct oci_container c = { .args = sh,
		.env = env,
		.cwd = "/tmp",
		.user = &user,
		.tty = true,
		.rows = 24,
		.columns = 80,
		.caps = 1,
		.rootfs = "/r",
		.read_only_root = true,
		.mounts = mounts,
		.n_mounts = 2,
		.rlimits = limits,
		.n_rlimits = 1,
		.own_network = true,
		.sysctls = sysctls,
		.n_sysctls = 1,
		.no_new_privileges = true,
		.seccomp = OCI_SECCOMP_BPF,
		.resources = { .memory = 1048576,
			.memory_swap = -1,
			.cpu_milli = 1500,
			.cpu_shares = 512,
			.pids = 100,
			.cpuset = "0-1" } };
	const struct sock_fprog *prog = oci_seccomp_default();
	struct err err = ERR_INIT;

	c.seccomp_bpf = prog->filter;
	c.seccomp_bpf_len = prog->len * sizeof(*prog->filter);
	CHECK_INT(oci_spec_make(&c, &spec, &err), 0);
	REQUIRE(spec.json);
	CHECK(has(&spec, "\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80}"));
	CHECK(has(&spec, "\"user\":{\"uid\":33,\"gid\":34,\"additionalGids\":[34,5]}"));
	CHECK(has(&spec, "\"env\":[\"A=b\",\"C=\"]"));
	CHECK(has(&spec, "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"]}"));
	CHECK(has(&spec, "{\"type\":\"RLIMIT_NOFILE\",\"hard\":18446744073709551615,\"soft\":10}"));
	CHECK(has(&spec, "\"path\":\"/r\",\"readonly\":true"));
	CHECK(has(&spec, "{\"destination\":\"/etc/resolv.conf\",\"type\":\"bind\",\"source\":\"/"
			 "x\",\"options\":[\"rbind\",\"ro\"]}"));
	CHECK(!strstr(
		spec.json, "67108864")); /* the given /dev/shm stands in the default's place */
	CHECK(has(&spec, "\"memory\":{\"limit\":1048576,\"swap\":-1}"));
	CHECK(has(&spec,
		"\"cpu\":{\"shares\":512,\"quota\":150000,\"period\":100000,\"cpus\":\"0-1\"}"));
	CHECK(has(&spec, "\"pids\":{\"limit\":100}"));
	CHECK(has(&spec, "\"sysctl\":{\"kernel.msgmax\":\"1\"}"));
	CHECK(has(&spec, "{\"type\":\"network\"}"));
	CHECK(has(&spec, "\"run.oci.seccomp_bpf_data\":\""));
}

static void spec_privileged(void)
{
	auto_oci_spec struct oci_spec spec = { 0 };
	struct oci_container c = {
		.args = sh, .rootfs = "/r", .privileged = true, .seccomp = OCI_SECCOMP_JSON
	};
	struct err err = ERR_INIT;

	CHECK_INT(oci_spec_make(&c, &spec, &err), 0);
	REQUIRE(spec.json);
	CHECK(!strstr(spec.json, "maskedPaths") && !strstr(spec.json, "seccomp") &&
		!strstr(spec.json, "\"ro\""));
	CHECK(has(&spec, "CAP_CHECKPOINT_RESTORE"));
	CHECK(has(&spec, "\"devices\":[{\"allow\":true,\"access\":\"rwm\"}]"));
}

static void spec_refused(void)
{
	static const char *const none[] = { NULL }, *const empty[] = { "", NULL },
				 *const bad_env[] = { "NOEQUALS", NULL };
	static const struct oci_mount relative = { "/x", "etc", NULL, NULL },
				      odd = { "/x\xff", "/x", NULL, NULL };
	struct oci_container good = { .args = sh, .rootfs = "/r" }, c;
	struct oci_spec spec = { .json_len = 4711 };
	struct err err = ERR_INIT;

#define REFUSED(change, want)                                       \
	do {                                                        \
		c = good;                                           \
		change;                                             \
		CHECK_INT(oci_spec_make(&c, &spec, &err), -(want)); \
		CHECK_INT(err.code, want);                          \
	} while (0)
	REFUSED(c.args = NULL, EINVAL);
	REFUSED(c.args = none, EINVAL);
	REFUSED(c.args = empty, EINVAL);
	REFUSED(c.env = bad_env, EINVAL);
	REFUSED(c.cwd = "tmp", EINVAL);
	REFUSED(c.rootfs = "r", EINVAL);
	REFUSED(c.rootfs = NULL, EINVAL);
	REFUSED(c.hostname = "\xff", EINVAL);
	REFUSED((c.mounts = &relative, c.n_mounts = 1), EINVAL);
	REFUSED((c.mounts = &odd, c.n_mounts = 1), EINVAL);
	REFUSED((c.seccomp = OCI_SECCOMP_BPF, c.seccomp_bpf = "1234567", c.seccomp_bpf_len = 7),
		EINVAL);
	CHECK_INT(spec.json_len, 4711);
}

static void spec_argv_limit(void)
{
	auto_free char *big = malloc(LIMIT_ARGV);
	const char *args[] = { "echo", big, NULL };
	struct oci_container c = { .args = args, .rootfs = "/r" };
	struct oci_spec spec = { 0 };
	struct err err = ERR_INIT;

	memset(big, 'x', LIMIT_ARGV - 6);
	big[LIMIT_ARGV - 6] = '\0';
	CHECK_INT(oci_spec_make(&c, &spec, &err), 0);
	oci_spec_deinit(&spec);
	big[LIMIT_ARGV - 6] = 'x';
	big[LIMIT_ARGV - 5] = '\0';
	CHECK_INT(oci_spec_make(&c, &spec, &err), -E2BIG);
}

static void spec_bytes(void)
{
	static const char *const args[] = { "printf", "\xff\xfe\n", "", NULL }, *const env[] = {
		"K=\x80", "B=", NULL
	};
	auto_oci_spec struct oci_spec spec = { 0 };
	struct oci_container c = { .args = args, .env = env, .cwd = "/a\xc3", .rootfs = "/r" };
	struct oci_exec exec = { 0 };
	struct err err = ERR_INIT;

	CHECK_INT(oci_spec_make(&c, &spec, &err), 0);
	REQUIRE(spec.blob);
	CHECK(has(&spec, "\"args\":[\"/proc/self/fd/4\",\"exec-blob\"],\"env\":[],\"cwd\":\"/\""));
	CHECK_INT(oci_execblob_decode(spec.blob, spec.blob_len, &exec), 0);
	CHECK_STR(exec.cwd, "/a\xc3");
	for (int i = 0; i < 3; i++)
		CHECK_STR(exec.args[i], args[i]);
	CHECK(!exec.args[3]);
	CHECK_STR(exec.env[0], env[0]);
	CHECK_STR(exec.env[1], env[1]);
	CHECK(!exec.env[2]);
	free(exec.args);
	free(exec.env);
	/* Every truncation, and every byte too many, is refused. */
	for (size_t n = 0; n < spec.blob_len; n++)
		CHECK_INT(oci_execblob_decode(spec.blob, n, &exec), -EBADMSG);
}

static void full_is(const char *in, const char *rootfs, const char *cgroup, const char *want)
{
	auto_oci_spec struct oci_spec spec = { 0 };
	struct err err = ERR_INIT;
	bool tty;

	CHECK_INT(oci_spec_merge_full(in, strlen(in), rootfs, cgroup, &spec, &tty, &err), 0);
	CHECK_STR(spec.json, want);
	CHECK_INT(err.code, 0);
}

static void full_merge(void)
{
	full_is("{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"old\",\"readonly\":true}}",
		"/new", NULL,
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/new\",\"readonly\":true}}");
	full_is("{\"process\":{\"args\":[\"a\"]},\"root\":{}}", "/new", "/c/1",
		"{\"linux\":{\"cgroupsPath\":\"/c/"
		"1\"},\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/new\"}}");
	full_is(" { \"linux\" : { } , \"root\" : { \"readonly\" : false } , "
		"\"process\":{\"args\":[\"a\",\"b\"]} } ",
		"/n\"", "/c",
		" { \"linux\" : {\"cgroupsPath\":\"/c\" } , \"root\" : {\"path\":\"/n\\\"\", "
		"\"readonly\" : false } , "
		"\"process\":{\"args\":[\"a\",\"b\"]} } ");
	full_is("{\"linux\":{\"cgroupsPath\":\"/"
		"x\",\"n\":18446744073709551615},\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":"
		"\"\\/r\"}}",
		NULL, "/c",
		"{\"linux\":{\"cgroupsPath\":\"/"
		"c\",\"n\":18446744073709551615},\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":"
		"\"\\/r\"}}");
}

static void full_refused(void)
{
	static const char *const bad[] = { "", "{", "[]", "{}", "{} x", "null",
		"{\"process\":{\"args\":[]},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{\"args\":[1]},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{},\"root\":{\"path\":\"/\"}}", "{\"process\":{\"args\":[\"a\"]}}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":\"/\"}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"rel\"}}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/\"},\"root\":{\"path\":\"/"
		"\"}}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/\",\"path\":\"/\"}}",
		"{\"process\":{\"args\":[\"a\"]},\"ro\\u006ft\":{\"path\":\"/"
		"\"},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{\"args\":[\"a\\u0000b\"]},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{\"args\":[\"a\xff\"]},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{\"args\":[\"a\"],\"terminal\":1},\"root\":{\"path\":\"/\"}}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/\"},\"x\":01}",
		"{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/\"},}" };
	auto_strbuf struct strbuf deep = STRBUF_INIT;
	struct oci_spec spec = { 0 };
	struct err err;
	bool tty;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err = ERR_INIT;
		CHECK_INT(
			oci_spec_merge_full(bad[i], strlen(bad[i]), NULL, NULL, &spec, &tty, &err),
			-EINVAL);
		CHECK(err.code == EINVAL && err.msg[0]);
	}
	strbuf_adds(&deep, "{\"process\":{\"args\":[\"a\"]},\"root\":{\"path\":\"/\"},\"x\":");
	for (int i = 0; i < 100000; i++)
		strbuf_addc(&deep, '[');
	CHECK_INT(oci_spec_merge_full(deep.data, deep.len, NULL, NULL, &spec, &tty, &err), -EINVAL);
	CHECK_INT(oci_spec_merge_full("{}", LIMIT_OCI_SPEC + 1, NULL, NULL, &spec, &tty, &err),
		-EFBIG);
	CHECK(!spec.json);
}

static void full_takes_our_own(void)
{
	auto_oci_spec struct oci_spec made = { 0 }, full = { 0 };
	struct oci_container c = { .args = sh,
		.rootfs = "/r",
		.caps = oci_caps_default,
		.seccomp = OCI_SECCOMP_JSON,
		.tty = true };
	struct err err = ERR_INIT;
	bool tty = false;

	CHECK_INT(oci_spec_make(&c, &made, &err), 0);
	REQUIRE(made.json);
	CHECK_INT(oci_spec_merge_full(made.json, made.json_len, NULL, NULL, &full, &tty, &err), 0);
	CHECK_STR(full.json, made.json);
	CHECK(tty);
}

static void environment(void)
{
	auto_strv struct strv env = STRV_INIT;

	CHECK_INT(strv_add(&env, "PATH=/bin"), 0);
	CHECK_INT(strv_add(&env, "X=1"), 0);
	CHECK_INT(oci_env_defaults(&env, "host", true, "/home/a"), 0);
	CHECK_INT(env.n, 5);
	CHECK_STR(strv_items(&env)[0], "PATH=/bin");
	CHECK_STR(strv_items(&env)[1], "HOSTNAME=host");
	CHECK_STR(strv_items(&env)[2], "TERM=xterm");
	CHECK_STR(strv_items(&env)[3], "X=1");
	CHECK_STR(strv_items(&env)[4], "HOME=/home/a");
}

TEST_MAIN(TEST(caps), TEST(signals), TEST(rlimits), TEST(users), TEST(users_refused),
	TEST(users_many_groups), TEST(spec_defaults), TEST(spec_everything), TEST(spec_privileged),
	TEST(spec_refused), TEST(spec_argv_limit), TEST(spec_bytes), TEST(full_merge),
	TEST(full_refused), TEST(full_takes_our_own), TEST(environment))
