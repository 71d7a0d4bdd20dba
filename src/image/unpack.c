/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the layers are put onto a tree in memory, as for a disk, their content goes into a
 * file; then the tree is walked once, and what each file needs is copied out. So every name is made
 * once, in a folder that was made here, and no link of the image is ever followed.
 */
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "image/tree.h"

struct unpack {
	int data;  /* contents, by block */
	int links; /* folder of files that have more than one name, by number */
	uint32_t n_links;
	bool keep_owner;
};

/* ---- attributes ---- */

static int set_times(int fd, int dir, const char *name, const struct attributes *a)
{
	const struct timespec times[2] = { { a->mtime, a->mtime_nsec },
		{ a->mtime, a->mtime_nsec } };

	return (name ? utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) : futimens(fd, times)) < 0
		       ? -errno
		       : 0;
}

/* Owner before mode: a change of owner takes set-id bits away. Times last. */
static int set_attributes(const struct unpack *u, int fd, const struct attributes *a)
{
	for (size_t i = 0; i < a->n_xattrs; i++) {
		const struct xattr *x = &a->xattrs[i];

		/* Others than user.* are root's to set; not every file system has any. */
		if (fsetxattr(fd, x->name, x->value, x->len, 0) < 0 && errno != EPERM &&
			errno != EOPNOTSUPP)
			return -errno;
	}
	if (u->keep_owner && fchown(fd, a->uid, a->gid) < 0)
		return -errno;
	if (fchmod(fd, a->mode & 07777) < 0)
		return -errno;
	return set_times(fd, -1, NULL, a);
}

/* ---- content ---- */

static int copy_range(int from, off_t in, int to, off_t out, size_t len)
{
	while (len) {
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_content(const struct unpack *u, const struct inode *inode, int fd)
{
	int r = ftruncate(fd, (off_t)inode->size) < 0 ? -errno : 0;

	for (size_t i = 0; r == 0 && i < inode->extents.n; i++) {
		const struct extent *e = &inode->extents.v[i];
		uint64_t at = (uint64_t)e->logical * BLOCK_SIZE;

		/* The last block is filled up with zeros. */
		if (at < inode->size)
			r = copy_range(u->data, (off_t)(e->physical * BLOCK_SIZE), fd, (off_t)at,
				MIN((uint64_t)e->len * BLOCK_SIZE, inode->size - at));
	}
	return r;
}

static int make_file(const struct unpack *u, const struct inode *inode, int dir, const char *name)
{
	auto_close int fd =
		openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : copy_content(u, inode, fd);

	return r < 0 ? r : set_attributes(u, fd, &inode->attr);
}

/* ---- entries ---- */

static int own(const struct unpack *u, int dir, const char *name, const struct attributes *a)
{
	if (u->keep_owner && fchownat(dir, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return set_times(-1, dir, name, a);
}

static int make_link(const struct unpack *u, const struct inode *inode, int dir, const char *name)
{
	return symlinkat(inode->target, dir, name) < 0 ? -errno : own(u, dir, name, &inode->attr);
}

static int make_fifo(const struct unpack *u, const struct inode *inode, int dir, const char *name)
{
	int r = mknodat(dir, name, S_IFIFO | 0600, 0) < 0 ? -errno : 0;

	/* Before the mode: see set_attributes(). It is new, and nobody else's. */
	if (r == 0)
		r = own(u, dir, name, &inode->attr);
	if (r == 0 && fchmodat(dir, name, inode->attr.mode & 07777, 0) < 0)
		r = -errno;
	return r;
}

static int make_one(const struct unpack *u, const struct inode *inode, int dir, const char *name)
{
	switch (inode->attr.mode & S_IFMT) {
	case S_IFREG:
		return make_file(u, inode, dir, name);
	case S_IFLNK:
		return make_link(u, inode, dir, name);
	case S_IFIFO:
		return make_fifo(u, inode, dir, name);
	default:
		return 0; /* a device */
	}
}

/* The first of several names makes it; the later ones are links to that. */
static int make_named(struct unpack *u, struct inode *inode, int dir, const char *name)
{
	char number[16];
	int r = 0;

	if (inode->nlink < 2 || S_ISCHR(inode->attr.mode) || S_ISBLK(inode->attr.mode))
		return make_one(u, inode, dir, name);
	if (!inode->number) {
		inode->number = ++u->n_links;
		snprintf(number, sizeof(number), "%u", inode->number);
		r = make_one(u, inode, u->links, number);
	}
	snprintf(number, sizeof(number), "%u", inode->number);
	if (r == 0 && linkat(u->links, number, dir, name, 0) < 0)
		r = -errno;
	return r;
}

static int fill_folder(struct unpack *u, const struct inode *inode, int fd, struct err *err);

static int make_entry(
	struct unpack *u, struct inode *inode, int dir, const char *name, struct err *err)
{
	auto_close int fd = -1;
	int r;

	if (!S_ISDIR(inode->attr.mode)) {
		r = make_named(u, inode, dir, name);
		return r < 0 ? err_errno(err, -r, "cannot unpack '%.200s'", name) : 0;
	}
	if (mkdirat(dir, name, 0700) == 0)
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "cannot unpack '%.200s'", name)
		      : fill_folder(u, inode, fd, err);
}

/* Its own attributes come when all is in it. */
static int fill_folder(struct unpack *u, const struct inode *inode, int fd, struct err *err)
{
	auto_free struct dentry **children = tree_children(inode);
	int r = 0;

	if (!children)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && children[i]; i++)
		r = make_entry(u, children[i]->inode, fd, children[i]->name, err);
	if (r < 0)
		return r;
	r = set_attributes(u, fd, &inode->attr);
	return r < 0 ? err_errno(err, -r, "cannot set the attributes of a folder") : 0;
}

static int write_out(const struct disk_build *build, struct tree *tree, int dir, struct err *err)
{
	auto_close int root =
		openat(dir, UNPACK_ROOT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int links =
		openat(dir, UNPACK_LINKS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct unpack u = { .data = build->out_fd, .links = links, .keep_owner = geteuid() == 0 };

	if (root < 0 || links < 0)
		return err_errno(err, errno, "cannot open the folder to unpack to");
	return fill_folder(&u, tree->root, root, err);
}

int unpack_build(const struct disk_build *build, int dir, struct err *err)
{
	struct blocks blocks;
	struct tree tree = { 0 };
	int r;

	umask(0);
	r = disk_read_layers(build, &tree, &blocks, err);
	if (r == 0)
		r = write_out(build, &tree, dir, err);
	tree_deinit(&tree);
	blocks_deinit(&blocks);
	return r;
}
