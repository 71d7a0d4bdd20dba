/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/guest.h"

struct setup {
	bool update, quiet;
};

static const struct opt opts[] = {
	{ "quiet", 'q', OPT_FLAG, offsetof(struct setup, quiet), NULL, "no progress" },
	{ "update", 0, OPT_FLAG, offsetof(struct setup, update), NULL,
		"ask the distribution for a newer kernel" },
	{ NULL },
};

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct setup *s = values;
	struct sandbox_guest guest = { 0 };
	int r = guest_prepare(cli, s->quiet, s->update, err);

	if (r == 0)
		r = sandbox_guest_current(cli->root, &guest, err);
	if (r < 0)
		return r;
	printf("kernel %s\n", guest.version);
	sandbox_guest_deinit(&guest);
	return 0;
}

const struct verb verb_setup = {
	.name = "setup",
	.usage = "[OPTIONS]",
	.summary = "Prepare kernel and guest (the first run does it by itself)",
	.opts = opts,
	.values_size = sizeof(struct setup),
	.run = run,
};
