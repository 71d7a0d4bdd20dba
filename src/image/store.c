/* SPDX-License-Identifier: Apache-2.0 */
#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/limits.h"
#include "image/disk.h"
#include "image/unpack.h"

static int open_dir(const char *parent, const char *name, int *ret_fd, struct err *err)
{
	auto_free char *path = NULL;
	int r, fd;

	if (asprintf(&path, "%s/%s", parent, name) < 0) {
		path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	r = fs_make_dirs(path, 0700);
	if (r < 0)
		return err_errno(err, -r, "cannot make folder '%s'", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot open folder '%s'", path);
	*ret_fd = fd;
	return 0;
}

int image_store_open(const char *root, struct image_store **ret_store, struct err *err)
{
	auto_clean(image_store) struct image_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	s->dirfd = s->blobs = s->refs = s->disks = s->trees = s->locks = s->tmp = -1;
	if (asprintf(&s->dir, "%s/images", root) < 0) {
		s->dir = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if ((r = open_dir(root, "images", &s->dirfd, err)) < 0 ||
		(r = open_dir(s->dir, "blobs/sha256", &s->blobs, err)) < 0 ||
		(r = open_dir(s->dir, "refs", &s->refs, err)) < 0 ||
		(r = open_dir(s->dir, "disks", &s->disks, err)) < 0 ||
		(r = open_dir(s->dir, "trees", &s->trees, err)) < 0 ||
		(r = open_dir(s->dir, "locks", &s->locks, err)) < 0 ||
		(r = open_dir(s->dir, "tmp", &s->tmp, err)) < 0)
		return r;
	*ret_store = take_ptr(s);
	return 0;
}

struct image_store *image_store_close(struct image_store *s)
{
	if (!s)
		return NULL;
	safe_close(s->dirfd);
	safe_close(s->blobs);
	safe_close(s->refs);
	safe_close(s->disks);
	safe_close(s->trees);
	safe_close(s->locks);
	safe_close(s->tmp);
	free(s->dir);
	free(s);
	return NULL;
}

int store_temp_open(struct image_store *store, struct store_temp *ret_temp, struct err *err)
{
	auto_store_temp struct store_temp t = STORE_TEMP_INIT;
	uint8_t raw[16];

	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), t.name);
	t.store = store;
	t.fd = openat(store->tmp, t.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (t.fd < 0)
		return err_errno(err, errno, "cannot make a file in '%s/tmp'", store->dir);
	if (flock(t.fd, LOCK_SH | LOCK_NB) < 0)
		return err_errno(err, errno, "cannot lock a file in '%s/tmp'", store->dir);
	*ret_temp = t;
	t = STORE_TEMP_INIT;
	return 0;
}

int store_temp_commit(
	struct store_temp *t, int dirfd, const char *name, mode_t mode, struct err *err)
{
	if (fchmod(t->fd, mode) < 0 || fdatasync(t->fd) < 0)
		return err_errno(err, errno, "cannot save a file in '%s'", t->store->dir);
	if (renameat(t->store->tmp, t->name, dirfd, name) < 0)
		return err_errno(err, errno, "cannot save '%s' in '%s'", name, t->store->dir);
	if (fsync(dirfd) < 0)
		return err_errno(err, errno, "cannot save '%s' in '%s'", name, t->store->dir);
	t->name[0] = 0;
	return 0;
}

void store_temp_deinit(struct store_temp *t)
{
	if (t->store && t->name[0] && t->fd >= 0)
		unlinkat(t->store->tmp, t->name, 0);
	safe_close(t->fd);
	*t = STORE_TEMP_INIT;
}

bool store_has_blob(const struct image_store *store, const char *digest, uint64_t size)
{
	struct stat st;

	return fstatat(store->blobs, digest_hex(digest), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

int store_open_blob(const struct image_store *store, const char *digest)
{
	int fd = openat(store->blobs, digest_hex(digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

int store_read_blob(const struct image_store *store, const char *digest, char **ret_data,
	size_t *ret_len, struct err *err)
{
	auto_free char *data = NULL;
	char actual[DIGEST_SIZE];
	size_t len;
	int r = fs_read_file(store->blobs, digest_hex(digest), LIMIT_MANIFEST, &data, &len);

	if (r == 0)
		r = digest_of(data, len, actual);
	if (r < 0)
		return err_errno(err, -r, "cannot read blob %s", digest);
	if (strcmp(actual, digest) != 0)
		return err_set(err, EBADMSG,
			"blob %s in '%s' is damaged (it has digest %s): remove the image and pull "
			"it again",
			digest, store->dir, actual);
	*ret_data = take_ptr(data);
	*ret_len = len;
	return 0;
}

int store_put_blob(struct image_store *store, const void *data, size_t len,
	char out[static DIGEST_SIZE], struct err *err)
{
	auto_store_temp struct store_temp t = STORE_TEMP_INIT;
	int r = digest_of(data, len, out);

	if (r < 0)
		return err_set(err, ENOMEM, "out of memory");
	r = store_temp_open(store, &t, err);
	if (r < 0)
		return r;
	r = fd_write_full(t.fd, data, len);
	if (r < 0)
		return err_errno(err, -r, "cannot write to '%s'", store->dir);
	return store_temp_commit(&t, store->blobs, digest_hex(out), 0400, err);
}

int store_lock(const struct image_store *store, const char *kind, const char *key, bool exclusive,
	void (*busy)(void *arg), void *arg, struct err *err)
{
	char name[DIGEST_SIZE + 32];
	int fd;

	snprintf(name, sizeof(name), "%s-%s", kind, key);
	fd = fs_lock(store->locks, name, exclusive, false);
	if (fd == -EWOULDBLOCK) {
		if (busy)
			busy(arg);
		fd = fs_lock(store->locks, name, exclusive, true);
	}
	if (fd < 0)
		return err_errno(err, -fd, "cannot lock '%s/locks/%s'", store->dir, name);
	return fd;
}

void store_disk_name(const char *id, char out[static DIGEST_SIZE + 16])
{
	snprintf(out, DIGEST_SIZE + 16, "%s-%d.img", digest_hex(id), DISK_FORMAT);
}

void store_tree_name(const char *id, char out[static DIGEST_SIZE + 16])
{
	snprintf(out, DIGEST_SIZE + 16, "%s-%d", digest_hex(id), UNPACK_FORMAT);
}

/* A name is used by sweep and list alone if it is 64 hex digits, then perhaps a tail. */
static bool hex_name(const char *name, const char *tail)
{
	return strspn(name, "0123456789abcdef") == DIGEST_HEX_LEN &&
	       strcmp(name + DIGEST_HEX_LEN, tail) == 0;
}

/* Calls fn with each entry's name. 0 or the first negative result. */
static int each_entry(int dirfd, int (*fn)(void *arg, const char *name), void *arg)
{
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	auto_closedir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (!dir) {
		r = -errno;
		safe_close(copy);
		return r;
	}
	while (r == 0 && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			r = fn(arg, e->d_name);
	return r;
}

struct load_all {
	const struct image_store *store;
	struct image_list *list;
};

static int load_one(void *arg, const char *name)
{
	struct load_all *all = arg;
	auto_clean(image) struct image *image = NULL;
	struct image **items;

	/* What cannot be read (blobs gone, damaged) is not there; prune removes it. */
	if (!hex_name(name, ".json") || store_load_record(all->store, name, &image, NULL) < 0)
		return 0;
	items = reallocarray(all->list->items, all->list->n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	all->list->items = items;
	items[all->list->n++] = take_ptr(image);
	return 0;
}

int store_load_all(const struct image_store *store, struct image_list *ret_list, struct err *err)
{
	struct image_list list = { 0 };
	struct load_all all = { store, &list };
	int r = each_entry(store->refs, load_one, &all);

	if (r < 0) {
		image_list_deinit(&list);
		return err_errno(err, -r, "cannot list '%s/refs'", store->dir);
	}
	*ret_list = list;
	return 0;
}

struct sweep {
	struct image_store *store;
	const struct image_list *list;
	struct image_removed *removed;
};

static bool needs_blob(const struct image *image, const char *hex)
{
	if (strcmp(digest_hex(image->manifest), hex) == 0 ||
		strcmp(digest_hex(image->id), hex) == 0)
		return true;
	for (size_t i = 0; i < image->n_layers; i++)
		if (strcmp(digest_hex(image->layers[i].digest), hex) == 0)
			return true;
	return false;
}

static int sweep_file(struct sweep *s, int dirfd, const char *name, size_t *count)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(dirfd, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	s->removed->bytes += (uint64_t)st.st_blocks * 512;
	if (count)
		(*count)++;
	return 0;
}

static int sweep_blob(void *arg, const char *name)
{
	struct sweep *s = arg;

	for (size_t i = 0; i < s->list->n; i++)
		if (needs_blob(s->list->items[i], name))
			return 0;
	return sweep_file(s, s->store->blobs, name, &s->removed->blobs);
}

static int sweep_disk(void *arg, const char *name)
{
	struct sweep *s = arg;
	char used[DIGEST_SIZE + 16];

	for (size_t i = 0; i < s->list->n; i++) {
		store_disk_name(s->list->items[i]->id, used);
		if (strcmp(name, used) == 0)
			return 0;
	}
	return sweep_file(s, s->store->disks, name, NULL);
}

static int sweep_tree(void *arg, const char *name)
{
	struct sweep *s = arg;
	char used[DIGEST_SIZE + 16];

	for (size_t i = 0; i < s->list->n; i++) {
		store_tree_name(s->list->items[i]->id, used);
		if (strcmp(name, used) == 0)
			return 0;
	}
	return fs_remove_tree(s->store->trees, name);
}

/* A temporary file is left over if nobody holds it locked. */
static int sweep_temp(void *arg, const char *name)
{
	struct sweep *s = arg;
	auto_close int fd =
		openat(s->store->tmp, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		return 0;
	/* What a push has left is a folder. */
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)
		       ? fs_remove_tree(s->store->tmp, name)
		       : sweep_file(s, s->store->tmp, name, NULL);
}

/* Records whose image cannot be loaded keep nothing alive and go too. */
static int sweep_record(void *arg, const char *name)
{
	struct sweep *s = arg;
	auto_clean(image) struct image *image = NULL;
	int r = hex_name(name, ".json") ? store_load_record(s->store, name, &image, NULL)
					: -EBADMSG;

	return r == -ENOENT || r == -EBADMSG ? sweep_file(s, s->store->refs, name, NULL) : 0;
}

int store_sweep(struct image_store *store, struct image_removed *removed, struct err *err)
{
	struct image_list list = { 0 };
	struct sweep s = { store, &list, removed };
	int r = each_entry(store->refs, sweep_record, &s);

	if (r == 0)
		r = store_load_all(store, &list, NULL);
	if (r == 0)
		r = each_entry(store->blobs, sweep_blob, &s);
	if (r == 0)
		r = each_entry(store->disks, sweep_disk, &s);
	if (r == 0)
		r = each_entry(store->trees, sweep_tree, &s);
	if (r == 0)
		r = each_entry(store->tmp, sweep_temp, &s);
	image_list_deinit(&list);
	return r < 0 ? err_errno(err, -r, "cannot clean up '%s'", store->dir) : 0;
}
