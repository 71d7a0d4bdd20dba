/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/output.h"

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

int images_prune(struct cli *cli, bool all, struct err *err)
{
	auto_clean(image_store) struct image_store *store = NULL;
	auto_strv struct strv ids = STRV_INIT;
	struct image_removed removed = { 0 };
	struct image_used used;
	char size[32];
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = images_used(cli, &ids, err);
	if (r < 0)
		return r;
	used = (struct image_used){ (const char *const *)strv_items(&ids), ids.n };
	r = image_prune(store, all, &used, &removed, err);
	if (r == 0)
		printf("Deleted images: %zu\nReclaimed from images: %s\n", removed.images,
			output_size(removed.bytes, size, sizeof(size)));
	return r;
}

int images_platform(const char *text, char buf[static 32], const char **ret_arch, struct err *err)
{
	const char *arch = text;
	size_t len;

	*ret_arch = NULL;
	if (!text)
		return 0;
	if (strncmp(text, "linux/", 6) == 0)
		arch += 6;
	len = strcspn(arch, "/");
	if (!len || len >= 32 || (arch == text && arch[len]) || strcmp(text, "linux") == 0 ||
		strspn(arch, "abcdefghijklmnopqrstuvwxyz0123456789") < len)
		return err_set(err, EINVAL,
			"option '--platform' is '%.100s': give linux/ARCHITECTURE, such as "
			"linux/arm64",
			text);
	snprintf(buf, 32, "%.*s", (int)len, arch);
	*ret_arch = buf;
	return 0;
}

bool images_is_loopback(const char *registry)
{
	size_t len = strcspn(registry, ":/");

	return (len == 9 && strncmp(registry, "localhost", len) == 0) ||
	       strncmp(registry, "127.", 4) == 0 || strncmp(registry, "[::1]", 5) == 0;
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
