/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: two libarchive readers in a row. The first takes the blob's bytes and unpacks gzip
 * or zstd ("raw" format), the second takes those and reads tar. Between them every byte passes
 * once: there the digests are computed and the limits on size and ratio looked at, also for what
 * follows the archive's end.
 */
#include "image/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/limits.h"

#define READ_SIZE (1024 * 1024)
#define WINDOW_SIZE \
	(64 * 1024) /* content is taken in pieces of this; one that is all zero becomes a hole */

#define WHITEOUT	".wh."
#define WHITEOUT_LEN	4
#define WHITEOUT_META	".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct window {
	uint8_t *data; /* WINDOW_SIZE, zero beyond what was put in */
	uint64_t at;   /* offset in the file, a multiple of WINDOW_SIZE */
	bool dirty;
};

struct layer {
	struct tree *tree;
	const struct layer_opts *opts;
	struct archive *raw, *tar;
	struct digest *digest; /* of the plain bytes */
	uint8_t *buffer;       /* READ_SIZE, packed */
	uint64_t packed, plain, entries;
	struct window window;
	const char *entry; /* name of the entry being applied, as the layer gives it; NULL: none */
	struct err io;	   /* what a callback found; libarchive's own error is then only an echo */
};

/* Puts layer and entry in front of what is wrong. */
static int bad(const struct layer *l, struct err *err)
{
	if (!l->entry)
		return err_wrap(err, "layer %.19s", l->opts->layer->digest);
	return err_wrap(err, "layer %.19s, entry '%.160s'", l->opts->layer->digest, l->entry);
}

static la_ssize_t fail_io(struct layer *l, struct archive *a)
{
	archive_set_error(a, l->io.code, "%s", l->io.msg);
	return ARCHIVE_FATAL;
}

static la_ssize_t read_packed(struct archive *a, void *arg, const void **ret_data)
{
	struct layer *l = arg;
	ssize_t n;

	do
		n = read(l->opts->layer->fd, l->buffer, READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		err_errno(&l->io, errno, "cannot read the blob");
		return fail_io(l, a);
	}
	l->packed += (uint64_t)n;
	if (l->opts->progress)
		l->opts->progress(l->opts->progress_arg, l->packed);
	*ret_data = l->buffer;
	return n;
}

/* Limits on what comes out of the unpacker. */
static int check_plain(struct layer *l)
{
	if (l->plain > LIMIT_LAYER_BYTES)
		return err_set(&l->io, EFBIG, "it unpacks to more than %llu GiB",
			(unsigned long long)(LIMIT_LAYER_BYTES / GIB));
	if (l->plain > LIMIT_LAYER_RATIO_FLOOR && l->plain / LIMIT_LAYER_RATIO > l->packed)
		return err_set(&l->io, EFBIG, "it unpacks to more than %d times its size",
			LIMIT_LAYER_RATIO);
	return 0;
}

static la_ssize_t read_plain(struct archive *a, void *arg, const void **ret_data)
{
	struct layer *l = arg;
	la_int64_t offset;
	size_t len = 0;
	int r = archive_read_data_block(l->raw, ret_data, &len, &offset);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK) {
		if (!l->io.code)
			err_set(&l->io, EBADMSG, "it cannot be unpacked: %.200s",
				archive_error_string(l->raw) ? archive_error_string(l->raw)
							     : "damaged");
		return fail_io(l, a);
	}
	digest_update(l->digest, *ret_data, len);
	l->plain += len;
	return check_plain(l) < 0 ? fail_io(l, a) : (la_ssize_t)len;
}

/* libarchive's complaint, or what our own callbacks had to say. */
static int archive_failed(struct layer *l, struct archive *a, struct err *err)
{
	if (l->io.code)
		return err_set(err, l->io.code, "%s", l->io.msg);
	return err_set(err, EBADMSG, "%.200s",
		archive_error_string(a) ? archive_error_string(a) : "damaged");
}

static int layer_open(struct layer *l, struct err *err)
{
	struct archive_entry *entry;
	int r;

	l->raw = archive_read_new();
	l->tar = archive_read_new();
	l->digest = digest_new();
	l->buffer = malloc(READ_SIZE);
	l->window.data = calloc(1, WINDOW_SIZE);
	if (!l->raw || !l->tar || !l->digest || !l->buffer || !l->window.data)
		return err_set(err, ENOMEM, "out of memory");
	archive_read_support_filter_gzip(l->raw);
	archive_read_support_filter_zstd(l->raw);
	archive_read_support_format_raw(l->raw);
	r = archive_read_open(l->raw, l, NULL, read_packed, NULL);
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(l->raw, &entry);
	if (r == ARCHIVE_EOF)
		return err_set(err, EBADMSG, "it is empty");
	if (r != ARCHIVE_OK)
		return archive_failed(l, l->raw, err);
	archive_read_support_format_tar(l->tar);
	archive_read_support_format_empty(l->tar);
	r = archive_read_open(l->tar, l, NULL, read_plain, NULL);
	return r == ARCHIVE_OK ? 0 : archive_failed(l, l->tar, err);
}

static void layer_close(struct layer *l)
{
	archive_read_free(l->tar);
	archive_read_free(l->raw);
	digest_free(l->digest);
	free(l->buffer);
	free(l->window.data);
}

/* Content */

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int window_flush(struct layer *l, struct inode *inode, uint64_t size)
{
	struct window *w = &l->window;
	uint64_t len = MIN(size - w->at, (uint64_t)WINDOW_SIZE);
	int r;

	if (!w->dirty)
		return 0;
	w->dirty = false;
	if (all_zero(w->data, len))
		return 0;
	r = blocks_append(l->tree->blocks, w->data, (uint32_t)(w->at / BLOCK_SIZE),
		(len + BLOCK_SIZE - 1) / BLOCK_SIZE, &inode->extents);
	memset(w->data, 0, WINDOW_SIZE);
	return r;
}

static int window_put(struct layer *l, struct inode *inode, uint64_t size, uint64_t at,
	const uint8_t *data, size_t len)
{
	struct window *w = &l->window;

	while (len) {
		uint64_t start = at / WINDOW_SIZE * WINDOW_SIZE;
		size_t n = MIN(len, (size_t)(start + WINDOW_SIZE - at));

		if (w->at != start) {
			int r = window_flush(l, inode, size);

			if (r < 0)
				return r;
			w->at = start;
		}
		memcpy(w->data + (at - start), data, n);
		w->dirty = true;
		data += n;
		at += n;
		len -= n;
	}
	return 0;
}

/* libarchive gives sparse files as pieces with offsets; they never go backwards in a tar, and here
 * may not. */
static int read_content(struct layer *l, struct inode *inode, uint64_t size, struct err *err)
{
	uint64_t end = 0;
	const void *data;
	la_int64_t offset;
	size_t len;
	int r;

	inode->size = size;
	l->window.at = 0;
	while ((r = archive_read_data_block(l->tar, &data, &len, &offset)) == ARCHIVE_OK) {
		if (offset < 0 || (uint64_t)offset < end || (uint64_t)offset > size ||
			len > size - (uint64_t)offset)
			return err_set(err, EBADMSG, "its content does not fit its size");
		end = (uint64_t)offset + len;
		r = window_put(l, inode, size, (uint64_t)offset, data, len);
		if (r < 0)
			return err_errno(err, -r, "cannot write the disk");
	}
	if (r != ARCHIVE_EOF)
		return archive_failed(l, l->tar, err);
	r = window_flush(l, inode, size);
	return r < 0 ? err_errno(err, -r, "cannot write the disk") : 0;
}

/* Attributes */

/* Bytes an attribute takes in ext4's attribute block: entry, name without its prefix, value; each
 * rounded up. */
static size_t xattr_room(const char *name, size_t len)
{
	return 16 + ((strlen(name) + 3) & ~(size_t)3) + ((len + 3) & ~(size_t)3);
}

static bool xattr_wanted(const char *name)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0 &&
			name[strlen(prefixes[i])])
			return true;
	return strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

static int add_xattr(struct attributes *attr, const char *name, const void *value, size_t len)
{
	struct xattr *v = reallocarray(attr->xattrs, attr->n_xattrs + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	attr->xattrs = v;
	v[attr->n_xattrs] =
		(struct xattr){ .name = strdup(name), .value = malloc(len + 1), .len = len };
	attr->n_xattrs++;
	if (!v[attr->n_xattrs - 1].name || !v[attr->n_xattrs - 1].value)
		return -ENOMEM;
	memcpy(v[attr->n_xattrs - 1].value, value, len);
	return 0;
}

static bool has_xattr(const struct attributes *attr, const char *name)
{
	for (size_t i = 0; i < attr->n_xattrs; i++)
		if (strcmp(attr->xattrs[i].name, name) == 0)
			return true;
	return false;
}

static int read_xattrs(struct archive_entry *entry, struct attributes *attr, struct err *err)
{
	size_t room = 36, bytes = 0, len;
	const char *name;
	const void *value;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
		if (!name || !xattr_wanted(name) || has_xattr(attr, name))
			continue;
		bytes += strlen(name) + len;
		room += xattr_room(name, len);
		if (bytes > LIMIT_XATTR_BYTES || room > BLOCK_SIZE || strlen(name) > 255)
			return err_set(err, EFBIG,
				"its extended attributes are larger than ext4 can hold (4 KiB)");
		if (add_xattr(attr, name, value, len) < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

static int read_attributes(struct archive_entry *entry, struct attributes *attr, struct err *err)
{
	la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

	*attr = (struct attributes){ .mode = archive_entry_mode(entry) & (S_IFMT | 07777) };
	if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX)
		return err_set(err, EINVAL, "its owner %lld:%lld cannot be", (long long)uid,
			(long long)gid);
	attr->uid = (uint32_t)uid;
	attr->gid = (uint32_t)gid;
	attr->mtime = archive_entry_mtime(entry);
	attr->mtime_nsec = (uint32_t)MIN(MAX(archive_entry_mtime_nsec(entry), 0L), 999999999L);
	if (S_ISCHR(attr->mode) || S_ISBLK(attr->mode)) {
		attr->major = (uint32_t)archive_entry_rdevmajor(entry);
		attr->minor = (uint32_t)archive_entry_rdevminor(entry);
		if (attr->major > 0xfff || attr->minor > 0xfffff)
			return err_set(
				err, EINVAL, "device %u:%u cannot be", attr->major, attr->minor);
	}
	return read_xattrs(entry, attr, err);
}

/* Entries */

static int link_failed(struct err *err, int r)
{
	if (r == -EFBIG)
		return err_set(
			err, EFBIG, "the image has more than %d entries", LIMIT_LAYER_ENTRIES);
	if (r == -ELOOP)
		return err_set(err, EFBIG, "it is deeper than %d folders", LIMIT_PATH_DEPTH);
	return err_errno(err, -r, "cannot be added");
}

static int add_hard_link(
	struct layer *l, struct inode *dir, const char *name, const char *target, struct err *err)
{
	auto_free char *path = strdup(target);
	struct inode *from;
	const char *from_name;
	struct dentry *d;
	int r;

	if (!path)
		return err_set(err, ENOMEM, "out of memory");
	r = tree_walk(l->tree, path, false, &from, &from_name, err);
	if (r < 0)
		return err_wrap(err, "hard link to '%.100s'", target);
	d = *from_name ? tree_lookup(from, from_name, strlen(from_name)) : NULL;
	if (!d)
		return err_set(err, *from_name ? ENOENT : EINVAL,
			"hard link to '%.100s', which is %s", target,
			*from_name ? "not there" : "the root");
	if (S_ISDIR(d->inode->attr.mode))
		return err_set(err, EINVAL, "hard link to '%.100s', which is a folder", target);
	r = tree_link(l->tree, dir, name, d->inode);
	return r < 0 ? link_failed(err, r) : 0;
}

static int set_target(struct archive_entry *entry, struct inode *inode, struct err *err)
{
	const char *target = archive_entry_symlink(entry);

	if (!target || !*target)
		return err_set(err, EINVAL, "symbolic link to nothing");
	if (strlen(target) >= BLOCK_SIZE)
		return err_set(err, ENAMETOOLONG, "symbolic link to a path of more than %d bytes",
			BLOCK_SIZE - 1);
	inode->target = strdup(target);
	inode->size = strlen(target);
	return inode->target ? 0 : err_set(err, ENOMEM, "out of memory");
}

DEFINE_CLEANUP(inode, struct inode *, inode_free)

/* A folder over a folder: attributes change, content stays. The root is always there. */
static int update_dir(struct layer *l, struct inode *dir, struct dentry *d, struct attributes *attr)
{
	attributes_deinit(&dir->attr);
	dir->attr = *attr;
	*attr = (struct attributes){ 0 };
	if (d)
		d->layer = l->tree->layer;
	return 0;
}

static int add_inode(struct layer *l, struct archive_entry *entry, struct inode *dir,
	const char *name, struct attributes *attr, struct err *err)
{
	auto_clean(inode) struct inode *inode = inode_new(attr->mode);
	la_int64_t size = archive_entry_size(entry);
	struct inode *linked;
	int r = 0;

	if (!inode)
		return err_set(err, ENOMEM, "out of memory");
	inode->attr = *attr;
	*attr = (struct attributes){ 0 };
	if (S_ISLNK(inode->attr.mode))
		r = set_target(entry, inode, err);
	if (S_ISREG(inode->attr.mode) && (size < 0 || (uint64_t)size > LIMIT_LAYER_BYTES))
		r = err_set(err, EFBIG, "a file of %lld bytes", (long long)size);
	if (r < 0)
		return r;
	r = tree_link(l->tree, dir, name, inode);
	if (r < 0)
		return link_failed(err, r);
	linked = take_ptr(inode); /* the tree's now */
	return S_ISREG(linked->attr.mode) ? read_content(l, linked, (uint64_t)size, err) : 0;
}

static int add_entry(struct layer *l, struct archive_entry *entry, struct inode *dir,
	const char *name, struct err *err)
{
	struct attributes attr_owner = { 0 }, *attr = &attr_owner;
	struct dentry *d = tree_lookup(dir, name, strlen(name));
	int r = read_attributes(entry, attr, err);

	if (r < 0)
		goto out;
	switch (attr->mode & S_IFMT) {
	case S_IFDIR:
		if (!*name)
			r = update_dir(l, l->tree->root, NULL, attr);
		else if (d && S_ISDIR(d->inode->attr.mode))
			r = update_dir(l, d->inode, d, attr);
		else
			r = add_inode(l, entry, dir, name, attr, err);
		break;
	case S_IFREG:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		r = *name ? add_inode(l, entry, dir, name, attr, err)
			  : err_set(err, EINVAL, "the root is no folder");
		break;
	default:
		r = err_set(err, EINVAL, "it is of a kind that no layer can hold");
	}
out:
	attributes_deinit(attr);
	return r;
}

static int apply_whiteout(struct layer *l, char *path, struct err *err)
{
	const char *slash = strrchr(path, '/'), *name = (slash ? slash + 1 : path) + WHITEOUT_LEN,
		   *walked;
	bool nothing = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	struct err why = ERR_INIT;
	struct inode *dir;
	struct dentry *d;
	int r;

	if (nothing)
		return err_set(err, EINVAL, "whiteout of nothing");
	r = tree_walk(l->tree, path, false, &dir, &walked, &why);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0; /* nothing there that could be hidden */
	if (r < 0)
		return err_set(err, -r, "%s", why.msg);
	if (strcmp(walked, WHITEOUT_OPAQUE) == 0) {
		r = tree_clear_lower(l->tree, dir);
	} else if (strncmp(walked, WHITEOUT_META, strlen(WHITEOUT_META)) != 0) {
		d = tree_lookup(dir, walked + WHITEOUT_LEN, strlen(walked + WHITEOUT_LEN));
		r = d ? tree_remove_lower(l->tree, d) : 0;
	}
	return r < 0 ? err_errno(err, -r, "cannot be removed") : 0;
}

static bool is_whiteout(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strncmp(slash ? slash + 1 : path, WHITEOUT, WHITEOUT_LEN) == 0;
}

static int apply_entry(struct layer *l, struct archive_entry *entry, struct err *err)
{
	const char *pathname = archive_entry_pathname(entry),
		   *target = archive_entry_hardlink(entry), *name;
	auto_free char *path = NULL;
	struct inode *dir;
	int r;

	if (!pathname || !*pathname)
		return err_set(err, EINVAL, "an entry without a name");
	l->entry = pathname;
	path = strdup(pathname);
	if (!path)
		return err_set(err, ENOMEM, "out of memory");
	if (is_whiteout(path))
		return apply_whiteout(l, path, err);
	r = tree_walk(l->tree, path, true, &dir, &name, err);
	if (r < 0)
		return r;
	if (!target)
		return add_entry(l, entry, dir, name, err);
	if (!*name)
		return err_set(err, EINVAL, "the root is no folder");
	return add_hard_link(l, dir, name, target, err);
}

static int apply_entries(struct layer *l, struct err *err)
{
	struct archive_entry *entry;
	int r, status;

	/* A warning is about names that are not text; they come as the bytes they are. */
	while ((status = archive_read_next_header(l->tar, &entry)) == ARCHIVE_OK ||
		status == ARCHIVE_WARN) {
		if (++l->entries > LIMIT_LAYER_ENTRIES)
			return err_set(
				err, EFBIG, "it has more than %d entries", LIMIT_LAYER_ENTRIES);
		r = apply_entry(l, entry, err);
		if (r < 0)
			return r;
		l->entry = NULL;
	}
	return status == ARCHIVE_EOF ? 0 : archive_failed(l, l->tar, err);
}

/* What follows the archive's end counts for the digest too. */
static int finish(struct layer *l, struct err *err)
{
	const char *want = l->opts->layer->diff_id;
	char actual[DIGEST_SIZE];
	const void *data;
	la_ssize_t n;

	while ((n = read_plain(l->tar, l, &data)) > 0)
		;
	if (n < 0)
		return archive_failed(l, l->tar, err);
	digest_finish(l->digest, actual);
	if (strcmp(actual, want) != 0)
		return err_set(err, EBADMSG,
			"unpacked it has digest %s, but the image's configuration says %.19s: the "
			"image is "
			"wrong, or damaged in the store (then remove it and pull again)",
			actual, want);
	return 0;
}

int layer_apply(struct tree *tree, const struct layer_opts *opts, struct err *err)
{
	struct layer l = { .tree = tree, .opts = opts };
	int r = layer_open(&l, err);

	if (r == 0)
		r = apply_entries(&l, err);
	if (r == 0)
		r = finish(&l, err);
	if (r < 0)
		r = bad(&l, err);
	layer_close(&l);
	return r;
}
