/* SPDX-License-Identifier: Apache-2.0 */
/* Loads the default filter into a child and calls what it must refuse and what it must let through.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "oci/caps.h"
#include "oci/profile.h"
#include "oci/seccomp.h"
#include "test.h"

struct probe {
	const char *name;
	long nr;
	long args[6];
	int want; /* errno; 0: anything but EPERM from the filter, checked by a call that cannot
		     fail with EPERM by itself */
};

#define BAD ((long)-1)

static const struct probe refused[] = {
	{ "mount", SYS_mount, { BAD, BAD, BAD, 0, 0 }, EPERM },
	{ "umount2", SYS_umount2, { BAD, 0 }, EPERM },
	{ "keyctl", SYS_keyctl, { 99 }, EPERM },
	{ "add_key", SYS_add_key, { 0 }, EPERM },
	{ "request_key", SYS_request_key, { 0 }, EPERM },
	{ "unshare user", SYS_unshare, { CLONE_NEWUSER }, EPERM },
	{ "unshare nothing", SYS_unshare, { 0 }, EPERM },
	{ "setns", SYS_setns, { BAD, 0 }, EPERM },
	{ "clone newuser", SYS_clone, { CLONE_NEWUSER | SIGCHLD, 0 }, EPERM },
	{ "clone newnet", SYS_clone, { CLONE_NEWNET | SIGCHLD, 0 }, EPERM },
	{ "clone3", SYS_clone3, { 0, 0 }, ENOSYS },
	{ "bpf", SYS_bpf, { BAD }, EPERM },
	{ "perf_event_open", SYS_perf_event_open, { 0 }, EPERM },
	{ "kexec_load", SYS_kexec_load, { 0 }, EPERM },
	{ "init_module", SYS_init_module, { 0 }, EPERM },
	{ "reboot", SYS_reboot, { 0 }, EPERM },
	{ "swapon", SYS_swapon, { 0 }, EPERM },
	{ "userfaultfd", SYS_userfaultfd, { BAD }, EPERM },
	{ "open_by_handle_at", SYS_open_by_handle_at, { BAD }, EPERM },
	{ "io_uring_setup", SYS_io_uring_setup, { 0 }, EPERM },
	{ "pivot_root", SYS_pivot_root, { 0 }, EPERM },
	{ "ioperm", SYS_ioperm, { 0 }, EPERM },
	{ "settimeofday", SYS_settimeofday, { BAD, BAD }, EPERM },
	{ "vsock socket", SYS_socket, { AF_VSOCK, SOCK_STREAM, 0 }, EPERM },
	{ "personality odd", SYS_personality, { 0x1234 }, EPERM },
	{ "a call of the future", 5000, { 0 }, ENOSYS },
};

static const struct probe allowed[] = {
	{ "read", SYS_read, { BAD }, EBADF },
	{ "openat", SYS_openat, { BAD, BAD }, EFAULT },
	{ "clone thread flags", SYS_clone, { CLONE_SIGHAND }, EINVAL },
	{ "chroot", SYS_chroot, { BAD }, EFAULT },
	{ "ptrace", SYS_ptrace, { 9999, 0 }, ESRCH },
	{ "personality", SYS_personality, { 0xffffffff }, 0 },
	{ "socket", SYS_socket, { AF_UNIX, SOCK_STREAM, 0 }, 0 },
	{ "setgroups", SYS_setgroups, { 70000 }, EINVAL },
	{ "close_range", SYS_close_range, { 5, 4 }, EINVAL },
	{ "memfd_create", SYS_memfd_create, { BAD }, EFAULT },
	{ "seccomp", SYS_seccomp, { 99 }, EINVAL },
	{ "mknodat", SYS_mknodat, { BAD, BAD, S_IFIFO }, EFAULT },
	{ "pidfd_open", SYS_pidfd_open, { BAD }, EINVAL },
};

/* Exits with the number of the first probe that answered otherwise, plus one. */
static int run_probes(const struct probe *probes, size_t n)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
			oci_seccomp_load(oci_seccomp_default()) < 0)
			_exit(200);
		for (size_t i = 0; i < n; i++) {
			const long *a = probes[i].args;

			errno = 0;
			if (syscall(probes[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]) >= 0)
				errno = 0;
			if (errno != probes[i].want) {
				dprintf(1, "# %s: errno %d, not %d\n", probes[i].name, errno,
					probes[i].want);
				_exit((int)i + 1);
			}
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void refuses(void)
{
	CHECK_INT(run_probes(refused, ARRAY_SIZE(refused)), 0);
}

static void allows(void)
{
	CHECK_INT(run_probes(allowed, ARRAY_SIZE(allowed)), 0);
}

/* A tree of comparisons, not a list: how many instructions a call costs at most is bounded by
 * simulation. */
static unsigned steps(
	const struct sock_fprog *prog, uint32_t arch, uint32_t nr, uint32_t *ret_action)
{
	struct seccomp_data data = { .nr = (int)nr, .arch = arch };
	uint32_t acc = 0, word;
	unsigned n = 0;

	for (size_t pc = 0; pc < prog->len; pc++, n++) {
		const struct sock_filter *f = &prog->filter[pc];
		bool yes;

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&word, (char *)&data + f->k, sizeof(word));
			acc = word;
			continue;
		case BPF_RET | BPF_K:
			*ret_action = f->k;
			return n + 1;
		case BPF_ALU | BPF_AND | BPF_K:
			acc &= f->k;
			continue;
		case BPF_JMP | BPF_JA:
			pc += f->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = acc == f->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = acc > f->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = acc >= f->k;
			break;
		default:
			printf("# instruction 0x%x\n", f->code);
			*ret_action = 0;
			return UINT32_MAX;
		}
		pc += yes ? f->jt : f->jf;
	}
	return UINT32_MAX;
}

static void is_quick(void)
{
	const struct sock_fprog *prog = oci_seccomp_default();
	unsigned longest = 0, allowed_calls = 0;
	uint32_t action;

	for (uint32_t nr = 0; nr < 460; nr++) {
		unsigned n = steps(prog, AUDIT_ARCH_X86_64, nr, &action);

		longest = MAX(longest, n);
		allowed_calls += action == SECCOMP_RET_ALLOW;
	}
	printf("# %u instructions, at most %u a call, %u calls allowed whatever their arguments "
	       "are 0\n",
		prog->len, longest, allowed_calls);
	CHECK(longest < 40);
	CHECK(allowed_calls > 280 && allowed_calls < 330);
	/* Another architecture's numbers mean other calls. */
	steps(prog, AUDIT_ARCH_AARCH64, 0, &action);
	CHECK_INT(action, SECCOMP_RET_KILL_PROCESS);
	steps(prog, AUDIT_ARCH_X86_64, 0x40000000, &action); /* x32 */
	CHECK_INT(action, SECCOMP_RET_ERRNO | ENOSYS);
	steps(prog, AUDIT_ARCH_I386, 21, &action); /* mount */
	CHECK_INT(action, SECCOMP_RET_ERRNO | EPERM);
	steps(prog, AUDIT_ARCH_I386, 3, &action); /* read */
	CHECK_INT(action, SECCOMP_RET_ALLOW);
}

static void checks(void)
{
	static const struct sock_filter one = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog;
	struct err err = ERR_INIT;

	CHECK_INT(oci_seccomp_check(&one, sizeof(one), &prog, &err), 0);
	CHECK_INT(prog.len, 1);
	CHECK_INT(oci_seccomp_check(&one, 0, &prog, &err), -EINVAL);
	CHECK_INT(oci_seccomp_check(&one, 7, &prog, &err), -EINVAL);
	CHECK_INT(oci_seccomp_check(&one, sizeof(one) * (BPF_MAXINSNS + 1), &prog, &err), -EINVAL);
}

/* What a call is answered with by a filter that was compiled just now. */
static uint32_t answer(const char *profile, uint64_t caps, uint32_t nr)
{
	struct err err = ERR_INIT;
	struct sock_fprog prog;
	auto_free char *hex = NULL;
	auto_free uint8_t *data = NULL;
	uint32_t action = 0;
	size_t n;

	CHECK_INT(oci_profile_compile(profile, profile ? strlen(profile) : 0, caps, &hex, &err), 0);
	n = hex ? strlen(hex) / 2 : 0;
	data = malloc(n + 1);
	CHECK_INT(hex_decode(hex ? hex : "", data, n), 0);
	CHECK_INT(oci_seccomp_check(data, n, &prog, &err), 0);
	steps(&prog, AUDIT_ARCH_X86_64, nr, &action);
	return action;
}

#define REFUSED (SECCOMP_RET_ERRNO | EPERM)

/* The default one, made while running, is the one that was made while building; more capabilities
 * open what Docker opens for them. */
static void other_capabilities(void)
{
	const struct sock_fprog *prog = oci_seccomp_default();
	size_t len = prog->len * sizeof(*prog->filter);
	uint64_t admin = oci_caps_default | (uint64_t)1 << CAP_SYS_ADMIN;
	struct err err = ERR_INIT;
	auto_free char *hex = NULL, *built = malloc(2 * len + 1);

	CHECK(!oci_profile_differs(oci_caps_default | (uint64_t)1 << CAP_NET_ADMIN));
	CHECK(oci_profile_differs(admin));
	hex_encode(prog->filter, len, built);
	CHECK_INT(oci_profile_compile(NULL, 0, oci_caps_default, &hex, &err), 0);
	CHECK_STR(hex, built);
	CHECK_INT(answer(NULL, oci_caps_default, SYS_mount), REFUSED);
	CHECK_INT(answer(NULL, admin, SYS_mount), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(NULL, admin, SYS_bpf), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(NULL, admin, SYS_reboot), REFUSED);
}

static void profiles(void)
{
	static const char refusing[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
		"{\"names\":[\"read\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":["
		"\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"chmod\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":["
		"\"s390x\"]}},"
		"{\"names\":[\"chown\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{"
		"\"minKernel\":\"4.8\"},\"excludes\":{\"arches\":[\"arm\"]}},"
		"{\"names\":[\"fchmod\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{"
		"\"minKernel\":\"99.0\"}}]}";
	static const char allowing[] =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
		"\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":28}]}";
	uint64_t admin = (uint64_t)1 << CAP_SYS_ADMIN;

	CHECK_INT(answer(refusing, 0, SYS_read), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(refusing, 0, SYS_write), REFUSED);
	CHECK_INT(answer(refusing, 0, SYS_mount), REFUSED);
	CHECK_INT(answer(refusing, admin, SYS_mount), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(refusing, 0, SYS_chmod), REFUSED);
	CHECK_INT(answer(refusing, 0, SYS_chown), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(refusing, 0, SYS_fchmod), REFUSED);
	/* Newer than all that it names: as if the kernel did not have it. */
	CHECK_INT(answer(refusing, 0, 5000), SECCOMP_RET_ERRNO | ENOSYS);
	CHECK_INT(answer(allowing, 0, SYS_mkdir), SECCOMP_RET_ERRNO | ENOSPC);
	CHECK_INT(answer(allowing, 0, SYS_rmdir), SECCOMP_RET_ALLOW);
	CHECK_INT(answer(allowing, 0, 5000), SECCOMP_RET_ALLOW);
}

static void capabilities(void)
{
	static char *one[] = { (char *)"CAP_SYS_ADMIN" }, *chown[] = { (char *)"chown" },
		    *all[] = { (char *)"all" }, *wrong[] = { (char *)"FLY" };
	const struct strv none = STRV_INIT, admin = { one, 1 }, less = { chown, 1 },
			  every = { all, 1 }, bad = { wrong, 1 };
	uint64_t caps, big = (uint64_t)1 << CAP_SYS_ADMIN, small = (uint64_t)1 << CAP_CHOWN;
	const char *word = NULL;

	CHECK_INT(oci_caps_tweak(&admin, &less, &caps, &word), 0);
	CHECK(caps == ((oci_caps_default & ~small) | big));
	CHECK_INT(oci_caps_tweak(&every, &less, &caps, &word), 0);
	CHECK(caps == (OCI_CAPS_ALL & ~small));
	CHECK_INT(oci_caps_tweak(&admin, &every, &caps, &word), 0);
	CHECK(caps == big);
	CHECK_INT(oci_caps_tweak(&less, &less, &caps, &word), 0);
	CHECK(caps == oci_caps_default);
	CHECK_INT(oci_caps_tweak(&none, &bad, &caps, &word), -EINVAL);
	CHECK_STR(word, "FLY");
}

TEST_MAIN(TEST(refuses), TEST(allows), TEST(is_quick), TEST(checks), TEST(other_capabilities),
	TEST(profiles), TEST(capabilities))
