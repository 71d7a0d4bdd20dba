/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/images.h"
#include "cli/networks.h"
#include "cli/pods.h"
#include "cli/output.h"
#include "cli/target.h"
#include "sandbox/template.h"

/* A sandbox that was made just now is about to be started by whoever made it. */
#define CREATED_AGE (60 * NSEC_PER_SEC)

struct prune {
	bool all, force;
};

#define AT(field) offsetof(struct prune, field)
static const struct opt opts[] = {
	{ "all", 'a', OPT_FLAG, AT(all), NULL,
		"remove all images that no sandbox uses, not only untagged ones" },
	{ "force", 'f', OPT_FLAG, AT(force), NULL, "do not ask" },
	{ NULL },
};

static bool agreed(const struct prune *p)
{
	return p->force ||
	       cli_confirm("This removes all sandboxes that do not run, all networks and %s images "
			   "that no sandbox uses, and what crashes left.",
		       p->all ? "all" : "untagged");
}

static bool removable(struct cli *cli, const struct sandbox *box, bool pods)
{
	auto_strv struct strv members = STRV_INIT;
	struct err err = ERR_INIT;

	if (target_alive(box) || box->config.is_pod != pods)
		return false;
	if (pods && (pods_members(cli, box->config.id, &members, &err) < 0 || members.n))
		return false;
	return box->state.phase != SANDBOX_CREATED ||
	       clock_realtime() - box->config.created_ns > CREATED_AGE;
}

/* pods: only those, else all but those. */
static int remove_one(struct cli *cli, const char *id, bool pods)
{
	struct err err = ERR_INIT;
	struct sandbox box;
	int r = sandbox_load(cli->root, id, &box, &err);
	bool wanted = !pods;

	/* One whose files are damaged is of no use to anyone; rm -f takes it, here it is named. */
	if (r == 0) {
		wanted = removable(cli, &box, pods);
		sandbox_deinit(&box);
	}
	if (r == 0 && wanted)
		r = sandbox_remove(cli->root, id, false, &err);
	if (r == 0 && wanted)
		printf("Deleted %s: %.*s\n", pods ? "pod" : "sandbox", ID_SHOWN_LEN, id);
	if (r == 0 || r == -ENOENT || r == -EBUSY || pods)
		return 0; /* removed or started by somebody else meanwhile */
	cli_complain(&err);
	return EXIT_MICROPOD;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct prune *p = values;
	auto_strv struct strv ids = STRV_INIT;
	int code = 0, r;

	if (!agreed(p))
		return 0;
	r = sandbox_list(cli->root, &ids, err);
	/* A pod goes after those that were in it. */
	for (int pods = 0; pods < 2; pods++)
		for (size_t i = 0; r == 0 && i < ids.n; i++) {
			int c = remove_one(cli, ids.v[i], pods);

			code = c ? c : code;
		}
	if (r == 0)
		r = sandbox_sweep(cli->root, err);
	if (r == 0)
		r = template_sweep(cli->root, err);
	if (r == 0) {
		r = networks_prune(cli, err);
		code = r > 0 ? r : code;
	}
	if (r >= 0)
		r = images_prune(cli, p->all, err);
	return r < 0 ? r : code;
}

const struct verb verb_prune = {
	.name = "prune",
	.remote = VERB_THERE,
	.usage = "[OPTIONS]",
	.summary = "Remove sandboxes that do not run, unused networks and images, and leftovers",
	.opts = opts,
	.values_size = sizeof(struct prune),
	.run = run,
};
