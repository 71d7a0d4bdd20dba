/* SPDX-License-Identifier: Apache-2.0 */
#include "image/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "name this architecture's AUDIT_ARCH"
#endif

/* Memory, time, and reading and writing of what is open. All else fails with EPERM, which libraries
 * take for an answer. */
static const int allowed[] = {
	SYS_read,
	SYS_write,
	SYS_pread64,
	SYS_pwrite64,
	SYS_readv,
	SYS_writev,
	SYS_lseek,
	SYS_fallocate,
	SYS_ftruncate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_fstat,
	SYS_newfstatat,
	SYS_close,
	SYS_mmap,
	SYS_munmap,
	SYS_mremap,
	SYS_mprotect,
	SYS_madvise,
	SYS_brk,
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_getrandom,
	SYS_getpid,
	SYS_gettid,
	SYS_futex,
	SYS_rt_sigreturn,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_sigaltstack,
	SYS_tgkill,
	SYS_exit,
	SYS_exit_group,
	SYS_sched_yield,
	SYS_sendto, /* on the socket to the parent: there is no other, nor a way to make one */
#ifdef SYS_time
	SYS_time,
#endif
};

/* For who unpacks, too. */
static const int making[] = {
	SYS_openat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_symlinkat,
	SYS_linkat,
	SYS_fchown,
	SYS_fchownat,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_utimensat,
	SYS_fsetxattr,
	SYS_copy_file_range,
	SYS_umask,
	SYS_geteuid,
};

static int set_limits(uint64_t memory)
{
	struct rlimit space = { memory, memory }, none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
#if !defined(__SANITIZE_ADDRESS__)
	/* AddressSanitizer maps terabytes. */
	if (setrlimit(RLIMIT_AS, &space) < 0)
		return -errno;
#else
	(void)space;
#endif
	return 0;
}

/* A ruleset that handles every right on files and grants none but, below dir (-1: nowhere), what
 * unpacking takes. */
static int deny_files(int dir)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs =
						      (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
	struct landlock_path_beneath_attr beneath = { .parent_fd = dir,
		.allowed_access = LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE |
				  LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				  LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO };
	auto_close int fd = -1;

	/* Files get more names in other folders, which only ABI 2 can allow (landlock(7)). */
	if (dir >= 0) {
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
		beneath.allowed_access |= LANDLOCK_ACCESS_FS_REFER;
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return -errno;
	if (dir >= 0 &&
		syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
		return -errno;
	return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}

static size_t allow(struct sock_filter *code, size_t n, const int *calls, size_t n_calls)
{
	for (size_t i = 0; i < n_calls; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	return n;
}

static int filter_calls(bool unpacker)
{
	struct sock_filter code[2 * (ARRAY_SIZE(allowed) + ARRAY_SIZE(making)) + 8];
	struct sock_fprog prog = { .filter = code };
	size_t n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	n = allow(code, n, allowed, ARRAY_SIZE(allowed));
	if (unpacker)
		n = allow(code, n, making, ARRAY_SIZE(making));
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	prog.len = (unsigned short)n;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}

static int confine(uint64_t memory, int dir)
{
	int r = set_limits(memory);

	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = deny_files(dir);
	/* Who needs no folder has the filter as well, and can do with that alone. */
	if ((r == -ENOSYS || r == -EOPNOTSUPP) && dir < 0)
		r = 0;
	return r < 0 ? r : filter_calls(dir >= 0);
}

int confine_worker(uint64_t memory, struct err *err)
{
	int r = confine(memory, -1);

	return r < 0 ? err_errno(err, -r, "cannot confine the worker") : 0;
}

int confine_unpacker(uint64_t memory, int dir, struct err *err)
{
	int r = confine(memory, dir);

	return r < 0 ? err_errno(err, -r, "cannot confine the worker") : 0;
}
