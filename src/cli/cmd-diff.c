/* SPDX-License-Identifier: Apache-2.0 */
/* diff, export and commit: what a sandbox has changed of its image, running or not. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/helper.h"
#include "cli/tool.h"
#include "image/image.h"
#include "sandbox/machine.h"

/* Runs the layer's tool; out as in tool_run(). still: what writes waits meanwhile. */
static int read_layer(struct cli *cli, const struct sandbox *box, const char *how, bool still,
	int out, struct err *err)
{
	const char *const args[] = { box->config.image_tree ? "tag:container_rootfs"
							    : "disk:" MACHINE_IMAGE_SERIAL,
		MACHINE_SCRATCH_SERIAL, how, still ? "still" : NULL, NULL };
	int r = tool_run(cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_LAYER, args, -1, out, err);

	return r == 0	   ? 0
	       : err->code ? -err->code
			   : err_set(err, EIO, "cannot read what sandbox '%s' has changed",
				     box->config.name);
}

/* Opens it, does it, closes it. */
static int with_helper(struct cli *cli, const char *word,
	int (*fn)(struct cli *cli, const struct sandbox *box, void *arg, struct err *err),
	void *arg, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct helper helper;
	int r = helper_open(cli, word, false, &helper, err);

	if (r < 0)
		return r;
	r = helper.box.config.engine ? err_set(err, ENOTSUP,
					       "'%.64s' is a Docker container: ask its engine for "
					       "that (docker diff, "
					       "docker export, docker commit)",
					       helper.box.config.name)
				     : fn(cli, &helper.box, arg, err);
	helper_close(cli, &helper, false, &ignored);
	return r;
}

/* diff */

static int list(struct cli *cli, const struct sandbox *box, void *arg, struct err *err)
{
	return read_layer(cli, box, "list", false, -1, err);
}

static int run_diff(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return with_helper(cli, words[0], list, NULL, err);
}

/* export */

struct export
{
	const char *output;
};

static const struct opt export_opts[] = {
	{ "output", 'o', OPT_STRING, offsetof(struct export, output), "FILE",
		"write to this file instead of stdout" },
	{ NULL },
};

static int send_root(struct cli *cli, const struct sandbox *box, void *arg, struct err *err)
{
	const char *const args[] = { "/", ".", NULL };
	int r = tool_run(
		cli, box, MICROPOD__AGENT__V1__TOOL__TOOL_GET_TREE, args, -1, *(int *)arg, err);

	return r == 0	   ? 0
	       : err->code ? -err->code
			   : err_set(err, EIO, "cannot read all files of sandbox '%s'",
				     box->config.name);
}

static int run_export(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const char *path = ((const struct export *)values)->output;
	auto_close int fd = -1;
	int r;

	if (path) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (fd < 0)
			return err_errno(err, errno, "cannot write '%s'", path);
	} else if (isatty(STDOUT_FILENO)) {
		return err_set(err, EINVAL,
			"an archive does not go to a terminal: give -o FILE or redirect it");
	}
	r = with_helper(cli, words[0], send_root, &fd, err);
	if (r < 0 && path)
		unlink(path);
	return r;
}

/* commit */

struct commit {
	const char *author, *message;
	struct strv changes;
	bool pause;
};

#define AT(field) offsetof(struct commit, field)
static const struct opt commit_opts[] = {
	{ "author", 'a', OPT_STRING, AT(author), "WHO", "who made it" },
	{ "change", 'c', OPT_LIST, AT(changes), "INSTRUCTION",
		"change this of its configuration, as a Dockerfile has it (CMD, ENV, ...)" },
	{ "message", 'm', OPT_STRING, AT(message), "TEXT", "what it is" },
	{ "pause", 'p', OPT_FLAG, AT(pause), NULL,
		"have what writes to its files wait meanwhile (default: true)" },
	{ NULL },
};
static const struct commit commit_defaults = { .pause = true };

struct order {
	const struct commit *options;
	const char *target;
	char id[DIGEST_SIZE];
};

static int commit(struct cli *cli, const struct sandbox *box, void *arg, struct err *err)
{
	struct order *o = arg;
	const struct commit *options = o->options;
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image_commit) struct image_commit *c = NULL;
	auto_clean(image) struct image *base = NULL;
	auto_sandbox struct sandbox of = { 0 };
	struct image_commit_opts opts = { .target = o->target,
		.author = options->author,
		.message = options->message,
		.changes = &options->changes };
	int fd, r = image_store_open(cli->root->path, &store, err);

	/* The helper has no command of its own. */
	if (r == 0)
		r = sandbox_load(cli->root, o->id, &of, err);
	if (r == 0)
		r = image_find(store, of.config.image_digest, &base, err);
	if (r == 0)
		r = image_commit_new(store, &c, &fd, err);
	if (r == 0)
		r = read_layer(cli, box, "tar", options->pause, fd, err);
	if (r < 0)
		return r;
	opts.args = &of.config.args;
	opts.env = &of.config.env;
	return image_commit_finish(c, base, &opts, o->id, err);
}

static int run_commit(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct order order = { .options = values, .target = n > 1 ? words[1] : NULL };
	int r = 0;

	for (size_t i = 0; r == 0 && i < order.options->changes.n; i++)
		r = image_change_check(order.options->changes.v[i], err);
	if (r == 0)
		r = sandbox_find(cli->root, words[0], order.id, err);
	if (r == 0)
		r = with_helper(cli, words[0], commit, &order, err);
	if (r == 0)
		printf("%s\n", order.id);
	return r;
}

const struct verb verb_commit = {
	.name = "commit",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] SANDBOX [NAME[:TAG]]",
	.summary = "Make an image of a sandbox",
	.opts = commit_opts,
	.values_size = sizeof(struct commit),
	.defaults = &commit_defaults,
	.min_words = 1,
	.max_words = 2,
	.run = run_commit,
};

const struct verb verb_diff = {
	.name = "diff",
	.remote = VERB_THERE,
	.usage = "SANDBOX",
	.summary = "List what a sandbox has changed of its image",
	.min_words = 1,
	.max_words = 1,
	.run = run_diff,
};

const struct verb verb_export = {
	.name = "export",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX",
	.summary = "Write all files of a sandbox as a tar archive",
	.opts = export_opts,
	.values_size = sizeof(struct export),
	.min_words = 1,
	.max_words = 1,
	.run = run_export,
};
