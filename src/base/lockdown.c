/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lockdown.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/*
 * The kernel's interface (landlock(7), include/uapi/linux/landlock.h), spelt out here because the
 * headers of the oldest distribution we build on end at ABI 2.
 */
enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,
	FS_ABI_1 = (1 << 13) - 1,
	NET_BIND_TCP = 1 << 0,
	NET_CONNECT_TCP = 1 << 1,
	SCOPE_ABSTRACT_UNIX = 1 << 0,
	SCOPE_SIGNAL = 1 << 1,
	RULE_PATH_BENEATH = 1,
	CREATE_VERSION = 1 << 0,
};

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

#define SYS_create_ruleset 444
#define SYS_add_rule	   445
#define SYS_restrict_self  446

int lockdown_landlock_abi(void)
{
	long abi = syscall(SYS_create_ruleset, NULL, 0, CREATE_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* Everything this ABI can forbid is forbidden, unless a rule allows it. */
static uint64_t handled_fs(int abi)
{
	uint64_t fs = FS_ABI_1;

	if (abi >= 2)
		fs |= FS_REFER;
	if (abi >= 3)
		fs |= FS_TRUNCATE;
	if (abi >= 5)
		fs |= FS_IOCTL_DEV;
	return fs;
}

static int add_rule(int ruleset, const struct lockdown_rule *rule, uint64_t handled)
{
	auto_close int fd = open(rule->path, O_PATH | O_CLOEXEC);
	struct path_beneath beneath = { .parent_fd = fd };
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (rule->access & LOCKDOWN_READ)
		beneath.allowed |= FS_READ_FILE | FS_READ_DIR;
	if (rule->access & LOCKDOWN_EXECUTE)
		beneath.allowed |= FS_EXECUTE;
	if (rule->access & LOCKDOWN_WRITE)
		beneath.allowed |= FS_WRITE_FILE | FS_TRUNCATE;
	if (rule->access & LOCKDOWN_MAKE)
		beneath.allowed |= FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG |
				   FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER;
	if (rule->access & LOCKDOWN_DEVICE)
		beneath.allowed |= FS_IOCTL_DEV;
	if (!S_ISDIR(st.st_mode)) /* the kernel refuses a rule on a file that names rights of
				     folders */
		beneath.allowed &=
			FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
	beneath.allowed &= handled;
	return syscall(SYS_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) < 0 ? -errno : 0;
}

int lockdown_landlock(const struct lockdown_rule *rules, unsigned n, bool tcp, struct err *err)
{
	int abi = lockdown_landlock_abi(), r;
	struct ruleset_attr attr = { .fs = handled_fs(abi) };
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	auto_close int ruleset = -1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "cannot set no_new_privs");
	if (!abi)
		return err_set(err, EOPNOTSUPP, "this kernel has no Landlock");
	if (abi >= 4 && !tcp)
		attr.net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (abi >= 6)
		attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	ruleset = (int)syscall(SYS_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(err, errno, "cannot make a Landlock ruleset");
	for (unsigned i = 0; i < n; i++)
		if ((r = add_rule(ruleset, &rules[i], attr.fs)) < 0)
			return err_errno(
				err, -r, "cannot make a Landlock rule for '%s'", rules[i].path);
	if (syscall(SYS_restrict_self, ruleset, 0) < 0)
		return err_errno(err, errno, "cannot enter the Landlock domain");
	return 0;
}

int lockdown_limit_privileges(uint64_t keep, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const uint32_t low = (uint32_t)keep, high = (uint32_t)(keep >> 32);
	struct __user_cap_data_struct kept[2] = { { low, low, 0 }, { high, high, 0 } };
	struct rlimit no_core = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return err_errno(err, errno, "cannot forbid core dumps");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "cannot set no_new_privs");
	/* EPERM: an ordinary user has nothing to bound, and no_new_privs keeps it so. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
			errno != EPERM)
			return err_errno(err, errno, "cannot drop capability %d", cap);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_errno(err, errno, "cannot clear the ambient capabilities");
	if (syscall(SYS_capset, &head, kept) < 0)
		return err_errno(err, errno, "cannot drop the capabilities");
	return 0;
}

int lockdown_drop_privileges(struct err *err)
{
	return lockdown_limit_privileges(0, err);
}
