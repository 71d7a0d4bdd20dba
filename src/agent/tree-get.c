/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/tar.h"
#include "agent/tree.h"
#include "agent/tree-layer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"

/* A file that has been sent under one name already. */
struct seen {
	dev_t dev;
	ino_t ino;
	char *path;
};

struct getter {
	void *seen; /* tsearch(3) tree */
	size_t n_seen;
	struct strbuf out;
	char *content; /* TREE_BUFFER bytes */
	bool layer; /* an overlay's upper folder: what stands for deleted files is told as such */
	bool failed;
};

#define TREE_BUFFER 65536

static void complain(struct getter *g, const char *path, const char *fmt, ...) PRINTF(3, 4);
static void complain(struct getter *g, const char *path, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(2, "micropod: %s: %s\n", path, text);
	g->failed = true;
}

/* 0 or -errno: then nobody reads any more. */
static int send_out(struct getter *g)
{
	int r = strbuf_error(&g->out) ? -ENOMEM : fd_write_full(1, g->out.data, g->out.len);

	strbuf_reset(&g->out);
	return r;
}

static int by_inode(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* The name under which it was sent, or NULL: now it is, under this one. Beyond the limit each is
 * sent as a file of its own. */
static const char *seen_as(struct getter *g, const struct stat *st, const char *path)
{
	struct seen key = { st->st_dev, st->st_ino, NULL }, *s, **found;

	found = tfind(&key, &g->seen, by_inode);
	if (found)
		return (*found)->path;
	s = g->n_seen < LIMIT_TREE_LINKS ? malloc(sizeof(*s)) : NULL;
	if (!s)
		return NULL;
	*s = key;
	s->path = strdup(path);
	if (!s->path || !tsearch(s, &g->seen, by_inode)) {
		free(s->path);
		free(s);
		return NULL;
	}
	g->n_seen++;
	return NULL;
}

/* What cannot be read of them is left out, as of files on file systems without. */
static void add_xattrs(const struct getter *g, int fd, struct tar_entry *e)
{
	auto_free char *names = NULL, *value = NULL;
	ssize_t len = flistxattr(fd, NULL, 0);

	if (len <= 0 || len > (ssize_t)LIMIT_XATTR_BYTES)
		return;
	names = malloc((size_t)len);
	value = malloc(LIMIT_XATTR_BYTES);
	len = names && value ? flistxattr(fd, names, (size_t)len) : -1;
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n = fgetxattr(fd, names + at, value, LIMIT_XATTR_BYTES);

		if (g->layer && strncmp(names + at, OVERLAY_XATTRS, strlen(OVERLAY_XATTRS)) == 0)
			continue;
		if (n >= 0 && strncmp(names + at, "security.selinux", 16) != 0)
			(void)tar_entry_add_xattr(e, names + at, value, (size_t)n);
	}
}

/* Exactly size bytes: a file that shrinks meanwhile ends in zeros, and that is told. */
static int send_content(struct getter *g, int fd, const char *path, uint64_t size)
{
	uint64_t left = size;
	bool ended = false;

	while (left) {
		size_t want = (size_t)MIN(left, (uint64_t)TREE_BUFFER);
		ssize_t n = ended ? 0 : read(fd, g->content, want);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 && !ended) {
			complain(g, path, "%s",
				n < 0 ? strerror(errno) : "it became shorter while it was read");
			ended = true;
		}
		if (n <= 0) {
			memset(g->content, 0, want);
			n = (ssize_t)want;
		}
		r = fd_write_full(1, g->content, (size_t)n);
		if (r < 0)
			return r;
		left -= (uint64_t)n;
	}
	memset(g->content, 0, TAR_BLOCK);
	return fd_write_full(1, g->content, tar_padding(size));
}

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return '0';
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFDIR:
		return '5';
	case S_IFIFO:
		return '6';
	default:
		return 0; /* sockets mean nothing elsewhere */
	}
}

static void fill(struct tar_entry *e, const struct stat *st, const char *path)
{
	*e = (struct tar_entry){ .type = type_of(st->st_mode),
		.path = (char *)path,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.major = major(st->st_rdev),
		.minor = minor(st->st_rdev),
		.size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
		.mtime = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec };
}

/* Borrowed names are not the entry's to free. */
static int send_entry(struct getter *g, struct tar_entry *e)
{
	tar_put_entry(&g->out, e);
	e->path = e->link = NULL;
	tar_entry_deinit(e);
	return send_out(g);
}

/* An empty file whose name says that name of a lower layer is gone. */
static int send_whiteout(
	struct getter *g, const struct stat *st, const char *folder, const char *name)
{
	auto_free char *path = NULL;
	struct tar_entry e;

	if (asprintf(&path, "%s/.wh.%s", folder, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fill(&e, st, path);
	e = (struct tar_entry){
		.type = '0', .path = path, .mtime = e.mtime, .mtime_ns = e.mtime_ns
	};
	return send_entry(g, &e);
}

static int send_file(struct getter *g, int fd, const struct stat *st, const char *path)
{
	const char *first = st->st_nlink > 1 ? seen_as(g, st, path) : NULL;
	struct tar_entry e;
	int r;

	fill(&e, st, path);
	if (first) {
		e.type = '1';
		e.size = 0;
		e.link = (char *)first;
		return send_entry(g, &e);
	}
	add_xattrs(g, fd, &e);
	r = send_entry(g, &e);
	return r < 0 ? r : send_content(g, fd, path, (uint64_t)st->st_size);
}

static int send_other(
	struct getter *g, int dir, const char *name, const struct stat *st, const char *path)
{
	char target[PATH_MAX];
	struct tar_entry e;
	ssize_t n = 0;

	if (g->layer && tree_layer_is_whiteout(st)) {
		auto_free char *folder = strndup(path, strlen(path) - strlen(name) - 1);

		return folder ? send_whiteout(g, st, folder, name) : -ENOMEM;
	}
	fill(&e, st, path);
	if (!e.type)
		return 0;
	if (e.type == '2') {
		n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0) {
			complain(g, path, "%s", strerror(errno));
			return 0;
		}
		target[n] = 0;
		e.link = target;
	}
	return send_entry(g, &e);
}

/* What the kernel makes up: no file of it is anybody's. */
static bool made_up(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 &&
	       (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
		       fs.f_type == CGROUP2_SUPER_MAGIC || fs.f_type == DEVPTS_SUPER_MAGIC);
}

static int send_path(
	struct getter *g, int dir, const char *name, const char *path, unsigned depth, bool follow);

static int send_folder(
	struct getter *g, int fd, const struct stat *st, const char *path, unsigned depth)
{
	auto_close int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	auto_closedir DIR *d = NULL;
	struct tar_entry e;
	struct dirent *de;
	int r;

	fill(&e, st, path);
	add_xattrs(g, fd, &e);
	r = send_entry(g, &e);
	if (r == 0 && g->layer && tree_layer_is_opaque(fd))
		r = send_whiteout(g, st, path, ".wh..opq");
	if (r < 0 || made_up(fd))
		return r;
	if (depth >= LIMIT_PATH_DEPTH) {
		complain(g, path, "deeper than %d folders", LIMIT_PATH_DEPTH);
		return 0;
	}
	d = again < 0 ? NULL : fdopendir(again);
	if (!d) {
		complain(g, path, "%s", strerror(errno));
		return 0;
	}
	take_fd(&again);
	while (r == 0 && (de = readdir(d))) {
		auto_free char *below = NULL;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (asprintf(&below, "%s/%s", path, de->d_name) < 0) {
			below = NULL;
			return -ENOMEM;
		}
		r = send_path(g, fd, de->d_name, below, depth + 1, false);
	}
	return r;
}

/* One that cannot be read is told and left out; only a reader that has gone ends it all. */
static int send_path(
	struct getter *g, int dir, const char *name, const char *path, unsigned depth, bool follow)
{
	int nofollow = follow ? 0 : AT_SYMLINK_NOFOLLOW;
	auto_close int fd = -1;
	struct stat st;

	if (fstatat(dir, name, &st, nofollow) < 0) {
		complain(g, path, "%s", strerror(errno));
		return 0;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return send_other(g, dir, name, &st, path);
	/* It may be another by now: what was opened counts. */
	fd = openat(dir, name,
		O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st) < 0) {
		complain(g, path, "%s", strerror(errno));
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return send_folder(g, fd, &st, path, depth);
	return S_ISREG(st.st_mode) ? send_file(g, fd, &st, path) : 0;
}

static int send_all(struct getter *g, int dir, const char *name, const char *path, bool follow)
{
	static const char end[2 * TAR_BLOCK];
	int r = send_path(g, dir, name, path, 0, follow);

	if (r == 0)
		r = fd_write_full(1, end, sizeof(end));
	if (r < 0)
		complain(g, path, "cannot send it: %s", strerror(-r));
	return g->failed;
}

int tree_send_layer(int dir, const char *name)
{
	struct getter g = { .content = malloc(TREE_BUFFER), .layer = true };

	return g.content ? send_all(&g, dir, name, ".", false) : 2;
}

int tree_get(const struct strv *args)
{
	struct getter g = { .content = malloc(TREE_BUFFER) };
	bool follow = args->n > 2 && strcmp(args->v[2], "follow") == 0;

	return args->n < 2 || !g.content ? 2
					 : send_all(&g, AT_FDCWD, args->v[0], args->v[1], follow);
}
