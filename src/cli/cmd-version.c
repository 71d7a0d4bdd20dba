/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/output.h"

struct version {
	int format;
};

static const struct opt opts[] = {
	{ "format", 0, OPT_WORD, offsetof(struct version, format), "FORMAT", "how to print",
		.words = output_words },
	{ NULL },
};

/* values is NULL for `micropod --version`. */
static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct version *v = values;

	if (v && v->format == OUTPUT_JSON)
		output_json(json_pack("{s:s}", "Version", MICROPOD_VERSION));
	else
		printf("micropod %s\n", MICROPOD_VERSION);
	return 0;
}

const struct verb verb_version = {
	.name = "version",
	.usage = "[OPTIONS]",
	.summary = "Print the version",
	.opts = opts,
	.values_size = sizeof(struct version),
	.no_root = true,
	.run = run,
};
