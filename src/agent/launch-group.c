/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/launch-group.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/cgroups.h"
#include "base/cleanup.h"
#include "base/limits.h"

#define CPU_PERIOD_US 100000

int launch_group_make(const char *cgroups_path, struct err *err)
{
	char path[LIMIT_ID + 64];
	auto_close int dir = -1;

	snprintf(path, sizeof(path), CGROUP_ROOT "%s", cgroups_path);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make the cgroup '%s'", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, errno, "cannot open the cgroup '%s'", path);
	return take_fd(&dir);
}

static int put(int dir, const char *file, const char *fmt, ...) PRINTF(3, 4);
static int put(int dir, const char *file, const char *fmt, ...)
{
	auto_close int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	char text[128];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fd < 0 || write(fd, text, (size_t)n) < 0 ? -errno : 0;
}

/* Docker's shares (2 to 262144) to cgroup v2's weight (1 to 10000), as runtimes convert them. */
static uint64_t weight_of(uint64_t shares)
{
	shares = MIN(MAX(shares, 2), 262144);
	return 1 + (shares - 2) * 9999 / 262142;
}

int launch_group_limit(int dir, const API(Resources) * res)
{
	int r = 0;

	if (res->memory_bytes) {
		r = put(dir, "memory.max", "%llu", (unsigned long long)res->memory_bytes);
		if (r == 0 && res->memory_swap_bytes < 0)
			r = put(dir, "memory.swap.max", "max");
		else if (r == 0)
			r = put(dir, "memory.swap.max", "%llu",
				(unsigned long long)((uint64_t)res->memory_swap_bytes >
								     res->memory_bytes
							     ? (uint64_t)res->memory_swap_bytes -
								       res->memory_bytes
							     : 0));
		/* A kernel without swap has no such limit. */
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && res->cpu_milli)
		r = put(dir, "cpu.max", "%llu %d",
			(unsigned long long)res->cpu_milli * (CPU_PERIOD_US / 1000), CPU_PERIOD_US);
	if (r == 0 && res->cpu_shares)
		r = put(dir, "cpu.weight", "%llu", (unsigned long long)weight_of(res->cpu_shares));
	if (r == 0 && *res->cpuset)
		r = put(dir, "cpuset.cpus", "%s", res->cpuset);
	if (r == 0 && res->pids > 0)
		r = put(dir, "pids.max", "%lld", (long long)res->pids);
	if (r == 0 && res->pids < 0)
		r = put(dir, "pids.max", "max");
	return r;
}

#define INSN(c, d, s, o, i)                                                              \
	(struct bpf_insn)                                                                \
	{                                                                                \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (int)(i) \
	}
#define LOAD_FIELD(reg, field)                          \
	INSN(BPF_LDX | BPF_MEM | BPF_W, reg, BPF_REG_1, \
		offsetof(struct bpf_cgroup_dev_ctx, field), 0)
#define IF_EQUAL(reg, value, skip)     INSN(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, skip, value)
#define IF_NOT_EQUAL(reg, value, skip) INSN(BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, value)
#define RETURN(value)                                              \
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value), \
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/*
 * Docker's device rules: any node may be made; null, zero, full, random, urandom, tty, console,
 * ptmx, terminals and net/tun may be used, nothing else.
 */
int launch_group_load_devices(void)
{
	const struct bpf_insn program[] = {
		LOAD_FIELD(BPF_REG_2, access_type),
		LOAD_FIELD(BPF_REG_3, major),
		LOAD_FIELD(BPF_REG_4, minor),
		/* r5: the access, r2: the type */
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_5, BPF_REG_2, 0, 0),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_5, 0, 0, 16),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff),
		/* Skips lead to one of the two ends. */
		IF_EQUAL(BPF_REG_5, BPF_DEVCG_ACC_MKNOD, 16),
		IF_NOT_EQUAL(BPF_REG_2, BPF_DEVCG_DEV_CHAR, 13),
		IF_EQUAL(BPF_REG_3, 136, 14),
		IF_NOT_EQUAL(BPF_REG_3, 1, 5),
		IF_EQUAL(BPF_REG_4, 3, 12),
		IF_EQUAL(BPF_REG_4, 5, 11),
		IF_EQUAL(BPF_REG_4, 7, 10),
		IF_EQUAL(BPF_REG_4, 8, 9),
		IF_EQUAL(BPF_REG_4, 9, 8),
		IF_NOT_EQUAL(BPF_REG_3, 5, 3),
		IF_EQUAL(BPF_REG_4, 0, 6),
		IF_EQUAL(BPF_REG_4, 1, 5),
		IF_EQUAL(BPF_REG_4, 2, 4),
		IF_NOT_EQUAL(BPF_REG_3, 10, 1),
		IF_EQUAL(BPF_REG_4, 200, 2),
		RETURN(0),
		RETURN(1),
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)program,
		.insn_cnt = ARRAY_SIZE(program),
		.license = (uintptr_t) "" };
	int prog = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));

	return prog < 0 ? -errno : prog;
}

int launch_group_restrict_devices(int dir, int prog)
{
	union bpf_attr attach = { .target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)prog,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI };

	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0 ? -errno : 0;
}
