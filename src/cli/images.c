/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/images.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int images_used(struct cli *cli, struct strv *ret_ids, struct err *err)
{
	auto_strv struct strv boxes = STRV_INIT;
	int r = sandbox_list(cli->root, &boxes, err);

	for (size_t i = 0; r == 0 && i < boxes.n; i++) {
		struct sandbox box;

		r = sandbox_load(cli->root, boxes.v[i], &box, err);
		if (r == -ENOENT) {
			r = 0;
			continue; /* removed meanwhile */
		}
		/* A damaged one hides what it uses: nothing is removed before it is. */
		if (r < 0)
			return err_wrap(err,
				"cannot tell which images are in use (remove the sandbox first)");
		if (box.config.image_digest)
			r = strv_add(ret_ids, box.config.image_digest);
		sandbox_deinit(&box);
		if (r < 0)
			return err_errno(err, -r, "cannot list the images in use");
	}
	return r;
}

/* Docker leaves out what it puts in by itself: docker.io/ and library/. */
static const char *familiar(const char *reference)
{
	static const char *const prefixes[] = { "docker.io/library/", "docker.io/" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncmp(reference, prefixes[i], strlen(prefixes[i])) == 0)
			return reference + strlen(prefixes[i]);
	return reference;
}

int image_name_split(const struct image *image, struct image_name *ret_name)
{
	const char *name = image->reference ? familiar(image->reference) : "<none>:<none>";
	const char *at = strchr(name, '@'), *colon = strrchr(name, ':'),
		   *slash = strrchr(name, '/');
	size_t len = strlen(name);
	const char *tag = "<none>";

	if (at) {
		len = (size_t)(at - name);
	} else if (colon && (!slash || colon > slash)) {
		len = (size_t)(colon - name);
		tag = colon + 1;
	}
	ret_name->repository = strndup(name, len);
	ret_name->tag = strdup(tag);
	if (ret_name->repository && ret_name->tag)
		return 0;
	image_name_deinit(ret_name);
	return -ENOMEM;
}

void image_name_deinit(struct image_name *name)
{
	free(name->repository);
	free(name->tag);
	*name = (struct image_name){ 0 };
}
