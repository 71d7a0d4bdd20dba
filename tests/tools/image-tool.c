/* SPDX-License-Identifier: Apache-2.0 */
/*
 * src/image from a command line, for the tests in tests/integration. Prints JSON or lines on
 * stdout; an error is one line on stderr and exit code 1.
 */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"
#include "image/disk.h"
#include "image/image.h"

static void usage(void)
{
	fprintf(stderr, "usage: image-tool ROOT pull REF [POLICY [ARCH]] | disk REF | list | find "
			"NAME | rmi NAME [USED_ID...]"
			" | prune [all] [USED_ID...] | load PATH|-\n"
			"       image-tool CACHE scratch PATH BYTES\n");
	exit(2);
}

static void show_progress(void *arg, const struct image_progress *p)
{
	static const char *const phases[] = { "resolve", "wait", "download", "layer", "build" };

	printf("%s %s %llu/%llu\n", phases[p->phase], p->text, (unsigned long long)p->done,
		(unsigned long long)p->total);
	fflush(stdout);
}

static void show(const struct image *image)
{
	printf("%s %s %s %s %llu %zu\n", image->reference ? image->reference : "-", image->id,
		image->manifest, image->config.architecture, (unsigned long long)image->size,
		image->n_layers);
}

static int pull(struct image_store *store, char **args, struct err *err)
{
	struct image_pull_opts opts = { .progress = show_progress };
	auto_clean(image) struct image *image = NULL;
	int r;

	if (args[1] && image_policy_parse(args[1], &opts.policy) < 0)
		usage();
	if (args[1])
		opts.architecture = args[2];
	r = image_pull(store, args[0], &opts, &image, err);
	if (r == 0)
		show(image);
	return r;
}

static int disk(struct image_store *store, char **args, struct err *err)
{
	struct image_disk_opts opts = { .progress = show_progress };
	auto_clean(image) struct image *image = NULL;
	auto_free char *path = NULL;
	int64_t start = clock_monotonic();
	int r = image_find(store, args[0], &image, err);

	if (r == 0)
		r = image_disk(store, image, &opts, &path, err);
	if (r == 0)
		printf("%s\nseconds %.3f\n", path, (double)(clock_monotonic() - start) / 1e9);
	return r;
}

static int list(struct image_store *store, char **args, struct err *err)
{
	struct image_list images = { 0 };
	int r = image_list(store, &images, err);

	for (size_t i = 0; i < images.n; i++)
		show(images.items[i]);
	image_list_deinit(&images);
	return r;
}

static int find(struct image_store *store, char **args, struct err *err)
{
	auto_clean(image) struct image *image = NULL;
	int r = image_find(store, args[0], &image, err);

	if (r == 0)
		show(image);
	return r;
}

static struct image_used used_from(char **args)
{
	struct image_used used = { (const char *const *)args, 0 };

	while (used.ids[used.n])
		used.n++;
	return used;
}

static void show_removed(const struct image_removed *removed)
{
	printf("removed %zu references %zu images %zu blobs %llu bytes\n", removed->references,
		removed->images, removed->blobs, (unsigned long long)removed->bytes);
}

static int rmi(struct image_store *store, char **args, struct err *err)
{
	struct image_used used = used_from(args + 1);
	struct image_removed removed = { 0 };
	int r = image_remove(store, args[0], &used, &removed, err);

	if (r == 0)
		show_removed(&removed);
	return r;
}

static int prune(struct image_store *store, char **args, struct err *err)
{
	bool all = args[0] && strcmp(args[0], "all") == 0;
	struct image_used used = used_from(args + all);
	struct image_removed removed = { 0 };
	int r = image_prune(store, all, &used, &removed, err);

	if (r == 0)
		show_removed(&removed);
	return r;
}

static int load(struct image_store *store, char **args, struct err *err)
{
	struct image_pull_opts opts = { .progress = show_progress };
	struct image_list images = { 0 };
	bool from_stdin = strcmp(args[0], "-") == 0;
	int r = image_load(store, from_stdin ? NULL : args[0], 0, &opts, &images, err);

	for (size_t i = 0; i < images.n; i++)
		show(images.items[i]);
	image_list_deinit(&images);
	return r;
}

static int scratch(const char *cache, char **args, struct err *err)
{
	uint64_t size;

	if (!args[0] || !args[1] || parse_u64(args[1], 0, UINT64_MAX, &size) < 0)
		usage();
	return disk_make_scratch(cache, args[0], size, err);
}

static const struct {
	const char *name;
	int (*fn)(struct image_store *store, char **args, struct err *err);
	int min_args;
} verbs[] = {
	{ "pull", pull, 1 },
	{ "disk", disk, 1 },
	{ "list", list, 0 },
	{ "find", find, 1 },
	{ "rmi", rmi, 1 },
	{ "prune", prune, 0 },
	{ "load", load, 1 },
};

int main(int argc, char **argv)
{
	auto_clean(image_store) struct image_store *store = NULL;
	struct err err = ERR_INIT;
	int r = -1;

	if (argc < 3)
		usage();
	if (strcmp(argv[2], "scratch") == 0) {
		r = scratch(argv[1], argv + 3, &err);
	} else {
		size_t i = 0;

		while (i < ARRAY_SIZE(verbs) && strcmp(verbs[i].name, argv[2]) != 0)
			i++;
		if (i == ARRAY_SIZE(verbs) || argc < 3 + verbs[i].min_args)
			usage();
		r = image_store_open(argv[1], &store, &err);
		if (r == 0)
			r = verbs[i].fn(store, argv + 3, &err);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", err.msg);
	return r < 0;
}
