/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: confined workers unpack the archive if it is packed (skopeo 1.9 fails on some) and
 * read its table of contents, manifest.json (docker save) or index.json (OCI). Then each image in
 * it is fetched by skopeo as from a registry, under a name of our own for the file, because
 * skopeo's syntax has no way to write a ':' in a path.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/proc.h"
#include "image/confine.h"
#include "image/json.h"
#include "image/pull.h"
#include "image/ref.h"
#include "image/store.h"

#define READ_DEADLINE (600 * NSEC_PER_SEC)
#define COPY_CHUNK    (256 * KIB)

struct contents {
	int fd;	 /* the archive */
	int out; /* what was found goes here: 'd' (docker) or 'o' (OCI), then the JSON */
};

static int copy_entry(struct archive *a, char kind, int out)
{
	const void *data;
	la_int64_t offset;
	size_t len, total = 0;
	int r, status;

	if (lseek(out, 0, SEEK_SET) < 0 || ftruncate(out, 0) < 0)
		return -errno;
	r = fd_write_full(out, &kind, 1);
	while (r == 0 &&
		(status = archive_read_data_block(a, &data, &len, &offset)) == ARCHIVE_OK) {
		total += len;
		r = total > LIMIT_MANIFEST ? -EFBIG : fd_write_full(out, data, len);
	}
	return r < 0 ? r : status == ARCHIVE_EOF ? 0 : -EBADMSG;
}

/* In the worker. docker save writes both files since it knows OCI; its own has the names in full.
 */
static int find_contents(struct archive *a, int out, struct err *err)
{
	struct archive_entry *entry;
	size_t entries = 0;
	bool found = false;
	int status, r = 0;

	while ((status = archive_read_next_header(a, &entry)) == ARCHIVE_OK ||
		status == ARCHIVE_WARN) {
		const char *name = archive_entry_pathname(entry);

		if (++entries > LIMIT_LAYER_ENTRIES)
			return err_set(err, EFBIG, "it has too many entries");
		if (name && strncmp(name, "./", 2) == 0)
			name += 2;
		if (name && strcmp(name, "manifest.json") == 0)
			return copy_entry(a, 'd', out);
		if (name && strcmp(name, "index.json") == 0) {
			r = copy_entry(a, 'o', out);
			found = true;
		}
		if (r < 0)
			return r;
	}
	if (status != ARCHIVE_EOF)
		return err_set(err, EBADMSG, "%.200s", archive_error_string(a));
	return found ? 0 : err_set(err, EINVAL, "it has neither manifest.json nor index.json");
}

static int read_contents(void *arg, struct err *err)
{
	const struct contents *c = arg;
	struct archive *a = archive_read_new();
	int r;

	if (!a || !setlocale(LC_CTYPE, "C.UTF-8"))
		return err_set(err, ENOMEM, "out of memory");
	r = confine_worker(LIMIT_IMAGE_MEMORY, err);
	if (r < 0)
		return r;
	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, c->fd, COPY_CHUNK) != ARCHIVE_OK)
		return err_set(err, EBADMSG, "%.200s", archive_error_string(a));
	return find_contents(a, c->out, err);
}

/* In the worker: gzip or zstd from fd to out. */
static int unpack(void *arg, struct err *err)
{
	const struct contents *c = arg;
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	uint64_t total = 0;
	la_int64_t offset;
	const void *data;
	size_t len;
	int r, status;

	if (!a)
		return err_set(err, ENOMEM, "out of memory");
	r = confine_worker(LIMIT_IMAGE_MEMORY, err);
	if (r < 0)
		return r;
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_raw(a);
	status = archive_read_open_fd(a, c->fd, COPY_CHUNK);
	if (status == ARCHIVE_OK)
		status = archive_read_next_header(a, &entry);
	while (r == 0 && status == ARCHIVE_OK &&
		(status = archive_read_data_block(a, &data, &len, &offset)) == ARCHIVE_OK) {
		total += len;
		if (total > LIMIT_LAYER_BYTES)
			return err_set(err, EFBIG, "it unpacks to more than %llu GiB",
				(unsigned long long)(LIMIT_LAYER_BYTES / GIB));
		r = fd_write_full(c->out, data, len);
	}
	if (r < 0)
		return err_errno(err, -r, "cannot unpack it");
	return status == ARCHIVE_EOF ? 0 : err_set(err, EBADMSG, "%.200s", archive_error_string(a));
}

struct load {
	struct image_store *store;
	const struct image_pull_opts *opts;
	const char *shown; /* the archive, for messages */
	char *path;	   /* where skopeo finds it */
	struct image_list *list;
};

static int keep(struct load *l, struct image *image)
{
	struct image **items = reallocarray(l->list->items, l->list->n + 1, sizeof(*items));

	if (!items) {
		image_free(image);
		return -ENOMEM;
	}
	l->list->items = items;
	items[l->list->n++] = image;
	return 0;
}

/* The image under one more name. */
static int save_as(struct load *l, const struct image *image, const char *name, struct err *err)
{
	struct image *copy;
	int r = store_make_image(l->store, name, image->manifest, &copy, err);

	if (r < 0)
		return r;
	memcpy(copy->index, image->index, DIGEST_SIZE);
	copy->pulled = clock_realtime();
	r = store_save(l->store, copy, err);
	if (r < 0) {
		image_free(copy);
		return r;
	}
	return keep(l, copy) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* names: a JSON array of strings, or NULL. */
static int load_one(struct load *l, char *source, const json_t *names, struct err *err)
{
	struct image_ref ref = { .name = (char *)l->shown, .source = source };
	struct image *image;
	size_t n = json_array_size(names);
	int r = 0;

	if (!source)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < MAX(n, (size_t)1) && r == 0; i++) {
		auto_image_ref struct image_ref name = { 0 };
		const char *text = json_string_value(json_array_get(names, i));

		if (n && (!text || (r = image_ref_parse(text, &name, err)) < 0))
			return text ? r
				    : err_set(err, EBADMSG,
					      "archive '%.200s': its names are not valid",
					      l->shown);
		if (i > 0) {
			r = save_as(l, image, name.name, err);
			continue;
		}
		r = pull_from(l->store, &ref, n ? name.name : NULL, l->opts, &image, err);
		if (r == 0 && keep(l, image) < 0)
			r = err_set(err, ENOMEM, "out of memory");
	}
	return r;
}

static int load_docker(struct load *l, const json_t *root, struct err *err)
{
	int r = 0;

	if (!json_is_array(root) || json_array_size(root) == 0 ||
		json_array_size(root) > LIMIT_LAYERS)
		return err_set(
			err, EBADMSG, "archive '%.200s': manifest.json is not valid", l->shown);
	for (size_t i = 0; i < json_array_size(root) && r == 0; i++) {
		auto_free char *source = NULL;

		if (asprintf(&source, "docker-archive:%s:@%zu", l->path, i) < 0)
			source = NULL;
		r = load_one(l, source, json_object_get(json_array_get(root, i), "RepoTags"), err);
	}
	return r;
}

/* A name that says more than a tag, as an array of one; NULL: none. */
static json_t *oci_names(const json_t *annotations)
{
	const char *full =
		json_string_value(json_object_get(annotations, "io.containerd.image.name"));
	const char *name = json_string_value(
		json_object_get(annotations, "org.opencontainers.image.ref.name"));

	if (!full && name && strpbrk(name, "/:"))
		full = name;
	return full ? json_pack("[s]", full) : NULL;
}

static int load_oci(struct load *l, const json_t *root, struct err *err)
{
	const json_t *list = json_object_get(root, "manifests");
	size_t n = json_array_size(list);
	int r = 0;

	if (n == 0 || n > LIMIT_LAYERS)
		return err_set(err, EBADMSG, "archive '%.200s': index.json is not valid", l->shown);
	for (size_t i = 0; i < n && r == 0; i++) {
		const json_t *annotations = json_object_get(json_array_get(list, i), "annotations");
		const char *tag = json_string_value(
			json_object_get(annotations, "org.opencontainers.image.ref.name"));
		auto_json json_t *names = oci_names(annotations);
		auto_free char *source = NULL;

		if (n > 1 && !tag)
			return err_set(err, EINVAL,
				"archive '%.200s' has several images, one of them without a name",
				l->shown);
		if (asprintf(&source, "oci-archive:%s%s%s", l->path, n > 1 ? ":" : "",
			    n > 1 ? tag : "") < 0)
			source = NULL;
		r = load_one(l, source, names, err);
	}
	return r;
}

static int load_all(struct load *l, int fd, struct err *err)
{
	auto_store_temp struct store_temp found = STORE_TEMP_INIT;
	struct contents contents = { .fd = fd };
	auto_free char *text = NULL;
	auto_json json_t *root = NULL;
	size_t len;
	int r = store_temp_open(l->store, &found, err);

	if (r < 0)
		return r;
	contents.out = found.fd;
	r = proc_call(read_contents, &contents, deadline_in(READ_DEADLINE), err);
	if (r < 0)
		return err_wrap(err, "archive '%.200s' cannot be read", l->shown);
	if (lseek(found.fd, 0, SEEK_SET) < 0 ||
		(r = fd_read_all(found.fd, LIMIT_MANIFEST + 1, &text, &len)) < 0)
		return err_errno(err, r < 0 ? -r : errno, "cannot read a temporary file");
	root = len > 1 ? json_loadb(text + 1, len - 1, 0, NULL) : NULL;
	return text[0] == 'd' ? load_docker(l, root, err) : load_oci(l, root, err);
}

/* skopeo needs a file, by name. */
static int spool(struct load *l, int fd, struct store_temp *temp, struct err *err)
{
	auto_free char *buf = malloc(COPY_CHUNK);
	ssize_t n;
	int r = buf ? store_temp_open(l->store, temp, err) : err_set(err, ENOMEM, "out of memory");

	if (r < 0)
		return r;
	while ((n = fd_read_full(fd, buf, COPY_CHUNK)) > 0)
		if ((r = fd_write_full(temp->fd, buf, (size_t)n)) < 0)
			return err_errno(err, -r, "cannot write to '%s'", l->store->dir);
	if (n < 0)
		return err_errno(err, (int)-n, "cannot read the archive");
	return 0;
}

/* path: NULL if the temporary file is the archive; else its name becomes a link to the archive, and
 * goes with it. */
static int open_archive(struct load *l, const char *path, int *ret_fd, struct err *err)
{
	auto_free char *real = path ? realpath(path, NULL) : NULL;

	if (strchr(l->path, ':'))
		return err_set(err, EINVAL,
			"skopeo cannot read archives below '%s': choose a root without ':'",
			l->store->dir);
	if (path && (!real || unlink(l->path) < 0 || symlink(real, l->path) < 0))
		return err_errno(err, errno, "cannot open archive '%s'", path);
	*ret_fd = open(l->path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(err, errno, "cannot open archive '%s'", l->shown) : 0;
}

static bool is_packed(int fd)
{
	uint8_t magic[4] = { 0 };

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       (memcmp(magic, "\x1f\x8b", 2) == 0 || memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0);
}

/* Replaces a packed archive by a plain one in a temporary file. */
static int unpack_to(struct load *l, int *fd, struct store_temp *temp, struct err *err)
{
	struct contents contents = { .fd = *fd };
	char *path;
	int r = store_temp_open(l->store, temp, err);

	if (r < 0)
		return r;
	contents.out = temp->fd;
	r = proc_call(unpack, &contents, deadline_in(READ_DEADLINE), err);
	if (r < 0)
		return err_wrap(err, "archive '%.200s' cannot be read", l->shown);
	if (asprintf(&path, "%s/tmp/%s", l->store->dir, temp->name) < 0)
		return err_set(err, ENOMEM, "out of memory");
	free(l->path);
	l->path = path;
	safe_close(*fd);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? err_errno(err, errno, "cannot open '%s'", path) : 0;
}

int image_load(struct image_store *store, const char *path, int fd,
	const struct image_pull_opts *opts, struct image_list *ret_list, struct err *err)
{
	auto_store_temp struct store_temp temp = STORE_TEMP_INIT, plain = STORE_TEMP_INIT;
	auto_close int file = -1, lock = -1;
	struct image_list list = { 0 };
	struct load l = { .store = store,
		.opts = opts,
		.shown = path ? path : "(standard input)",
		.list = &list };
	int r;

	lock = store_lock(store, "store", "all", false, NULL, NULL, err);
	if (lock < 0)
		return lock;
	r = path ? store_temp_open(store, &temp, err) : spool(&l, fd, &temp, err);
	if (r < 0)
		return r;
	if (asprintf(&l.path, "%s/tmp/%s", store->dir, temp.name) < 0)
		return err_set(err, ENOMEM, "out of memory");
	r = open_archive(&l, path, &file, err);
	if (r == 0 && is_packed(file))
		r = unpack_to(&l, &file, &plain, err);
	if (r == 0)
		r = load_all(&l, file, err);
	free(l.path);
	if (r < 0) {
		image_list_deinit(&list);
		return r;
	}
	*ret_list = list;
	return 0;
}
