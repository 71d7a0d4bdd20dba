/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: containers need a root they can pivot_root away from, and the initramfs is none (it
 * has no parent mount). So a tmpfs, or the agent's disk, is moved over it. Roots of containers made
 * of disks are in rootdisks.c.
 */
#include "agent/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/cgroups.h"
#include "agent/modules.h"
#include "base/cleanup.h"
#include "base/fs.h"

#define NEW_ROOT   "/.root"
#define AGENT_FILE "/usr/bin/micropod-agent" /* in the initramfs */

/* Not in every <linux/magic.h>. */
#define MAGIC_MQUEUE 0x19800202

struct early_mount {
	const char *source, *target, *type, *options;
	unsigned long flags;
	long magic; /* of statfs(2): mounted already */
};

static const struct early_mount proc = { "proc", "/proc", "proc", NULL,
	MS_NOSUID | MS_NODEV | MS_NOEXEC, PROC_SUPER_MAGIC };

static const struct early_mount devices[] = {
	{ "sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, SYSFS_MAGIC },
	/* devtmpfs is a tmpfs, as the root may be: known by a node that the kernel makes in it. */
	{ "devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID | MS_NOEXEC, 0 },
};

static const struct early_mount rest[] = {
	{ "devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC,
		DEVPTS_SUPER_MAGIC },
	{ "shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV | MS_NOEXEC, -1 },
	{ "mqueue", "/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, MAGIC_MQUEUE },
	{ "cgroup2", CGROUP_ROOT, "cgroup2", "nsdelegate,memory_recursiveprot",
		MS_NOSUID | MS_NODEV | MS_NOEXEC, CGROUP2_SUPER_MAGIC },
};

static const struct early_mount writable[] = {
	{ "tmpfs", "/run", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV, -1 },
	{ "tmpfs", "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, -1 },
	{ "tmpfs", CONTAINERS_DIR, "tmpfs", "mode=711", MS_NODEV, -1 },
};

static bool is_mounted(const struct early_mount *m)
{
	struct statfs fs;

	if (m->magic == 0)
		return access("/dev/null", F_OK) == 0;
	return m->magic > 0 && statfs(m->target, &fs) == 0 && (long)fs.f_type == m->magic;
}

static int mount_one(const struct early_mount *m, struct err *err)
{
	if (is_mounted(m))
		return 0;
	if (mkdir(m->target, 0755) < 0 && errno != EEXIST && errno != EROFS)
		return err_errno(err, errno, "cannot make the folder %s", m->target);
	if (mount(m->source, m->target, m->type, m->flags, m->options) < 0)
		return err_errno(err, errno, "cannot mount %s", m->target);
	return 0;
}

static int mount_all(const struct early_mount *m, size_t n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = mount_one(&m[i], err);
	return r;
}

int mounts_proc(struct err *err)
{
	return mount_one(&proc, err);
}

int mounts_devices(struct err *err)
{
	return mount_all(devices, ARRAY_SIZE(devices), err);
}

enum mounts_root mounts_which_root(void)
{
	struct stat root, init;
	struct statfs fs;

	if (statfs("/", &fs) < 0 ||
		((long)fs.f_type != RAMFS_MAGIC && (long)fs.f_type != TMPFS_MAGIC))
		return MOUNTS_ROOT_DISK;
	/* Only in the initramfs does /init lie on the root's own file system. */
	if (stat("/", &root) == 0 && lstat("/init", &init) == 0 && root.st_dev == init.st_dev)
		return MOUNTS_ROOT_INITRAMFS;
	return MOUNTS_ROOT_TMPFS;
}

/* Leaving the initramfs */

static const char *const moved[] = { "/proc", "/sys", "/dev" };
static const char *const own_folders[] = { "proc", "sys", "dev", "run", "tmp", "etc", "containers",
	"root" };

static bool is_own(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_folders); i++)
		if (strcmp(name, own_folders[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, NEW_ROOT + 1) == 0;
}

static int bind_folder(const char *name)
{
	char from[300], to[300];

	snprintf(from, sizeof(from), "/%s", name);
	snprintf(to, sizeof(to), NEW_ROOT "/%s", name);
	if (mkdir(to, 0755) < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0)
		return -errno;
	return 0;
}

/* Folders are bound, symbolic links (lib -> usr/lib) made anew, files stay behind. */
static int take_along(int root, const struct dirent *de)
{
	char target[256], to[300];
	ssize_t n;

	if (is_own(de->d_name))
		return 0;
	if (de->d_type == DT_DIR)
		return bind_folder(de->d_name);
	if (de->d_type != DT_LNK || strcmp(de->d_name, "init") == 0)
		return 0;
	n = readlinkat(root, de->d_name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	snprintf(to, sizeof(to), NEW_ROOT "/%s", de->d_name);
	return symlink(target, to) < 0 ? -errno : 0;
}

static int fill_new_root(void)
{
	auto_closedir DIR *dir = opendir("/");
	struct dirent *de;
	char path[64];
	int r = 0;

	if (!dir)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(own_folders); i++) {
		snprintf(path, sizeof(path), NEW_ROOT "/%s", own_folders[i]);
		if (mkdir(path, strcmp(own_folders[i], "tmp") == 0 ? 01777 : 0755) < 0)
			return -errno;
	}
	while (r == 0 && (de = readdir(dir)))
		r = take_along(dirfd(dir), de);
	return r;
}

static int move_mounts(void)
{
	char to[64];

	for (size_t i = 0; i < ARRAY_SIZE(moved); i++) {
		snprintf(to, sizeof(to), NEW_ROOT "%s", moved[i]);
		if (mount(moved[i], to, NULL, MS_MOVE, NULL) < 0)
			return -errno;
	}
	return 0;
}

/* NEW_ROOT becomes "/". */
static int enter_new_root(void)
{
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
		chdir("/") < 0)
		return -errno;
	return 0;
}

void mounts_give_back_memory(void)
{
	auto_closedir DIR *dir = opendir(MODULES_DIR);
	struct dirent *de;

	unlink(AGENT_FILE);
	while (dir && (de = readdir(dir)))
		/* Those of the late list may still be asked for. */
		if (modules_loaded(de->d_name))
			unlinkat(dirfd(dir), de->d_name, 0);
}

int mounts_leave_initramfs(struct err *err)
{
	int r;

	if (mkdir(NEW_ROOT, 0755) < 0 ||
		mount("tmpfs", NEW_ROOT, "tmpfs", MS_NODEV, "mode=755") < 0)
		return err_errno(err, errno, "cannot mount a tmpfs as root");
	r = fill_new_root();
	if (r == 0)
		r = move_mounts();
	if (r == 0)
		r = enter_new_root();
	return r < 0 ? err_errno(err, -r, "cannot leave the initramfs") : 0;
}

int mounts_enter_disk(const char *serial, int64_t deadline, struct err *err)
{
	char device[32];
	int r = mounts_find_disk(serial, deadline, device, err);

	if (r < 0)
		return err_wrap(err, "the agent's own disk");
	if (mkdir(NEW_ROOT, 0755) < 0 ||
		mount(device, NEW_ROOT, "ext4", MS_RDONLY | MS_NODEV, NULL) < 0)
		return err_errno(err, errno, "cannot mount the agent's own disk");
	r = move_mounts();
	if (r == 0)
		r = enter_new_root();
	return r < 0 ? err_errno(err, -r, "cannot enter the agent's own disk") : 0;
}

int mounts_rest(enum mounts_root root, struct err *err)
{
	int r = mount_all(rest, ARRAY_SIZE(rest), err);

	if (r == 0 && root == MOUNTS_ROOT_DISK)
		r = mount_all(writable, ARRAY_SIZE(writable), err);
	if (r < 0)
		return r;
	if (mkdir("/run/micropod", 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make the folder /run/micropod");
	/* Nothing that a container mounts may come back into the agent's own tree. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "cannot make the root private");
	return 0;
}

/* The end */

#define MOUNTS_MAX 4096

/* The mount points below CONTAINERS_DIR, cut out of text (/proc/mounts, fields by spaces, odd bytes
 * as \ooo). */
static size_t list_mounts(char *text, char **points, size_t max)
{
	size_t n = 0;
	char *line, *save = NULL;

	for (line = strtok_r(text, "\n", &save); line && n < max;
		line = strtok_r(NULL, "\n", &save)) {
		char *point = strchr(line, ' ');

		if (!point || strncmp(++point, CONTAINERS_DIR "/", strlen(CONTAINERS_DIR) + 1) != 0)
			continue;
		point[strcspn(point, " ")] = '\0';
		points[n++] = point;
	}
	return n;
}

static void undo_octal(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

int mounts_end(struct err *err)
{
	auto_free char **points = calloc(MOUNTS_MAX, sizeof(char *));
	auto_free char *text = NULL;
	size_t len, n = 0;
	int r = points ? fs_read_file(AT_FDCWD, "/proc/self/mounts", 4 * MIB, &text, &len)
		       : -ENOMEM;

	/* First of all, in case an unmount hangs. */
	sync();
	if (r < 0)
		return err_errno(err, -r, "cannot read the list of mounts");
	n = list_mounts(text, points, MOUNTS_MAX);
	r = 0;
	while (n--) {
		undo_octal(points[n]);
		if (umount2(points[n], UMOUNT_NOFOLLOW) < 0 && r == 0)
			r = err_errno(err, errno, "cannot unmount %s", points[n]);
	}
	if (r < 0)
		sync();
	return r;
}
