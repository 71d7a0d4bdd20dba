/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/id.h"

int fs_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	return fd_read_all(fd, max, ret_data, ret_len);
}

static int write_and_sync(int fd, const void *data, size_t len, bool durable)
{
	int r = fd_write_full(fd, data, len);

	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	return r;
}

int fs_replace_file(
	int dirfd, const char *path, const void *data, size_t len, mode_t mode, bool durable)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;
	char suffix[17];
	uint8_t raw[8];
	int r;

	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), suffix);
	if (asprintf(&tmp, "%s.%s.tmp", path, suffix) < 0) {
		tmp = NULL;
		return -ENOMEM;
	}
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = write_and_sync(fd, data, len, durable);
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

int fs_make_dirs(const char *path, mode_t mode)
{
	auto_free char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int remove_children(int dfd, dev_t dev);

/* A folder, which its owner may not even be allowed to look into: images have such. */
static int open_to_empty(int dirfd, const char *name, struct stat *ret_st)
{
	auto_close int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[32];
	int dir;

	if (fd < 0 || fstat(fd, ret_st) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if ((ret_st->st_mode & 0700) != 0700 && ret_st->st_uid == geteuid())
		chmod(path, 0700);
	dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -errno : dir;
}

static int remove_at(int dirfd, const char *name, dev_t dev)
{
	auto_close int fd = -1;
	struct stat st;
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = open_to_empty(dirfd, name, &st);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (dev && st.st_dev != dev)
		return -EXDEV;
	r = remove_children(fd, st.st_dev);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_children(int dfd, dev_t dev)
{
	int copy = fcntl(dfd, F_DUPFD_CLOEXEC, 3);
	auto_closedir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		safe_close(copy);
		return -errno;
	}
	while (r == 0 && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_at(dfd, e->d_name, dev);
	return r;
}

int fs_remove_tree(int dirfd, const char *path)
{
	return remove_at(dirfd, path, 0);
}

int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int fs_lock(int dirfd, const char *path, bool exclusive, bool wait)
{
	auto_close int fd = openat(dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	while (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB)) < 0)
		if (errno != EINTR)
			return -errno;
	return take_fd(&fd);
}

int fs_private_dir(const char *path, struct err *err)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make folder '%s'", path);
	if (lstat(path, &st) < 0)
		return err_errno(err, errno, "cannot look at folder '%s'", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, EPERM,
			"'%s' is not a folder of user %u: remove it or choose another", path,
			geteuid());
	if (st.st_mode & 022)
		return err_set(err, EPERM,
			"folder '%s' can be written to by others: run chmod 700 on it", path);
	return 0;
}

static int usage_below(int fd, unsigned depth, uint64_t *bytes)
{
	auto_closedir DIR *dir = fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!dir) {
		r = -errno;
		safe_close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(dir))) {
		struct stat st;
		int sub;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
			fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		*bytes += (uint64_t)st.st_blocks * 512;
		if (!S_ISDIR(st.st_mode) || depth == 0)
			continue;
		sub = openat(
			dirfd(dir), de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub >= 0)
			r = usage_below(sub, depth - 1, bytes);
	}
	return r;
}

int fs_disk_usage(int dirfd, const char *path, uint64_t *bytes)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : usage_below(fd, LIMIT_PATH_DEPTH, bytes);
}

int fs_free_bytes(const char *path, uint64_t *ret_bytes)
{
	struct statvfs vfs;

	if (statvfs(path, &vfs) < 0)
		return -errno;
	*ret_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}

int fs_set(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}
