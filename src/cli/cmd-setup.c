/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "cli/guest.h"
#include "cli/template.h"

struct setup {
	bool update, quiet, no_template;
};

static const struct opt opts[] = {
	{ "no-template", 0, OPT_FLAG, offsetof(struct setup, no_template), NULL,
		"leave the template to the first run" },
	{ "quiet", 'q', OPT_FLAG, offsetof(struct setup, quiet), NULL, "no progress" },
	{ "update", 0, OPT_FLAG, offsetof(struct setup, update), NULL,
		"ask the distribution for a newer kernel" },
	{ NULL },
};

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct setup *s = values;
	struct template_opts template = { .quiet = s->quiet };
	struct sandbox_guest guest = { 0 };
	char key[33];
	int r = guest_prepare(cli, s->quiet, s->update, err);

	if (r == 0)
		r = sandbox_guest_current(cli->root, guest_kind(cli), &guest, err);
	if (r < 0)
		return r;
	printf("kernel %s\n", guest.version);
	sandbox_guest_deinit(&guest);
	if (!s->quiet && access("/run/systemd/system", F_OK) == 0)
		fprintf(stderr,
			"micropod: after a boot, sandboxes with --restart are started by a unit: "
			"systemctl %senable micropod-restart\n",
			geteuid() ? "--user " : "");
	if (s->no_template)
		return 0;
	if (!s->quiet)
		fprintf(stderr, "micropod: making the template that VMs start from\n");
	r = template_make(cli, &template, key, err);
	if (r == 0)
		printf("template %.12s\n", key);
	return r;
}

const struct verb verb_setup = {
	.name = "setup",
	.remote = VERB_THERE,
	.usage = "[OPTIONS]",
	.summary = "Prepare kernel, guest and template (the first run does it by itself)",
	.opts = opts,
	.values_size = sizeof(struct setup),
	.settings = true,
	.run = run,
};
