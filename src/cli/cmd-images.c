/* SPDX-License-Identifier: Apache-2.0 */
/* pull, images, rmi and load. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/images.h"
#include "cli/output.h"
#include "cli/progress.h"

#define IMAGE_ID_SHOWN 12

/* pull */

struct pull {
	const char *platform;
	bool quiet;
};

static const struct opt pull_table[] = {
	{ "platform", 0, OPT_STRING, offsetof(struct pull, platform), "OS/ARCHITECTURE",
		"fetch the image for another machine (default: for this one)" },
	{ "quiet", 'q', OPT_FLAG, offsetof(struct pull, quiet), NULL, "no progress" },
	{ NULL },
};

static int run_pull(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_progress struct progress progress;
	struct image_pull_opts opts = {
		.policy = IMAGE_PULL_ALWAYS, .progress = progress_show, .progress_arg = &progress
	};
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image) struct image *image = NULL;
	const struct pull *p = values;
	char arch[32];
	int r = images_platform(p->platform, arch, &opts.architecture, err);

	progress_init(&progress, p->quiet);
	if (r == 0)
		r = image_store_open(cli->root->path, &store, err);
	if (r == 0)
		r = image_pull(store, words[0], &opts, &image, err);
	progress_clear(&progress);
	if (r == 0)
		printf("%s\n", image->reference ? image->reference : image->id);
	return r;
}

/* images */

struct images {
	bool no_trunc, quiet;
	const char *format;
};

#define AT(field) offsetof(struct images, field)
static const struct opt images_table[] = {
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "show ids whole" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const heading[] = { "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", NULL };
static const char *const keys[] = { "Repository", "Tag", "ID", "CreatedSince", "Size", NULL };
static_assert(ARRAY_SIZE(heading) == ARRAY_SIZE(keys), "a key for each column");

static json_t *describe(const struct image *image, bool no_trunc)
{
	int64_t created = image->config.created * NSEC_PER_SEC;
	char span[32], size[32], when[40];
	json_t *o = json_object();
	struct image_name name;

	if (image_name_split(image, &name) < 0) {
		json_decref(o);
		return NULL;
	}
	json_object_set_new(o, "Repository", output_string(name.repository));
	json_object_set_new(o, "Tag", output_string(name.tag));
	json_object_set_new(o, "ID",
		no_trunc ? json_string(image->id)
			 : json_stringn(digest_hex(image->id), IMAGE_ID_SHOWN));
	json_object_set_new(o, "Digest", output_string(image->index));
	json_object_set_new(o, "CreatedSince",
		created ? json_sprintf("%s ago",
				  output_duration(clock_realtime() - created, span, sizeof(span)))
			: json_string("N/A"));
	json_object_set_new(o, "CreatedAt", json_string(output_time(created, when, sizeof(when))));
	json_object_set_new(o, "Size", json_string(output_size(image->size, size, sizeof(size))));
	image_name_deinit(&name);
	return o;
}

/* words: NULL, or a repository, a reference or an id, as `docker images nginx` narrows the list. */
static bool matches(const struct image *image, const char *word)
{
	struct image_name name;
	bool hit;

	if (!word)
		return true;
	if (image_name_split(image, &name) < 0)
		return false;
	hit = strcmp(word, name.repository) == 0 ||
	      (image->reference && strcmp(word, image->reference) == 0) ||
	      (strncmp(word, name.repository, strlen(name.repository)) == 0 &&
		      word[strlen(name.repository)] == ':' &&
		      strcmp(word + strlen(name.repository) + 1, name.tag) == 0);
	image_name_deinit(&name);
	return hit;
}

static int run_images(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct images *o = values;
	auto_clean(image_store) struct image_store *store = NULL;
	struct image_list list = { 0 };
	struct output_rows rows;
	int r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = image_list(store, &list, err);
	if (r < 0)
		return r;
	r = output_rows_begin(&rows, o->format, keys, heading, err);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		const struct image *image = list.items[i];
		json_t *row;

		if (!matches(image, words[0]))
			continue;
		if (o->quiet) {
			printf("%.*s\n", o->no_trunc ? DIGEST_LEN : IMAGE_ID_SHOWN,
				o->no_trunc ? image->id : digest_hex(image->id));
			continue;
		}
		row = describe(image, o->no_trunc);
		r = row ? output_rows_add(&rows, row, err)
			: err_errno(err, ENOMEM, "cannot list the images");
	}
	image_list_deinit(&list);
	if (o->quiet || r < 0)
		strv_deinit(&rows.cells);
	output_rows_end(&rows);
	return r;
}

/* rmi */

static int remove_one(struct image_store *store, const char *word, const struct image_used *used)
{
	struct image_removed removed = { 0 };
	struct err err = ERR_INIT;

	if (image_remove(store, word, used, &removed, &err) < 0) {
		cli_complain(&err);
		return EXIT_MICROPOD;
	}
	if (removed.images)
		printf("Deleted: %s\n", word);
	else
		printf("Untagged: %s\n", word);
	return 0;
}

static int run_rmi(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_clean(image_store) struct image_store *store = NULL;
	auto_strv struct strv ids = STRV_INIT;
	struct image_used used;
	int code = 0, r = image_store_open(cli->root->path, &store, err);

	if (r == 0)
		r = images_used(cli, &ids, err);
	if (r < 0)
		return r;
	used = (struct image_used){ (const char *const *)strv_items(&ids), ids.n };
	for (size_t i = 0; i < n; i++) {
		r = remove_one(store, words[i], &used);
		code = r ? r : code;
	}
	return code;
}

/* load */

struct load {
	const char *input;
	bool quiet;
};

static const struct opt load_table[] = {
	{ "input", 'i', OPT_STRING, offsetof(struct load, input), "FILE",
		"read this archive instead of stdin" },
	{ "quiet", 'q', OPT_FLAG, offsetof(struct load, quiet), NULL, "no progress" },
	{ NULL },
};

static int run_load(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct load *o = values;
	auto_progress struct progress progress;
	struct image_pull_opts opts = { .progress = progress_show, .progress_arg = &progress };
	auto_clean(image_store) struct image_store *store = NULL;
	struct image_list list = { 0 };
	int r;

	progress_init(&progress, o->quiet);
	if (!o->input && isatty(STDIN_FILENO))
		return err_set(
			err, EINVAL, "no archive to load: give '-i FILE', or the archive on stdin");
	r = image_store_open(cli->root->path, &store, err);
	if (r == 0)
		r = image_load(store, o->input, STDIN_FILENO, &opts, &list, err);
	progress_clear(&progress);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n; i++)
		printf("Loaded image: %s\n",
			list.items[i]->reference ? list.items[i]->reference : list.items[i]->id);
	image_list_deinit(&list);
	return 0;
}

const struct verb verb_pull = {
	.name = "pull",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] IMAGE",
	.summary = "Fetch an image",
	.opts = pull_table,
	.values_size = sizeof(struct pull),
	.min_words = 1,
	.max_words = 1,
	.run = run_pull,
};

const struct verb verb_images = {
	.name = "images",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] [IMAGE]",
	.summary = "List images",
	.opts = images_table,
	.values_size = sizeof(struct images),
	.max_words = 1,
	.run = run_images,
};

const struct verb verb_rmi = {
	.name = "rmi",
	.remote = VERB_THERE,
	.usage = "IMAGE...",
	.summary = "Remove images",
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run_rmi,
};

const struct verb verb_load = {
	.name = "load",
	.usage = "[OPTIONS]",
	.summary = "Load images from an archive",
	.opts = load_table,
	.values_size = sizeof(struct load),
	.run = run_load,
};
