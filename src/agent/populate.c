/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/populate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/macro.h"

static int copy_folder(int from, int to, unsigned depth, struct err *err);

/* A volume of an ordinary user's knows one owner. */
static int keep_owner(int fd, const char *name, const struct stat *st)
{
	if (fchownat(fd, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 ||
		errno == EPERM || errno == EINVAL || errno == EOVERFLOW)
		return 0;
	return -errno;
}

static int keep_times(int fd, const char *name, const struct stat *st)
{
	const struct timespec times[] = { st->st_atim, st->st_mtim };

	return utimensat(fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	auto_close int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1;
	int r;

	if (in < 0)
		return -errno;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	r = fd_copy_sparse(in, out);
	if (r == 0)
		r = keep_owner(to, name, st);
	/* After the owner, which takes the set-user bits away. */
	if (r == 0 && fchmod(out, st->st_mode & 07777) < 0)
		r = -errno;
	return r;
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	return symlinkat(target, to, name) < 0 ? -errno : keep_owner(to, name, st);
}

static int copy_below(
	int from, int to, const char *name, const struct stat *st, unsigned depth, struct err *err)
{
	auto_close int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
		       out = -1;
	int r;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return -errno;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return -errno;
	r = copy_folder(in, out, depth, err);
	if (r == 0)
		r = keep_owner(to, name, st);
	if (r == 0 && fchmod(out, st->st_mode & 07777) < 0)
		r = -errno;
	return r;
}

static int copy_entry(int from, int to, const char *name, unsigned depth, struct err *err)
{
	struct stat st;
	int r = 0;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	else if (S_ISREG(st.st_mode))
		r = copy_file(from, to, name, &st);
	else if (S_ISLNK(st.st_mode))
		r = copy_link(from, to, name, &st);
	else if (S_ISDIR(st.st_mode) && depth)
		r = copy_below(from, to, name, &st, depth - 1, err);
	else if (S_ISDIR(st.st_mode))
		r = -ELOOP;
	else
		return 0;
	if (r == 0)
		r = keep_times(to, name, &st);
	/* The innermost names it. */
	return r < 0 && !err->code
		       ? err_errno(
				 err, -r, "cannot copy '%.200s' of the image into the volume", name)
		       : r;
}

static int copy_folder(int from, int to, unsigned depth, struct err *err)
{
	auto_closedir DIR *dir = NULL;
	struct dirent *de;
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	while (r == 0 && (de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			r = copy_entry(from, to, de->d_name, depth, err);
	return r;
}

static bool is_empty(int folder)
{
	auto_closedir DIR *dir = NULL;
	struct dirent *de;
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return false;
	return dir != NULL;
}

int populate(int from, int to, struct err *err)
{
	struct stat st;
	int r;

	if (!is_empty(to))
		return 0;
	if (fstat(from, &st) < 0)
		return err_errno(err, errno, "cannot fill the volume");
	r = copy_folder(from, to, LIMIT_LIST_DEPTH, err);
	if (r == 0)
		r = keep_owner(to, "", &st);
	if (r == 0 && fchmodat(to, ".", st.st_mode & 07777, 0) < 0)
		r = -errno;
	return r < 0 && !err->code ? err_errno(err, -r, "cannot fill the volume") : r;
}
