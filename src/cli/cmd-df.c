/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "cli/images.h"
#include "cli/output.h"
#include "cli/target.h"

struct df {
	const char *format;
};

static const struct opt opts[] = {
	{ "format", 0, OPT_STRING, offsetof(struct df, format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ NULL },
};

static const char *const heading[] = { "TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE", NULL };
static const char *const keys[] = { "Type", "TotalCount", "Active", "Size", "Reclaimable", NULL };

struct usage {
	const char *type;
	size_t total, active;
	uint64_t bytes, reclaimable; /* on the disk */
};

static json_t *describe(const struct usage *u)
{
	char size[32], free_size[32];

	output_size(u->bytes, size, sizeof(size));
	output_size(u->reclaimable, free_size, sizeof(free_size));
	return json_pack("{s:s, s:o, s:o, s:s, s:o}", "Type", u->type, "TotalCount",
		json_sprintf("%zu", u->total), "Active", json_sprintf("%zu", u->active), "Size",
		size, "Reclaimable",
		json_sprintf("%s (%d%%)", free_size,
			u->bytes ? (int)(u->reclaimable * 100 / u->bytes) : 0));
}

/* What a path below the root takes; what is not there takes nothing. */
static uint64_t taken(const struct cli *cli, const char *path)
{
	uint64_t bytes = 0;

	return fs_disk_usage(cli->root->fd, path, &bytes) < 0 ? 0 : bytes;
}

/* Blobs are shared, so an image's own are not told apart: what no sandbox uses is by its share. */
static int look_at_images(struct cli *cli, struct usage *u, struct err *err)
{
	auto_clean(image_store) struct image_store *store = NULL;
	auto_strv struct strv used = STRV_INIT;
	struct image_list list = { 0 };
	uint64_t sum = 0, idle = 0;
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = images_used(cli, &used, err);
	if (r == 0)
		r = image_list(store, &list, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++) {
		bool active = false;

		for (size_t k = 0; k < used.n; k++)
			active |= strcmp(used.v[k], list.items[i]->id) == 0;
		u->active += active;
		sum += list.items[i]->size;
		idle += active ? 0 : list.items[i]->size;
	}
	u->total = list.n;
	u->bytes = taken(cli, "images");
	u->reclaimable = sum ? (uint64_t)((double)u->bytes * (double)idle / (double)sum) : 0;
	image_list_deinit(&list);
	return 0;
}

static int look_at_boxes(struct cli *cli, struct usage *u, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	int r = sandbox_list(cli->root, &ids, err);

	for (size_t i = 0; r == 0 && i < ids.n; i++) {
		auto_sandbox struct sandbox box = { 0 };
		struct err gone = ERR_INIT;
		char path[ID_LEN + 16];
		uint64_t bytes;

		if (sandbox_load(cli->root, ids.v[i], &box, &gone) < 0)
			continue;
		snprintf(path, sizeof(path), "sandboxes/%s", ids.v[i]);
		bytes = taken(cli, path);
		u->total++;
		u->active += target_alive(&box);
		u->bytes += bytes;
		u->reclaimable += target_alive(&box) ? 0 : bytes;
	}
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct usage usages[] = { { .type = "Images" }, { .type = "Sandboxes" },
		{ .type = "Templates" }, { .type = "Guest" } };
	struct output_rows rows;
	int r = look_at_images(cli, &usages[0], err);

	if (r == 0)
		r = look_at_boxes(cli, &usages[1], err);
	if (r < 0)
		return r;
	usages[2].bytes = usages[2].reclaimable = taken(cli, "templates");
	usages[3].bytes = taken(cli, "guest");
	r = output_rows_begin(&rows, ((const struct df *)values)->format, keys, heading, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(usages); i++)
		r = output_rows_add(&rows, describe(&usages[i]), err);
	output_rows_end(&rows);
	return r;
}

const struct verb verb_df = {
	.name = "system df",
	.remote = VERB_EVERYWHERE,
	.usage = "[OPTIONS]",
	.summary = "Show what takes room on the disk",
	.opts = opts,
	.values_size = sizeof(struct df),
	.run = run,
};
