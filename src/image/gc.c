/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, listing and removing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/limits.h"
#include "image/ref.h"
#include "image/store.h"

#define ID_PREFIX_MIN 4

static int compare_images(const void *a, const void *b)
{
	const struct image *x = *(struct image *const *)a, *y = *(struct image *const *)b;

	if (x->pulled != y->pulled)
		return x->pulled > y->pulled ? -1 : 1;
	return strcmp(x->reference ? x->reference : "", y->reference ? y->reference : "");
}

int image_list(struct image_store *store, struct image_list *ret_list, struct err *err)
{
	int r = store_load_all(store, ret_list, err);

	if (r == 0 && ret_list->n > 1)
		qsort(ret_list->items, ret_list->n, sizeof(*ret_list->items), compare_images);
	return r;
}

/* The hex digits of what may be an id or a prefix of one, or NULL. */
static const char *id_digits(const char *name)
{
	const char *hex = strncmp(name, DIGEST_PREFIX, DIGEST_PREFIX_LEN) == 0
				  ? name + DIGEST_PREFIX_LEN
				  : name;
	size_t len = strlen(hex);

	return len >= ID_PREFIX_MIN && len <= DIGEST_HEX_LEN &&
			       strspn(hex, "0123456789abcdef") == len
		       ? hex
		       : NULL;
}

static bool has_digest(const struct image *image, const char *digest)
{
	return strcmp(image->manifest, digest) == 0 || strcmp(image->index, digest) == 0;
}

/* Whether the image came under the same repository with this digest. */
static bool matches_ref(const struct image *image, const struct image_ref *ref)
{
	size_t len = ref->repository ? strlen(ref->repository) : 0;

	return ref->digest[0] && image->reference && has_digest(image, ref->digest) &&
	       strncmp(image->reference, ref->repository, len) == 0 &&
	       (image->reference[len] == ':' || image->reference[len] == '@');
}

/* In a list, by id prefix or digest. *ret_i: which one. -ENOENT, or -EEXIST if several images fit.
 */
static int find_in(
	const struct image_list *list, const char *name, const struct image_ref *ref, size_t *ret_i)
{
	const char *hex = id_digits(name);
	size_t found = list->n;

	for (size_t i = 0; i < list->n; i++) {
		const struct image *image = list->items[i];
		bool fits = matches_ref(image, ref) ||
			    (digest_valid(name) && has_digest(image, name)) ||
			    (hex && strncmp(digest_hex(image->id), hex, strlen(hex)) == 0);

		if (!fits)
			continue;
		if (found < list->n && strcmp(list->items[found]->id, image->id) != 0)
			return -EEXIST;
		if (found == list->n)
			found = i;
	}
	if (found == list->n)
		return -ENOENT;
	*ret_i = found;
	return 0;
}

/* *ret_by_name: it was found by its reference, not by id or digest. */
static int find(struct image_store *store, const char *name, struct image **ret_image,
	bool *ret_by_name, struct err *err)
{
	auto_image_ref struct image_ref ref = { 0 };
	struct image_list list = { 0 };
	size_t i;
	int r = image_ref_parse(name, &ref, err);

	*ret_by_name = false;
	if (r < 0 && !id_digits(name))
		return r;
	if (r == 0 && store_load(store, ref.name, ret_image, NULL) == 0) {
		*ret_by_name = true;
		return 0;
	}
	r = image_list(store, &list, err);
	if (r < 0)
		return r;
	r = find_in(&list, name, &ref, &i);
	if (r == 0)
		*ret_image = take_ptr(list.items[i]);
	else if (r == -EEXIST)
		err_set(err, EINVAL,
			"'%.100s' is the beginning of more than one image's id: give more digits",
			name);
	else
		err_set(err, ENOENT,
			"image '%.200s' is not here: 'micropod images' shows what is, 'micropod "
			"pull' fetches",
			name);
	image_list_deinit(&list);
	return r == 0 ? 0 : r == -EEXIST ? -EINVAL : r;
}

int image_find(
	struct image_store *store, const char *name, struct image **ret_image, struct err *err)
{
	bool by_name;

	return find(store, name, ret_image, &by_name, err);
}

bool image_find_id(struct image_store *store, const char *name, struct image **ret_image)
{
	struct image_list list = { 0 };
	struct image_ref none = { 0 };
	struct err ignored = ERR_INIT;
	bool found = false;
	size_t i;

	if (!id_digits(name) || image_list(store, &list, &ignored) < 0)
		return false;
	if (find_in(&list, name, &none, &i) == 0) {
		*ret_image = take_ptr(list.items[i]);
		found = true;
	}
	image_list_deinit(&list);
	return found;
}

static bool is_used(const struct image_used *used, const char *id)
{
	for (size_t i = 0; i < used->n; i++)
		if (strcmp(used->ids[i], id) == 0)
			return true;
	return false;
}

/* Removes the records: of the one reference, or of all of the image. */
static int forget(struct image_store *store, const struct image *image, bool by_name,
	const struct image_used *used, struct image_removed *removed, struct err *err)
{
	struct image_list list = { 0 };
	size_t others = 0;
	int r = store_load_all(store, &list, err);

	for (size_t i = 0; i < list.n; i++)
		others += strcmp(list.items[i]->id, image->id) == 0;
	others -= others > 0;
	if (r == 0 && (!by_name || others == 0) && is_used(used, image->id))
		r = err_set(err, EBUSY, "image '%.200s' is used by a sandbox: remove that first",
			image->reference ? image->reference : image->id);
	for (size_t i = 0; i < list.n && r == 0 && !by_name; i++)
		if (strcmp(list.items[i]->id, image->id) == 0) {
			r = store_forget(store, list.items[i], err);
			removed->references += list.items[i]->reference != NULL;
		}
	if (r == 0 && by_name) {
		r = store_forget(store, image, err);
		removed->references++;
	}
	removed->images = r == 0 && (!by_name || others == 0);
	image_list_deinit(&list);
	return r;
}

int image_remove(struct image_store *store, const char *name, const struct image_used *used,
	struct image_removed *ret_removed, struct err *err)
{
	auto_clean(image) struct image *image = NULL;
	struct image_removed removed = { 0 };
	auto_close int lock = -1;
	bool by_name;
	int r = find(store, name, &image, &by_name, err);

	if (r == 0)
		r = forget(store, image, by_name, used, &removed, err);
	if (r < 0)
		return r;
	/* While a pull or build runs the blobs stay; the next rmi or prune takes them. */
	lock = fs_lock(store->locks, "store-all", true, false);
	if (lock >= 0)
		r = store_sweep(store, &removed, err);
	if (r == 0)
		*ret_removed = removed;
	return r;
}

int image_prune(struct image_store *store, bool all, const struct image_used *used,
	struct image_removed *ret_removed, struct err *err)
{
	struct image_removed removed = { 0 };
	struct image_list list = { 0 };
	auto_close int lock = store_lock(store, "store", "all", true, NULL, NULL, err);
	int r = lock < 0 ? lock : store_load_all(store, &list, err);

	for (size_t i = 0; i < list.n && r == 0; i++) {
		const struct image *image = list.items[i];

		if (is_used(used, image->id) || (image->reference && !all))
			continue;
		r = store_forget(store, image, err);
		removed.images++;
		removed.references += image->reference != NULL;
	}
	image_list_deinit(&list);
	if (r == 0)
		r = store_sweep(store, &removed, err);
	if (r == 0)
		*ret_removed = removed;
	return r;
}
