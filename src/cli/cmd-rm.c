/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/target.h"
#include "sandbox/volume.h"

struct rm {
	bool force, volumes;
};

static const struct opt opts[] = {
	{ "force", 'f', OPT_FLAG, offsetof(struct rm, force), NULL,
		"kill it first if it runs; a missing one is no failure" },
	{ "volumes", 'v', OPT_FLAG, offsetof(struct rm, volumes), NULL,
		"remove its volumes without a name, too" },
	{ NULL },
};

/* Others run in it. */
static int refuse_pod(struct cli *cli, const char *id, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	struct err damaged = ERR_INIT;

	if (sandbox_load(cli->root, id, &box, &damaged) < 0 || !box.config.is_pod)
		return 0;
	return err_set(err, EINVAL, "'%s' is a pod: micropod pod rm removes it", box.config.name);
}

/* Docker's rm -f says what is missing and still exits with 0, so that it can be used to make sure.
 */
static int remove_one(struct cli *cli, const char *word, const struct rm *rm)
{
	auto_sandbox struct sandbox box = { 0 };
	struct err err = ERR_INIT, damaged = ERR_INIT;
	char id[ID_LEN + 1];
	int r = sandbox_find(cli->root, word, id, &err);

	if (r == 0)
		r = refuse_pod(cli, id, &err);
	if (r == 0 && rm->volumes && sandbox_load(cli->root, id, &box, &damaged) < 0)
		log_debug("%s", damaged.msg);
	if (r == 0)
		r = sandbox_remove(cli->root, id, rm->force, &err);
	if (r == 0 && rm->volumes)
		volume_remove_anonymous(cli->root, &box.config.volumes);
	if (r == 0) {
		printf("%s\n", word);
		return 0;
	}
	cli_complain(&err);
	return r == -ENOENT && rm->force ? 0 : EXIT_MICROPOD;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct rm *rm = values;
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		int r = remove_one(cli, words[i], rm);

		code = r ? r : code;
	}
	return code;
}

const struct verb verb_rm = {
	.name = "rm",
	.remote = VERB_BY_SANDBOX,
	.usage = "[OPTIONS] SANDBOX...",
	.summary = "Remove sandboxes",
	.opts = opts,
	.values_size = sizeof(struct rm),
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
