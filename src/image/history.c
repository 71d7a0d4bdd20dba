/* SPDX-License-Identifier: Apache-2.0 */
/* The history of an image's configuration (OCI image-spec, config.md). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/json.h"
#include "image/store.h"
#include "oci/imgconf.h"
#include "image/passon.h"

void image_history_deinit(struct image_history *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->items[i].created_by);
		free(h->items[i].comment);
	}
	free(h->items);
	*h = (struct image_history){ 0 };
}

static char *copy_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return strdup(text ? text : "");
}

/* Layers and steps go together in order; one more step than layers has none. */
static int read_steps(const json_t *steps, const struct image *image, struct image_history *h)
{
	const json_t *step;
	size_t i, layer = 0;

	h->items = calloc(json_array_size(steps) + 1, sizeof(*h->items));
	if (!h->items)
		return -ENOMEM;
	json_array_foreach(steps, i, step)
	{
		const char *created = json_string_value(json_object_get(step, "created"));
		struct image_step *s = &h->items[h->n++];

		s->created = created ? image_time_parse(created) : 0;
		s->created_by = copy_of(step, "created_by");
		s->comment = copy_of(step, "comment");
		s->empty = json_is_true(json_object_get(step, "empty_layer"));
		if (!s->created_by || !s->comment)
			return -ENOMEM;
		if (!s->empty && layer < image->n_layers)
			s->size = image->layers[layer++].size;
	}
	return 0;
}

int image_history(struct image_store *store, const struct image *image,
	struct image_history *ret_history, struct err *err)
{
	auto_json json_t *root = NULL;
	auto_free char *text = NULL;
	struct image_history h = { 0 };
	size_t len;
	int r = store_read_blob(store, image->id, &text, &len, err);

	if (r < 0)
		return r;
	root = json_loadb(text, len, 0, NULL);
	r = read_steps(json_object_get(root, "history"), image, &h);
	if (r < 0) {
		image_history_deinit(&h);
		return err_errno(err, -r, "cannot read the history of image %s", image->id);
	}
	*ret_history = h;
	return 0;
}
