/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the root is put together in this mount namespace alone, so it goes with its last
 * process. What every container has (/proc, /dev, /sys and what lies below, with what is hidden) is
 * put together first, in a folder of its own, since it needs to know nothing of the container; it
 * moves to its places later. Mounts are made as objects (fsmount(2)) and moved to places that
 * openat2(2) has found below the root without following a link, before the root is entered:
 * whatever the image's folders are, nothing lands outside of it. Then pivot_root(2).
 */
#include "agent/launch-root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/populate.h"
#include "agent/virtiofs.h"
#include "agent/volumes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "oci/spec.h"

int launch_failed(struct failure *f, const char *step, const char *object, int code)
{
	return failure_set(f, FAILURE_UNKNOWN, code, step, object, "cannot %s%s%s: %s", step,
		*object ? " " : "", object, strerror(code));
}

/* Places in the root */

static int open_in(int root, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = (uint64_t)flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve };

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* A folder to mount on, made if missing; one that a link stands for is refused. */
static int place(int root, const char *path)
{
	int fd = open_in(root, path, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS);
	const char *slash = strrchr(path, '/');
	auto_close int parent = -1;
	char above[64];

	if (fd >= 0 || errno != ENOENT)
		return fd;
	snprintf(above, sizeof(above), "%.*s", (int)(slash - path), path);
	parent = *above ? open_in(root, above, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS)
			: fcntl(root, F_DUPFD_CLOEXEC, 3);
	if (parent < 0 || mkdirat(parent, slash + 1, 0755) < 0)
		return -1;
	return open_in(root, path, O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS);
}

static int move_to(int tree, int where)
{
	return (int)syscall(SYS_move_mount, tree, "", where, "",
		MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* File systems */

static const struct {
	const char *word;
	unsigned attr;
} mount_words[] = {
	{ "nosuid", MOUNT_ATTR_NOSUID },
	{ "noexec", MOUNT_ATTR_NOEXEC },
	{ "nodev", MOUNT_ATTR_NODEV },
	{ "ro", MOUNT_ATTR_RDONLY },
	{ "strictatime", MOUNT_ATTR_STRICTATIME },
	{ "noatime", MOUNT_ATTR_NOATIME },
	{ "nodiratime", MOUNT_ATTR_NODIRATIME },
};

/* An option of the mount, or one of the file system. */
static int take_option(int fs, const char *option, unsigned *attr)
{
	const char *equals = strchr(option, '=');
	char key[32];

	for (size_t i = 0; i < ARRAY_SIZE(mount_words); i++) {
		if (strcmp(option, mount_words[i].word) == 0) {
			*attr |= mount_words[i].attr;
			return 0;
		}
	}
	if (!equals)
		return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, option, NULL, 0);
	snprintf(key, sizeof(key), "%.*s", (int)(equals - option), option);
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

static int mount_default(int root, const struct oci_mount *m, uint64_t shm_bytes, struct failure *f)
{
	const char *type = strcmp(m->type, "cgroup") == 0 ? "cgroup2" : m->type;
	auto_close int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), tree = -1, where = -1;
	unsigned attr = 0;

	TRY(fs, "mount", m->destination);
	TRY(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", m->source, 0), "mount",
		m->destination);
	for (const char *const *o = m->options; *o; o++)
		TRY(take_option(fs, *o, &attr), "mount", m->destination);
	if (strcmp(m->destination, "/dev/shm") == 0) {
		char size[32];

		snprintf(size, sizeof(size), "%llu",
			(unsigned long long)(shm_bytes ? shm_bytes : OCI_SHM_DEFAULT));
		TRY(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", size, 0), "mount",
			m->destination);
	}
	TRY(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "mount", m->destination);
	tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	TRY(tree, "mount", m->destination);
	where = place(root, m->destination);
	TRY(where, "find a place for", m->destination);
	TRY(move_to(tree, where), "mount", m->destination);
	return 0;
}

/* Nodes and links of /dev, as runtimes make them. */
static int fill_dev(int root, struct failure *f)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 },
		{ "urandom", 1, 9 }, { "tty", 5, 0 } };
	static const struct {
		const char *name, *target;
	} links[] = { { "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" },
		{ "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" },
		{ "core", "/proc/kcore" }, { "ptmx", "pts/ptmx" } };
	auto_close int dev = open_in(root, "/dev", O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS);

	TRY(dev, "open", "/dev");
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		TRY(mknodat(dev, nodes[i].name, S_IFCHR | 0666,
			    makedev(nodes[i].major, nodes[i].minor)),
			"make /dev", nodes[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		TRY(symlinkat(links[i].target, dev, links[i].name), "make /dev", links[i].name);
	return 0;
}

/*
 * One of our files over the image's. A link of the image is followed within the root, as Docker
 * does; where it leads nowhere, a plain file takes its place. A root that cannot be written and has
 * no such file goes without.
 */
static int bind_name(int root, const struct launch_spec *spec, const char *name, bool read_only,
	struct failure *f)
{
	char source[PATH_MAX], target[32];
	auto_close int tree = -1, where = -1, etc = -1;

	snprintf(source, sizeof(source), "%s/%s", spec->bundle, name);
	snprintf(target, sizeof(target), "/etc/%s", name);
	where = open_in(root, target, O_PATH, 0, 0);
	if (where < 0 && errno == ENOENT && !read_only) {
		etc = place(root, "/etc");
		TRY(etc, "open", "/etc");
		unlinkat(etc, name, 0);
		where = openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	}
	if (where < 0 && read_only)
		return 0;
	TRY(where, "find a place for", target);
	/* Private, as all mounts here. */
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	TRY(tree, "bind", target);
	TRY(move_to(tree, where), "bind", target);
	return 0;
}

/* The root */

static void stage_path(const char *bundle, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.4000s/stage", bundle);
}

static int find_root(const struct launch_spec *spec, char path[static PATH_MAX], struct failure *f)
{
	const API(CreateContainerRequest) *req = spec->req;
	struct stat st;

	if (req->disks) {
		snprintf(path, PATH_MAX, CONTAINERS_DIR "/%s/rootfs", spec->id);
		return 0;
	}
	snprintf(path, PATH_MAX, "%.*s",
		(int)(req->rootfs.len ? req->rootfs.len : strlen(req->rootfs_path)),
		req->rootfs.len ? (const char *)req->rootfs.data : req->rootfs_path);
	if (*path != '/')
		return failure_set(f, FAILURE_INVALID, EINVAL, "rootfs_path", "",
			"rootfs_path must be an absolute path");
	if (strcmp(path, VIRTIOFS_ROOT) == 0)
		virtiofs_mount_root();
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return failure_set(f, FAILURE_INVALID, errno ? errno : ENOTDIR, "rootfs_path", path,
			"cannot use '%s' as root of the container: %s", path,
			strerror(errno ? errno : ENOTDIR));
	/* pivot_root(2) wants a mount. */
	TRY(mount(path, path, NULL, MS_BIND | MS_REC, NULL), "bind", path);
	return 0;
}

/* path: below where the file systems are being put together. */
static int mask(const char *path, const char *null, struct failure *f)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return 0; /* this kernel does not have it */
	if (S_ISDIR(st.st_mode)) {
		TRY(mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k"), "mask", path);
		return 0;
	}
	TRY(mount(null, path, NULL, MS_BIND, NULL), "mask", path);
	TRY(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL),
		"mask", path);
	return 0;
}

static int make_read_only(const char *path, struct failure *f)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (access(path, F_OK) < 0)
		return 0;
	TRY(mount(path, path, NULL, MS_BIND | MS_REC, NULL), "protect", path);
	TRY(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL), "protect",
		path);
	return 0;
}

static int hide_paths(const char *stage, struct failure *f)
{
	char path[PATH_MAX], null[PATH_MAX];
	int r = 0;

	snprintf(null, sizeof(null), "%.4000s/dev/null", stage);
	for (size_t i = 0; r == 0 && oci_masked_paths[i]; i++) {
		snprintf(path, sizeof(path), "%.4000s%s", stage, oci_masked_paths[i]);
		r = mask(path, null, f);
	}
	for (size_t i = 0; r == 0 && oci_read_only_paths[i]; i++) {
		snprintf(path, sizeof(path), "%.4000s%s", stage, oci_read_only_paths[i]);
		r = make_read_only(path, f);
	}
	return r;
}

/* That of the machine, which its other containers have too. */
static int share_shm(int root, struct failure *f)
{
	auto_close int tree = (int)syscall(
		SYS_open_tree, AT_FDCWD, "/dev/shm", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	auto_close int where = -1;

	TRY(tree, "bind", "/dev/shm");
	where = place(root, "/dev/shm");
	TRY(where, "find a place for", "/dev/shm");
	TRY(move_to(tree, where), "bind", "/dev/shm");
	return 0;
}

int launch_root_stage(const char *bundle, uint64_t shm_bytes, bool share_ipc, struct failure *f)
{
	char path[PATH_MAX];
	auto_close int stage = -1;
	int r = 0;

	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "leave", "the guest's mounts");
	TRY(unshare(CLONE_NEWCGROUP), "enter", "a cgroup namespace");
	stage_path(bundle, path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return launch_failed(f, "make", path, errno);
	stage = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	TRY(stage, "open", path);
	for (size_t i = 0; r == 0 && i < oci_mounts_default_n; i++) {
		const struct oci_mount *m = &oci_mounts_default[i];

		r = share_ipc && strcmp(m->destination, "/dev/shm") == 0
			    ? share_shm(stage, f)
			    : mount_default(stage, m, shm_bytes, f);
		if (r == 0 && strcmp(oci_mounts_default[i].destination, "/dev") == 0)
			r = fill_dev(stage, f);
	}
	return r < 0 ? r : hide_paths(path, f);
}

int launch_root_mount_disks(
	const char *id, const struct mounts_root_disks *disks, struct failure *f)
{
	int r = mounts_container_root(
		id, disks, deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC / 2), &f->err);

	if (r < 0)
		snprintf(f->step, sizeof(f->step), "mount the root");
	return r;
}

/* The staged file systems, each with all that is mounted on it, to their places. */
static int move_stage(int root, const char *bundle, struct failure *f)
{
	char path[PATH_MAX];
	auto_close int stage = -1;

	stage_path(bundle, path);
	stage = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	TRY(stage, "open", path);
	for (size_t i = 0; i < oci_mounts_default_n; i++) {
		const char *to = oci_mounts_default[i].destination;
		auto_close int where = -1;

		if (strchr(to + 1, '/'))
			continue;
		where = place(root, to);
		TRY(where, "find a place for", to);
		TRY(syscall(SYS_move_mount, stage, to + 1, where, "", MOVE_MOUNT_T_EMPTY_PATH),
			"mount", to);
	}
	return 0;
}

/* Makes the last part of a path whose other parts are there. */
static int make_part(int root, const char *path, bool folder)
{
	const char *slash = strrchr(path, '/');
	auto_close int parent = -1, file = -1;
	char above[PATH_MAX];

	snprintf(above, sizeof(above), "%.*s/", (int)(slash - path), path);
	parent = open_in(root, above, O_PATH | O_DIRECTORY, 0, 0);
	if (parent < 0)
		return -1;
	if (folder)
		return mkdirat(parent, slash + 1, 0755);
	file = openat(parent, slash + 1, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	return file < 0 ? -1 : 0;
}

/*
 * A folder or file to mount on, made if missing with all above it. Links are followed within the
 * root, as runtimes do. path has no "." and no "//".
 */
static int make_place(int root, const char *path, bool folder)
{
	char so_far[PATH_MAX];
	const char *end = path;

	for (;;) {
		auto_close int fd = -1;
		bool last;

		end += 1 + strcspn(end + 1, "/");
		last = !*end;
		snprintf(so_far, sizeof(so_far), "%.*s", (int)(end - path), path);
		fd = open_in(root, so_far, O_PATH, 0, 0);
		if (fd < 0 && errno == ENOENT && make_part(root, so_far, !last || folder) == 0)
			fd = open_in(root, so_far, O_PATH, 0, 0);
		if (fd < 0 || last)
			return take_fd(&fd);
	}
}

bool launch_root_is_tmpfs(const API(Mount) * m)
{
	return strcmp(m->type, "tmpfs") == 0;
}

/* Those after it in the list count: "noexec" and then "exec" is none. */
static bool is_undone(const API(Mount) * m, size_t i)
{
	const char *option = m->options[i];

	for (size_t k = i + 1; k < m->n_options; k++)
		if (strncmp(option, "no", 2) == 0 && strcmp(option + 2, m->options[k]) == 0)
			return true;
	return false;
}

static int open_tmpfs(const API(Mount) * m, const char *to, int *ret_tree, struct failure *f)
{
	static const char *const plain[] = { "rw", "suid", "dev", "exec", "async", "atime" };
	auto_close int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	unsigned attr = 0;

	TRY(fs, "mount", to);
	TRY(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "tmpfs", 0), "mount", to);
	for (size_t i = 0; i < m->n_options; i++) {
		bool is_default = is_undone(m, i);

		for (size_t k = 0; k < ARRAY_SIZE(plain); k++)
			is_default |= strcmp(m->options[i], plain[k]) == 0;
		if (is_default)
			continue;
		if (take_option(fs, m->options[i], &attr) < 0)
			return failure_set(f, FAILURE_INVALID, errno, "mounts", m->options[i],
				"mounts: tmpfs on '%s' cannot have the option '%s'", to,
				m->options[i]);
	}
	TRY(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "mount", to);
	*ret_tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	TRY(*ret_tree, "mount", to);
	return 0;
}

static int open_volume(
	const struct launch_spec *spec, size_t i, const char *to, int *ret_tree, struct failure *f)
{
	char path[PATH_MAX];
	int r = volumes_mount(spec->id, i, spec->req->mounts[i],
		deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC / 2), path, &f->err);

	if (r < 0)
		return r;
	*ret_tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
	TRY(*ret_tree, "mount", to);
	return 0;
}

static int fill_volume(int image, int volume, struct err *err)
{
	auto_close int from = openat(image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int to = openat(volume, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (from < 0 || to < 0)
		return err_errno(err, errno, "cannot fill the volume");
	return populate(from, to, err);
}

/* Mounted in this mount namespace alone, so they go with its last process. */
static int put_mount(int root, const struct launch_spec *spec, size_t i, struct failure *f)
{
	const API(Mount) *m = spec->req->mounts[i];
	auto_close int tree = -1, where = -1;
	char to[PATH_MAX];
	struct stat st;
	int r;

	if (!m->destination.len || m->destination.data[0] != '/' ||
		m->destination.len >= sizeof(to) ||
		memchr(m->destination.data, 0, m->destination.len))
		return launch_failed(f, "mount", "a path that is not absolute", EINVAL);
	memcpy(to, m->destination.data, m->destination.len);
	to[m->destination.len] = 0;
	r = launch_root_is_tmpfs(m) ? open_tmpfs(m, to, &tree, f)
				    : open_volume(spec, i, to, &tree, f);
	if (r < 0)
		return r;
	TRY(fstat(tree, &st), "mount", to);
	where = make_place(root, to, S_ISDIR(st.st_mode));
	TRY(where, "find a place for", to);
	if (volumes_is_populated(m)) {
		r = fill_volume(where, tree, &f->err);
		if (r < 0)
			return r;
	}
	TRY(move_to(tree, where), "mount", to);
	return 0;
}

static int put_mounts(int root, const struct launch_spec *spec, struct failure *f)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->req->n_mounts; i++)
		r = put_mount(root, spec, i, f);
	return r;
}

int launch_root_enter(const struct launch_spec *spec, struct failure *f)
{
	static const char *const names[] = { "resolv.conf", "hosts", "hostname" };
	const struct bundle b = {
		.req = spec->req, .dir = spec->bundle, .hostname = spec->hostname
	};
	bool read_only =
		spec->req->read_only_root || (spec->req->disks && spec->req->disks->read_only);
	char path[PATH_MAX];
	auto_close int root = -1;
	int r = find_root(spec, path, f);

	if (r == 0)
		r = bundle_write_names(&b, &f->err);
	if (r < 0)
		return r;
	root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	TRY(root, "open", path);
	r = move_stage(root, spec->bundle, f);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = bind_name(root, spec, names[i], read_only, f);
	if (r == 0)
		r = put_mounts(root, spec, f);
	if (r < 0)
		return r;
	TRY(fchdir(root), "enter", path);
	/* With the same folder twice the old root lies on top, ready to be dropped. */
	TRY(syscall(SYS_pivot_root, ".", "."), "change the root to", path);
	TRY(umount2(".", MNT_DETACH), "drop", "the guest's root");
	TRY(chdir("/"), "enter", "/");
	if (read_only)
		TRY(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "protect", "/");
	return 0;
}
