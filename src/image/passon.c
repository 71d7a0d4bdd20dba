/* SPDX-License-Identifier: Apache-2.0 */
/* Images under other names, in archives, to registries. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/limits.h"
#include "image/fetch.h"
#include "image/json.h"
#include "image/store.h"
#include "image/passon.h"

#define LAYOUT	   "{\"imageLayoutVersion\":\"1.0.0\"}"
#define COPY_CHUNK (256 * KIB)

static int check_name(const struct image_ref *ref, const char *text, struct err *err)
{
	return ref->repository && !ref->digest[0]
		       ? 0
		       : err_set(err, EINVAL, "'%.200s' cannot be a name of ours: give NAME[:TAG]",
				 text);
}

int image_name_check(const char *text, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	int r = image_ref_parse(text, &ref, err);

	return r < 0 ? r : check_name(&ref, text, err);
}

int image_tag(struct image_store *store, const char *name, const char *target, struct err *err)
{
	auto_close int lock = store_lock(store, "store", "all", false, NULL, NULL, err);
	auto_clean(image) struct image *image = NULL, *copy = NULL;
	auto_image_ref struct image_ref ref = { 0 };
	int r = lock < 0 ? lock : image_ref_parse(target, &ref, err);

	if (r == 0)
		r = check_name(&ref, target, err);
	if (r == 0)
		r = image_find(store, name, &image, err);
	if (r == 0)
		r = store_make_image(store, ref.name, image->manifest, &copy, err);
	if (r < 0)
		return r;
	memcpy(copy->index, image->index, DIGEST_SIZE);
	copy->pulled = clock_realtime();
	return store_save(store, copy, err);
}

/* The layout's index.json: what the images are called, and their manifests. */

static const char *media_type(const char *manifest, size_t len, char out[static 128])
{
	auto_json json_t *root = json_loadb(manifest, len, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "mediaType"));

	snprintf(out, 128, "%s", type ? type : "application/vnd.oci.image.manifest.v1+json");
	return out;
}

static int add_descriptor(
	struct image_store *store, const struct image *image, json_t *manifests, struct err *err)
{
	auto_free char *text = NULL;
	char type[128];
	size_t len;
	json_t *o;
	int r = store_read_blob(store, image->manifest, &text, &len, err);

	if (r < 0)
		return r;
	o = json_pack("{s:s, s:s, s:I}", "mediaType", media_type(text, len, type), "digest",
		image->manifest, "size", (json_int_t)len);
	if (o && image->reference)
		json_object_set_new(o, "annotations",
			json_pack("{s:s, s:s}", "io.containerd.image.name", image->reference,
				"org.opencontainers.image.ref.name", image->reference));
	return json_array_append_new(manifests, o) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static json_t *index_of(struct image_store *store, const struct image_list *list, struct err *err)
{
	json_t *manifests = json_array();
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = add_descriptor(store, list->items[i], manifests, err);
	if (r < 0) {
		json_decref(manifests);
		return NULL;
	}
	return json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType",
		"application/vnd.oci.image.index.v1+json", "manifests", manifests);
}

/* docker load's manifest.json */

static json_t *blob_path(const char *digest)
{
	return json_sprintf("blobs/sha256/%s", digest_hex(digest));
}

static json_t *docker_manifest(const struct image_list *list)
{
	json_t *all = json_array();

	for (size_t i = 0; i < list->n; i++) {
		const struct image *image = list->items[i];
		json_t *layers = json_array(), *tags = json_array();

		for (size_t k = 0; k < image->n_layers; k++)
			json_array_append_new(layers, blob_path(image->layers[k].digest));
		if (image->reference)
			json_array_append_new(tags, json_string(image->reference));
		json_array_append_new(
			all, json_pack("{s:o, s:o, s:o}", "Config", blob_path(image->id),
				     "RepoTags", tags, "Layers", layers));
	}
	return all;
}

/* The archive */

struct saving {
	struct image_store *store;
	struct archive *a;
	struct strv written; /* blobs */
};

static int add_header(struct saving *s, const char *path, mode_t type, size_t size, struct err *err)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return err_set(err, ENOMEM, "out of memory");
	archive_entry_set_pathname(e, path);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, type == S_IFDIR ? 0755 : 0644);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	r = archive_write_header(s->a, e);
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0
			       : err_set(err, EIO, "cannot write the archive: %.200s",
					 archive_error_string(s->a));
}

static int add_data(struct saving *s, const void *data, size_t len, struct err *err)
{
	return archive_write_data(s->a, data, len) == (la_ssize_t)len
		       ? 0
		       : err_set(err, EIO, "cannot write the archive: %.200s",
				 archive_error_string(s->a));
}

static int add_text(struct saving *s, const char *path, const char *text, struct err *err)
{
	int r = text ? add_header(s, path, S_IFREG, strlen(text), err)
		     : err_set(err, ENOMEM, "out of memory");

	return r < 0 ? r : add_data(s, text, strlen(text), err);
}

static int add_blob(struct saving *s, const char *digest, struct err *err)
{
	auto_close int fd = -1;
	auto_free char *buffer = malloc(COPY_CHUNK);
	char path[DIGEST_SIZE + 16];
	struct stat st;
	ssize_t n = 0;
	int r;

	for (size_t i = 0; i < s->written.n; i++)
		if (strcmp(s->written.v[i], digest) == 0)
			return 0;
	if (!buffer || strv_add(&s->written, digest) < 0)
		return err_set(err, ENOMEM, "out of memory");
	fd = store_open_blob(s->store, digest);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, fd < 0 ? -fd : errno, "cannot read blob %s", digest);
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(digest));
	r = add_header(s, path, S_IFREG, (size_t)st.st_size, err);
	while (r == 0 && (n = read(fd, buffer, COPY_CHUNK)) > 0)
		r = add_data(s, buffer, (size_t)n, err);
	return n < 0 ? err_errno(err, errno, "cannot read blob %s", digest) : r;
}

static int add_image(struct saving *s, const struct image *image, struct err *err)
{
	int r = add_blob(s, image->manifest, err);

	if (r == 0)
		r = add_blob(s, image->id, err);
	for (size_t i = 0; r == 0 && i < image->n_layers; i++)
		r = add_blob(s, image->layers[i].digest, err);
	return r;
}

static int add_all(struct saving *s, const struct image_list *list, struct err *err)
{
	auto_json json_t *root = index_of(s->store, list, err), *docker = docker_manifest(list);
	auto_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	auto_free char *docker_text = json_dumps(docker, JSON_COMPACT);
	int r = root ? add_text(s, "oci-layout", LAYOUT, err) : -EIO;

	if (r == 0)
		r = add_text(s, "index.json", text, err);
	if (r == 0)
		r = add_text(s, "manifest.json", docker_text, err);
	if (r == 0)
		r = add_header(s, "blobs", S_IFDIR, 0, err);
	if (r == 0)
		r = add_header(s, "blobs/sha256", S_IFDIR, 0, err);
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = add_image(s, list->items[i], err);
	return r;
}

static int find_all(struct image_store *store, const char *const *names, size_t n,
	struct image_list *list, struct err *err)
{
	int r = 0;

	list->items = calloc(n + 1, sizeof(*list->items));
	if (!list->items)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = image_find(store, names[i], &list->items[list->n], err);
		list->n += r == 0;
	}
	return r;
}

int image_save(
	struct image_store *store, const char *const *names, size_t n, int fd, struct err *err)
{
	auto_close int lock = store_lock(store, "store", "all", false, NULL, NULL, err);
	struct saving s = { .store = store };
	struct image_list list = { 0 };
	int r = lock < 0 ? lock : find_all(store, names, n, &list, err);

	if (r == 0) {
		s.a = archive_write_new();
		if (!s.a)
			r = err_set(err, ENOMEM, "out of memory");
	}
	if (r == 0) {
		archive_write_set_format_ustar(s.a);
		/* The same whatever it is written to. */
		archive_write_set_bytes_in_last_block(s.a, 1);
		if (archive_write_open_fd(s.a, fd) != ARCHIVE_OK)
			r = err_set(err, EIO, "cannot write the archive: %.200s",
				archive_error_string(s.a));
	}
	if (r == 0)
		r = add_all(&s, &list, err);
	if (r == 0 && archive_write_close(s.a) != ARCHIVE_OK)
		r = err_set(
			err, EIO, "cannot write the archive: %.200s", archive_error_string(s.a));
	archive_write_free(s.a);
	strv_deinit(&s.written);
	image_list_deinit(&list);
	return r;
}

/* To a registry */

int image_folder_new(struct image_store *store, const char *prefix, char **ret_path, int *ret_lock,
	struct err *err)
{
	auto_free char *path = NULL;
	auto_close int fd = -1;
	char id[ID_LEN + 1];

	id_generate(id);
	if (asprintf(&path, "%s/tmp/%s-%s", store->dir, prefix, id) < 0) {
		path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (mkdir(path, 0700) < 0)
		return err_errno(err, errno, "cannot make a folder in '%s/tmp'", store->dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_errno(err, errno, "cannot lock a folder in '%s/tmp'", store->dir);
	*ret_path = take_ptr(path);
	*ret_lock = take_fd(&fd);
	return 0;
}

/* A layout of one image without blobs, in the folder fd. */
static int make_layout(struct image_store *store, struct image *image, int fd, struct err *err)
{
	struct image_list list = { &image, 1 };
	auto_json json_t *root = NULL;
	auto_free char *text = NULL;
	int r;

	root = index_of(store, &list, err);
	if (!root)
		return -EIO;
	/* Its name in the layout is of no use: it is the only one. */
	json_object_del(json_array_get(json_object_get(root, "manifests"), 0), "annotations");
	text = json_dumps(root, JSON_COMPACT);
	r = text ? fs_replace_file(fd, "index.json", text, strlen(text), 0600, false) : -ENOMEM;
	if (r == 0)
		r = fs_replace_file(fd, "oci-layout", LAYOUT, strlen(LAYOUT), 0600, false);
	return r < 0 ? err_errno(err, -r, "cannot write in '%s/tmp'", store->dir) : 0;
}

int image_push(struct image_store *store, const char *name, struct err *err)
{
	auto_close int lock = store_lock(store, "store", "all", false, NULL, NULL, err), fd = -1;
	auto_clean(image) struct image *image = NULL;
	auto_image_ref struct image_ref ref = { 0 };
	auto_free char *layout = NULL, *blobs = NULL;
	int r = lock < 0 ? lock : image_ref_parse(name, &ref, err);

	if (r == 0 && !ref.repository)
		r = err_set(err, EINVAL,
			"'%.200s' names no registry: give the image a name with one (micropod tag)",
			name);
	if (r == 0)
		r = image_find(store, name, &image, err);
	if (r < 0)
		return r;
	if (asprintf(&blobs, "%s/blobs", store->dir) < 0) {
		blobs = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	r = image_folder_new(store, "push", &layout, &fd, err);
	if (r < 0)
		return r;
	r = make_layout(store, image, fd, err);
	if (r == 0)
		r = fetch_push(&ref, layout, blobs, err);
	fs_remove_tree(AT_FDCWD, layout);
	return r;
}
