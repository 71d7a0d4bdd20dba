/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: entries land below one folder, whose descriptor all paths are relative to; no
 * entry may name "..". We are inside the container, so links of it lead nowhere that it could not
 * go itself. Times and modes of folders are set at the end, the deepest first: filling a folder
 * changes its time, and one that cannot be written must be filled first.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/tar.h"
#include "agent/tree.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"

#define TREE_BUFFER 65536

struct folder {
	char *path;
	mode_t mode;
	struct timespec mtime;
};

struct putter {
	int dir;
	bool keep; /* owners as the archive says; else root */
	struct folder *folders;
	size_t n_folders;
	uint64_t entries;
	char *content;
	bool failed;
};

static void complain(struct putter *p, const char *path, const char *fmt, ...) PRINTF(3, 4);
static void complain(struct putter *p, const char *path, const char *fmt, ...)
{
	char text[LIMIT_ERR_MESSAGE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(2, "micropod: %s: %s\n", path, text);
	p->failed = true;
}

/* Without what leads nowhere: "/a//./b/" is "a/b". 0 or -EINVAL for one that leads up. In place. */
static int clean(char *path)
{
	char *out = path, *part = path;

	while (*part) {
		size_t len = strcspn(part, "/");
		char *next = part + len + (part[len] == '/');

		if (len == 2 && memcmp(part, "..", 2) == 0)
			return -EINVAL;
		if (len && !(len == 1 && *part == '.')) {
			if (out != path)
				*out++ = '/';
			memmove(out, part, len);
			out += len;
		}
		part = next;
	}
	*out = 0;
	return 0;
}

static int make_parents(struct putter *p, const char *path)
{
	char above[PATH_MAX];

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		if ((size_t)snprintf(above, sizeof(above), "%.*s", (int)(slash - path), path) >=
			sizeof(above))
			return -ENAMETOOLONG;
		if (mkdirat(p->dir, above, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* Gone, unless it is a folder. 0, -EISDIR or -errno. */
static int clear_way(struct putter *p, const char *path)
{
	struct stat st;

	if (fstatat(p->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return unlinkat(p->dir, path, 0) < 0 ? -errno : 0;
}

static int set_owner(struct putter *p, const struct tar_entry *e, const char *path)
{
	uid_t uid = p->keep ? e->uid : 0;
	gid_t gid = p->keep ? e->gid : 0;

	return fchownat(p->dir, path, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static void set_xattrs(struct putter *p, int fd, const struct tar_entry *e, const char *path)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (fsetxattr(fd, e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].len, 0) < 0)
			complain(p, path, "cannot set its attribute '%.100s': %s",
				e->xattrs[i].name, strerror(errno));
}

static void set_time(struct putter *p, const struct tar_entry *e, const char *path)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { e->mtime, (long)e->mtime_ns } };

	if (utimensat(p->dir, path, times, AT_SYMLINK_NOFOLLOW) < 0)
		complain(p, path, "cannot set its time: %s", strerror(errno));
}

/* The archive's failures end all; -EPROTO with err told. The file's are told, and its content is
 * read over. */
static int put_file(
	struct putter *p, struct tar_reader *r, const struct tar_entry *e, const char *path)
{
	auto_close int fd =
		openat(p->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct err err = ERR_INIT;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = tar_content(r, p->content, TREE_BUFFER, &err)) > 0) {
		int w = fd_write_full(fd, p->content, (size_t)n);

		if (w < 0)
			return w;
	}
	if (n < 0) {
		complain(p, path, "%s", err.msg);
		return -EBADMSG;
	}
	if (fchown(fd, p->keep ? e->uid : 0, p->keep ? e->gid : 0) < 0)
		return -errno;
	set_xattrs(p, fd, e, path);
	return fchmod(fd, e->mode) < 0 ? -errno : 0;
}

static int put_folder(struct putter *p, const struct tar_entry *e, const char *path)
{
	auto_close int fd = -1;
	struct folder *v;

	if (*path && mkdirat(p->dir, path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(p->dir, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR ? -EEXIST : -errno;
	/* The folder that all goes into is not the archive's. */
	if (!*path)
		return 0;
	if (fchown(fd, p->keep ? e->uid : 0, p->keep ? e->gid : 0) < 0)
		return -errno;
	set_xattrs(p, fd, e, path);
	v = realloc(p->folders, (p->n_folders + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->folders = v;
	v[p->n_folders] = (struct folder){ strdup(path), e->mode, { e->mtime, (long)e->mtime_ns } };
	return v[p->n_folders++].path ? 0 : -ENOMEM;
}

static int put_node(struct putter *p, const struct tar_entry *e, const char *path)
{
	mode_t type = e->type == '3' ? S_IFCHR : e->type == '4' ? S_IFBLK : S_IFIFO;
	int r = mknodat(p->dir, path, type | 0600, makedev(e->major, e->minor)) < 0 ? -errno : 0;

	if (r == 0)
		r = set_owner(p, e, path);
	return r < 0 || fchmodat(p->dir, path, e->mode, 0) == 0 ? r : -errno;
}

static int put_link(struct putter *p, struct tar_entry *e, const char *path)
{
	if (e->type == '2') {
		if (symlinkat(e->link, p->dir, path) < 0)
			return -errno;
		return set_owner(p, e, path);
	}
	if (clean(e->link) < 0)
		return -EINVAL;
	return linkat(p->dir, e->link, p->dir, path, 0) < 0 ? -errno : 0;
}

static int put_entry(struct putter *p, struct tar_reader *r, struct tar_entry *e)
{
	int n = clean(e->path);

	if (n == 0 && ++p->entries > LIMIT_LAYER_ENTRIES)
		n = -E2BIG;
	if (n == 0)
		n = make_parents(p, e->path);
	if (n < 0)
		return n;
	if (e->type == '5')
		return put_folder(p, e, e->path);
	if (!*e->path)
		return -EINVAL;
	n = clear_way(p, e->path);
	if (n == 0 && e->type == '0')
		n = put_file(p, r, e, e->path);
	else if (n == 0 && (e->type == '1' || e->type == '2'))
		n = put_link(p, e, e->path);
	else if (n == 0)
		n = put_node(p, e, e->path);
	if (n == 0 && e->type != '1')
		set_time(p, e, e->path);
	return n;
}

static void finish_folders(struct putter *p)
{
	while (p->n_folders) {
		struct folder *f = &p->folders[--p->n_folders];
		struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, f->mtime };

		if (fchmodat(p->dir, f->path, f->mode, 0) < 0 ||
			utimensat(p->dir, f->path, times, AT_SYMLINK_NOFOLLOW) < 0)
			complain(p, f->path, "cannot set its mode and time: %s", strerror(errno));
		free(f->path);
	}
	free(p->folders);
}

static ssize_t read_stdin(void *arg, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = read(0, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void put_all(struct putter *p)
{
	struct tar_reader reader = { .read = read_stdin };
	struct err err = ERR_INIT;
	struct tar_entry e;
	int n, r = 0;

	while (r == 0 && (n = tar_next(&reader, &e, &err)) != 0) {
		if (n < 0) {
			complain(p, "the archive", "%s", err.msg);
			break;
		}
		r = put_entry(p, &reader, &e);
		if (r < 0 && r != -EBADMSG)
			complain(p, e.path, "%s",
				r == -EISDIR   ? "a folder is there, and is not overwritten"
				: r == -EEXIST ? "what is there is no folder"
				: r == -EINVAL ? "its name leads out of the folder that it goes to"
					       : strerror(-r));
		/* A full disk will not be less full for the next one. */
		if (r != -ENOSPC && r != -EDQUOT && r != -EBADMSG && r != -E2BIG)
			r = 0;
		tar_entry_deinit(&e);
	}
}

int tree_put(const struct strv *args)
{
	struct putter p = { .content = malloc(TREE_BUFFER) };

	if (args->n < 1 || !p.content)
		return 2;
	p.keep = args->n > 1 && strcmp(args->v[1], "keep") == 0;
	p.dir = open(args->v[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p.dir < 0) {
		complain(&p, args->v[0], "%s", strerror(errno));
		return 1;
	}
	umask(0);
	put_all(&p);
	finish_folders(&p);
	return p.failed;
}

/* Where a path leads, and what is there: "TYPE PATH", where TYPE is one of none, file, folder,
 * other, link (only with "nofollow"). Of a missing one PATH is its folder's, which must be there.
 */
int tree_stat(const struct strv *args)
{
	char real[PATH_MAX], copy[PATH_MAX];
	bool nofollow = args->n > 1 && strcmp(args->v[1], "nofollow") == 0;
	const char *type = "none", *slash;
	struct stat st;

	if (args->n < 1 || args->v[0][0] != '/' || strlen(args->v[0]) >= sizeof(copy))
		return 2;
	if (nofollow && lstat(args->v[0], &st) == 0 && S_ISLNK(st.st_mode))
		return dprintf(1, "link %s", args->v[0]) < 0;
	if (realpath(args->v[0], real)) {
		if (stat(real, &st) < 0)
			return 1;
		type = S_ISDIR(st.st_mode) ? "folder" : S_ISREG(st.st_mode) ? "file" : "other";
	} else {
		slash = strrchr(args->v[0], '/');
		snprintf(copy, sizeof(copy), "%.*s/", (int)(slash - args->v[0]), args->v[0]);
		if (errno != ENOENT || !realpath(copy, real) || stat(real, &st) < 0 ||
			!S_ISDIR(st.st_mode)) {
			dprintf(2, "micropod: %s: %s\n", args->v[0],
				strerror(errno ? errno : ENOTDIR));
			return 1;
		}
	}
	return dprintf(1, "%s %s", type, real) < 0;
}

tree_tool tree_tool_find(unsigned number)
{
	/* By the numbers of Tool in agent.proto. */
	static const tree_tool tools[] = { NULL, tree_get, tree_put, tree_stat, tree_layer };

	return number < ARRAY_SIZE(tools) ? tools[number] : NULL;
}
