/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the child is born in its namespaces (clone(2)), as their process 1, so no helper
 * process stands between it and us: its pid is ours to wait for, and the parent-death signal
 * reaches it. There it
 *  1. maps one user and group, its own, to CONFINE_ID, which gives no right to anything and loses
 * all capabilities at execve(2); one that serves files to 0 instead, with rights over its own
 * files;
 *  2. takes a detached copy of every mount it needs (open_tree(2)), while the host's tree is still
 * in view;
 *  3. covers some folder with an empty tmpfs, attaches the copies there, makes it the root and
 * drops the old one: what covers what on the host cannot matter, because everything needed is in
 * hand by then;
 *  4. moves descriptors to their numbers, drops capabilities and enters a Landlock domain that
 * allows no more than the binds; the domain still stands should the mount namespace be broken.
 */
#include "driver/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/lockdown.h"
#include "base/proc.h"
#include "driver/ramguard.h"

#define CONFINE_ID 1000
#define COVERED	   "/usr"    /* any folder that is on every host */
#define LIFTED_FD  (64 + 64) /* above all numbers given out, and above proc_spawn's own */

#define REMEDY                                                                                    \
	"this host forbids user namespaces: allow them (sysctl "                                  \
	"kernel.unprivileged_userns_clone=1, "                                                    \
	"user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0; in a " \
	"container: its "                                                                         \
	"seccomp profile)"

struct child {
	const struct confine_spec *spec;
	uid_t uid;
	gid_t gid;
	bool own_users; /* it is born in a user namespace */
	int trees[CONFINE_BINDS_MAX];
};

int confine_bind(struct confine_spec *spec, const char *source, const char *target, unsigned flags)
{
	if (spec->n_binds >= CONFINE_BINDS_MAX)
		return -ENOSPC;
	spec->binds[spec->n_binds++] = (struct confine_bind){ source, target, flags };
	return 0;
}

int confine_bind_system(struct confine_spec *spec)
{
	static const char *const libraries[] = { "/lib", "/lib64", "/usr/lib", "/usr/lib64",
		"/etc/ld.so.cache" };
	static const char *const devices[] = { "/dev/null", "/dev/urandom" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(libraries) && r == 0; i++)
		r = confine_bind(
			spec, libraries[i], libraries[i], CONFINE_OPTIONAL | CONFINE_EXECUTE);
	for (size_t i = 0; i < ARRAY_SIZE(devices) && r == 0; i++)
		r = confine_bind(spec, devices[i], devices[i], CONFINE_DEVICE);
	return r;
}

static int write_proc(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
}

/* What it takes to serve files, and to give up the rest (virtiofsd's own list). */
#define FILE_RIGHTS                                                                               \
	(1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER | 1ULL << CAP_FSETID | \
		1ULL << CAP_SETGID | 1ULL << CAP_SETUID | 1ULL << CAP_SETPCAP |                   \
		1ULL << CAP_SYS_CHROOT | 1ULL << CAP_SETFCAP)

/* Root itself needs no namespace to have rights over files, and in one it would have them over its
 * own alone. Root in a container may lack what making the others takes. */
static bool has_own_users(const struct confine_spec *spec)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	return !spec->serves_files || geteuid() != 0 || syscall(SYS_capget, &head, data) < 0 ||
	       !(data[0].effective >> CAP_SYS_ADMIN & 1);
}

static int map_ids(const struct child *c, struct err *err)
{
	int inside = c->spec->serves_files ? 0 : CONFINE_ID;
	char uid[64], gid[64];
	int r;

	snprintf(uid, sizeof(uid), "%d %u 1\n", inside, (unsigned)c->uid);
	snprintf(gid, sizeof(gid), "%d %u 1\n", inside, (unsigned)c->gid);
	r = write_proc("/proc/self/setgroups", "deny");
	if (r == 0)
		r = write_proc("/proc/self/gid_map", gid);
	if (r == 0)
		r = write_proc("/proc/self/uid_map", uid);
	return r < 0 ? err_errno(err, -r, "cannot map the user in the new namespace (%s)", REMEDY)
		     : 0;
}

/*
 * No namespaces below ours: in a new one it would have every capability again. The limit is that of
 * our own user namespace. Where /proc/sys is read-only (in a container) it stays, and Landlock
 * forbids the mounts that it would be for.
 */
static int forbid_user_namespaces(struct err *err)
{
	int r = write_proc("/proc/sys/user/max_user_namespaces", "0");

	if (r == 0 || r == -EROFS || r == -ENOENT)
		return 0;
	return err_errno(err, -r, "cannot forbid further user namespaces");
}

static int take_tree(const struct confine_bind *b)
{
	auto_close int fd = (int)syscall(SYS_open_tree, AT_FDCWD, b->source,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID };

	if (fd < 0)
		return -errno;
	if (!(b->flags & CONFINE_DEVICE))
		attr.attr_set |= MOUNT_ATTR_NODEV;
	if (!(b->flags & CONFINE_EXECUTE))
		attr.attr_set |= MOUNT_ATTR_NOEXEC;
	if (!(b->flags & (CONFINE_WRITE | CONFINE_DEVICE)))
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) <
		0)
		return -errno;
	return take_fd(&fd);
}

static int take_trees(struct child *c, struct err *err)
{
	for (unsigned i = 0; i < c->spec->n_binds; i++) {
		const struct confine_bind *b = &c->spec->binds[i];
		/* Who serves files tells of each what may not be written. */
		bool writes = b->flags & CONFINE_WRITE && !(b->flags & CONFINE_MAKE);

		c->trees[i] =
			access(b->source, R_OK | (writes ? W_OK : 0)) < 0 ? -errno : take_tree(b);
		/* Not even root's helper has root's right to pass by the permissions of other
		 * users' files. */
		if (c->trees[i] == -EACCES)
			return err_set(err, EACCES,
				"user %u may not use '%s': change its owner or mode, or that of a "
				"folder above",
				(unsigned)c->uid, b->source);
		if (c->trees[i] < 0 && !(c->trees[i] == -ENOENT && (b->flags & CONFINE_OPTIONAL)))
			return err_errno(err, -c->trees[i], "cannot bind '%s' into the confinement",
				b->source);
	}
	return 0;
}

/* Makes the folders above path, which is relative to root. */
static int make_parents(int root, const char *path)
{
	char part[256];

	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		if ((size_t)(p - path) >= sizeof(part))
			return -ENAMETOOLONG;
		memcpy(part, path, (size_t)(p - path));
		part[p - path] = 0;
		if (mkdirat(root, part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int attach(int root, int tree, const char *target)
{
	const char *path = target + 1;
	struct stat st;
	int r = make_parents(root, path);

	if (r < 0)
		return r;
	if (fstat(tree, &st) < 0)
		return -errno;
	if (faccessat(root, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		/* In a folder that was bound before, such as a program below /usr/lib. */
	} else if (S_ISDIR(st.st_mode)) {
		if (mkdirat(root, path, 0755) < 0 && errno != EEXIST)
			return -errno;
	} else {
		auto_close int file =
			openat(root, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

		if (file < 0)
			return -errno;
	}
	return syscall(SYS_move_mount, tree, "", root, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno
											  : 0;
}

static int change_root(int root)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
						    MOUNT_ATTR_NODEV };

	if (syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0)
		return -errno;
	if (fchdir(root) < 0)
		return -errno;
	/* pivot_root(2): with the same folder twice the old root lies on top of the new one, ready
	 * to be dropped. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

static int build_root(struct child *c, struct err *err)
{
	auto_close int root = -1;
	int r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "cannot leave the host's mounts (%s)", REMEDY);
	r = take_trees(c, err);
	if (r < 0)
		return r;
	if (mount("micropod", COVERED, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0)
		return err_errno(err, errno, "cannot mount an empty root (%s)", REMEDY);
	root = open(COVERED, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(err, errno, "cannot open the empty root");
	for (unsigned i = 0; i < c->spec->n_binds; i++) {
		if (c->trees[i] < 0)
			continue;
		r = attach(root, c->trees[i], c->spec->binds[i].target);
		if (r < 0)
			return err_errno(err, -r, "cannot attach '%s' in the confinement",
				c->spec->binds[i].target);
		c->trees[i] = safe_close(c->trees[i]);
	}
	r = change_root(root);
	return r < 0 ? err_errno(err, -r, "cannot change the root") : 0;
}

static int enter_landlock(const struct confine_spec *spec, struct err *err)
{
	struct lockdown_rule rules[CONFINE_BINDS_MAX];
	int r;

	for (unsigned i = 0; i < spec->n_binds; i++) {
		unsigned flags = spec->binds[i].flags;

		rules[i] = (struct lockdown_rule){ spec->binds[i].target, LOCKDOWN_READ };
		if (flags & CONFINE_EXECUTE)
			rules[i].access |= LOCKDOWN_EXECUTE;
		if (flags & (CONFINE_WRITE | CONFINE_DEVICE))
			rules[i].access |= LOCKDOWN_WRITE;
		if (flags & CONFINE_DEVICE)
			rules[i].access |= LOCKDOWN_DEVICE;
		if (flags & CONFINE_MAKE)
			rules[i].access |= LOCKDOWN_MAKE;
	}
	r = lockdown_landlock(rules, spec->n_binds, spec->host_network, err);
	return r == -EOPNOTSUPP ? 0 : r;
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

/*
 * A user namespace of an ordinary user's has setgroups(2) denied for good (user_namespaces(7)), and
 * who serves files gives up the groups first and ends if that fails. They are the user's own, so
 * what is kept is no more than the user has: it is told that it succeeded.
 */
static int keep_groups(struct err *err)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setgroups, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ARRAY_SIZE(filter), filter };

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0
		       ? err_errno(err, errno, "cannot keep the user's groups (seccomp)")
		       : 0;
}

/* All out of the way first: a number wanted for one may be held by another. */
static int place_fds(const struct confine_spec *spec, struct err *err)
{
	int lifted[CONFINE_FDS_MAX];

	for (unsigned i = 0; i < spec->n_fds; i++)
		if ((lifted[i] = fcntl(spec->fds[i].from, F_DUPFD_CLOEXEC, LIFTED_FD)) < 0)
			return err_errno(
				err, errno, "cannot pass descriptor %d on", spec->fds[i].from);
	for (unsigned i = 0; i < spec->n_fds; i++)
		if (dup2(lifted[i], spec->fds[i].to) < 0)
			return err_errno(
				err, errno, "cannot pass descriptor %d on", spec->fds[i].from);
	return 0;
}

static int in_child(void *arg, struct err *err)
{
	struct child *c = arg;
	int r = 0;

	if (!c->spec->off) {
		if (c->own_users) {
			r = map_ids(c, err);
			if (r == 0)
				r = forbid_user_namespaces(err);
		}
		if (r == 0)
			r = build_root(c, err);
		if (r == 0 && sethostname("vm", 2) < 0)
			r = err_errno(err, errno, "cannot set the name of the confinement");
	}
	if (r == 0)
		r = place_fds(c->spec, err);
	if (r == 0)
		r = lockdown_limit_privileges(c->spec->serves_files ? FILE_RIGHTS : 0, err);
	if (r == 0 && c->spec->serves_files && c->own_users)
		r = keep_groups(err);
	if (r == 0 && !c->spec->off)
		r = enter_landlock(c->spec, err);
	if (r == 0 && c->spec->ramguard_sock >= 0)
		r = ramguard_install(c->spec->ramguard_sock, c->spec->ramguard_own, err);
	return r;
}

static unsigned long namespaces(const struct confine_spec *spec, bool own_users)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;

	if (spec->off)
		return 0;
	if (own_users)
		flags |= CLONE_NEWUSER;
	return spec->host_network ? flags : flags | CLONE_NEWNET;
}

int confine_spawn(const struct confine_spec *spec, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
	static char *const no_env[] = { NULL };
	struct confine_spec s = *spec;
	struct child child = {
		.spec = &s, .uid = geteuid(), .gid = getegid(), .own_users = has_own_users(spec)
	};
	struct proc_opts opts = { .path = spec->program,
		.argv = spec->argv,
		.envp = spec->off ? NULL : no_env,
		.stdin_fd = -1,
		.stdout_fd = spec->stderr_fd,
		.stderr_fd = spec->stderr_fd,
		.die_with_parent = true,
		.new_session = true,
		.namespaces = namespaces(spec, child.own_users),
		.in_child = in_child,
		.arg = &child };
	int r;

	if (*spec->program != '/')
		return err_set(err, EINVAL, "'%s' is not an absolute path", spec->program);
	if (confine_bind(&s, spec->program, spec->program, CONFINE_EXECUTE) < 0)
		return err_set(err, ENOSPC, "too many binds for '%s'", spec->program);
	r = proc_spawn(&opts, ret_pid, ret_pidfd, err);
	if (r == -EPERM || r == -ENOSPC || r == -EUSERS)
		if (!spec->off && err && !strstr(err->msg, "user namespaces"))
			return err_set(err, -r, "cannot confine '%s': %s", spec->program, REMEDY);
	return r < 0 ? err_wrap(err, "cannot start '%s'", spec->program) : 0;
}

int confine_probe(struct err *err)
{
	struct confine_spec spec = {
		.program = "/proc/self/exe", .stderr_fd = -1, .ramguard_sock = -1
	};
	struct child child = { .spec = &spec, .uid = geteuid(), .gid = getegid() };
	int status, r;
	pid_t pid =
		(pid_t)syscall(SYS_clone, namespaces(&spec, true) | SIGCHLD, NULL, NULL, NULL, 0);

	if (pid < 0)
		return err_errno(err, errno, "cannot make namespaces: %s", REMEDY);
	if (pid == 0) {
		r = map_ids(&child, NULL);
		_exit(r < 0 ? -r : build_root(&child, NULL) < 0 ? EPERM : 0);
	}
	while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (r < 0 || status != 0)
		return err_set(err, EPERM, "cannot build a confinement: %s", REMEDY);
	return 0;
}
