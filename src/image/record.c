/* SPDX-License-Identifier: Apache-2.0 */
/* Images as the store knows them: records of references, and what manifest and configuration say.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/limits.h"
#include "image/json.h"
#include "image/manifest.h"
#include "image/store.h"

#define RECORD_MAX (16 * KIB)

struct image *image_free(struct image *image)
{
	if (!image)
		return NULL;
	free(image->reference);
	free(image->layers);
	image_config_deinit(&image->config);
	free(image);
	return NULL;
}

void image_list_deinit(struct image_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		image_free(list->items[i]);
	free(list->items);
	*list = (struct image_list){ 0 };
}

/* Name of a record's file: the reference's digest, or the manifest's of an untagged image. */
static int record_name(
	const char *reference, const char *manifest, char out[static DIGEST_SIZE + 8])
{
	char digest[DIGEST_SIZE];
	int r = 0;

	if (reference)
		r = digest_of(reference, strlen(reference), digest);
	else
		memcpy(digest, manifest, DIGEST_SIZE);
	if (r == 0)
		snprintf(out, DIGEST_SIZE + 8, "%s.json", digest_hex(digest));
	return r;
}

static int load_layers(const struct manifest *m, struct image *image, struct err *err)
{
	const struct strv *diff_ids = &image->config.diff_ids;

	if (diff_ids->n != m->n)
		return err_set(err, EBADMSG, "image %s has %zu layers but its configuration %zu",
			image->id, m->n, diff_ids->n);
	image->layers = calloc(m->n + 1, sizeof(*image->layers));
	if (!image->layers)
		return err_set(err, ENOMEM, "out of memory");
	image->n_layers = m->n;
	for (size_t i = 0; i < m->n; i++) {
		struct image_layer *layer = &image->layers[i];

		if (!digest_valid(diff_ids->v[i]))
			return err_set(err, EBADMSG, "image configuration is not valid: diff_ids");
		memcpy(layer->digest, m->items[i].digest, DIGEST_SIZE);
		memcpy(layer->diff_id, diff_ids->v[i], DIGEST_SIZE);
		layer->size = m->items[i].size;
		image->size += layer->size;
	}
	return 0;
}

int store_make_image(const struct image_store *store, const char *reference,
	const char *manifest_digest, struct image **ret_image, struct err *err)
{
	auto_clean(image) struct image *image = calloc(1, sizeof(*image));
	auto_manifest struct manifest m = { 0 };
	auto_free char *manifest = NULL, *config = NULL;
	size_t manifest_len, config_len;
	int r;

	if (!image || (reference && !(image->reference = strdup(reference))))
		return err_set(err, ENOMEM, "out of memory");
	if ((r = store_read_blob(store, manifest_digest, &manifest, &manifest_len, err)) < 0 ||
		(r = manifest_parse(manifest, manifest_len, &m, err)) < 0)
		return r;
	if (m.is_index)
		return err_set(err, EBADMSG, "manifest %s is an index", manifest_digest);
	if ((r = store_read_blob(store, m.config.digest, &config, &config_len, err)) < 0 ||
		(r = image_config_parse(config, config_len, &image->config, err)) < 0)
		return r;
	memcpy(image->manifest, manifest_digest, DIGEST_SIZE);
	memcpy(image->index, manifest_digest, DIGEST_SIZE);
	memcpy(image->id, m.config.digest, DIGEST_SIZE);
	image->size = manifest_len + config_len;
	r = load_layers(&m, image, err);
	if (r < 0)
		return r;
	*ret_image = take_ptr(image);
	return 0;
}

/* A record is ours, but may be damaged or from a newer version. */
static int read_record(const struct image_store *store, const json_t *root,
	struct image **ret_image, struct err *err)
{
	const char *manifest = json_string_value(json_object_get(root, "manifest"));
	const char *index = json_string_value(json_object_get(root, "index"));
	const char *reference = json_string_value(json_object_get(root, "reference"));
	auto_clean(image) struct image *image = NULL;
	int r;

	if (!manifest || !digest_valid(manifest) || !index || !digest_valid(index))
		return err_set(err, EBADMSG, "a record in '%s/refs' is not valid", store->dir);
	r = store_make_image(store, reference, manifest, &image, err);
	if (r < 0)
		return r;
	memcpy(image->index, index, DIGEST_SIZE);
	image->pulled = json_integer_value(json_object_get(root, "pulled"));
	for (size_t i = 0; i < image->n_layers; i++)
		if (!store_has_blob(store, image->layers[i].digest, image->layers[i].size))
			return err_set(err, ENOENT,
				"layer %s is missing in '%s': pull the image again",
				image->layers[i].digest, store->dir);
	*ret_image = take_ptr(image);
	return 0;
}

int store_load_record(const struct image_store *store, const char *file, struct image **ret_image,
	struct err *err)
{
	auto_free char *text = NULL;
	auto_json json_t *root = NULL;
	size_t len;
	int r = fs_read_file(store->refs, file, RECORD_MAX, &text, &len);

	if (r < 0)
		return err_errno(err, -r, "cannot read '%s/refs/%s'", store->dir, file);
	root = json_loadb(text, len, 0, NULL);
	return read_record(store, root, ret_image, err);
}

int store_load(const struct image_store *store, const char *reference, struct image **ret_image,
	struct err *err)
{
	char name[DIGEST_SIZE + 8];
	int r = record_name(reference, NULL, name);

	return r < 0 ? err_set(err, ENOMEM, "out of memory")
		     : store_load_record(store, name, ret_image, err);
}

static int write_record(struct image_store *store, const struct image *image, const char *reference,
	struct err *err)
{
	char name[DIGEST_SIZE + 8];
	auto_json json_t *root = json_pack("{s:s?, s:s, s:s, s:s, s:I}", "reference", reference,
		"manifest", image->manifest, "index", image->index, "id", image->id, "pulled",
		(json_int_t)image->pulled);
	auto_free char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	int r = record_name(reference, image->manifest, name);

	if (!text || r < 0)
		return err_set(err, ENOMEM, "out of memory");
	r = fs_replace_file(store->refs, name, text, strlen(text), 0600, true);
	return r < 0 ? err_errno(err, -r, "cannot write '%s/refs/%s'", store->dir, name) : 0;
}

/* How many records stand for this manifest. */
static int count_names(
	const struct image_store *store, const char *manifest, size_t *ret_n, struct err *err)
{
	struct image_list list = { 0 };
	int r = store_load_all(store, &list, err);

	if (r < 0)
		return r;
	*ret_n = 0;
	for (size_t i = 0; i < list.n; i++)
		*ret_n += strcmp(list.items[i]->manifest, manifest) == 0;
	image_list_deinit(&list);
	return 0;
}

int store_save(struct image_store *store, const struct image *image, struct err *err)
{
	auto_clean(image) struct image *old = NULL;
	char untagged[DIGEST_SIZE + 8];
	size_t names;
	int r;

	if (image->reference && store_load(store, image->reference, &old, NULL) == 0 &&
		strcmp(old->manifest, image->manifest) != 0) {
		r = count_names(store, old->manifest, &names, err);
		if (r == 0 && names == 1)
			r = write_record(store, old, NULL, err);
		if (r < 0)
			return r;
	}
	r = write_record(store, image, image->reference, err);
	if (r == 0 && image->reference && record_name(NULL, image->manifest, untagged) == 0)
		unlinkat(store->refs, untagged, 0);
	return r;
}

int store_forget(struct image_store *store, const struct image *image, struct err *err)
{
	char name[DIGEST_SIZE + 8];
	int r = record_name(image->reference, image->manifest, name);

	if (r < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (unlinkat(store->refs, name, 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "cannot remove '%s/refs/%s'", store->dir, name);
	return 0;
}
