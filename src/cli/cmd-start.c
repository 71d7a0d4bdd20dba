/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/boxes.h"
#include "cli/detach.h"
#include "cli/runopts.h"
#include "cli/start.h"
#include "cli/target.h"

struct start {
	bool attach, interactive, awaited, policy;
	const char *window;
	const char *detach_keys;
};

static const struct opt opts[] = {
	{ "attach", 'a', OPT_FLAG, offsetof(struct start, attach), NULL,
		"stay, with its output and its signals" },
	{ "awaited", 0, OPT_FLAG, offsetof(struct start, awaited), NULL,
		"it is attached to next, from elsewhere: nothing is lost until then" },
	{ "detach-keys", 0, OPT_STRING, offsetof(struct start, detach_keys), "KEYS",
		"keys that leave it running (default: " DETACH_KEYS_DEFAULT ")" },
	{ "interactive", 'i', OPT_FLAG, offsetof(struct start, interactive), NULL,
		"stay, with its input too" },
	{ "policy", 0, OPT_FLAG, offsetof(struct start, policy), NULL,
		"start those whose --restart says so, after a boot or when a shim was killed" },
	{ "window", 0, OPT_STRING, offsetof(struct start, window), "ROWSxCOLUMNS",
		"with --awaited: size of the terminal there" },
	{ NULL },
};

static int start_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	struct start_opts start = { .detached = true };
	int code = start_box(cli, id, &start, err);

	/* As Docker: starting what runs is no failure. */
	if (code != 0 && code != -EALREADY)
		return -err->code;
	printf("%s\n", word);
	return 0;
}

/* As Docker when its daemon starts: what ran when all ended, and what is to run always. */
static bool is_due(const struct sandbox *box)
{
	const struct sandbox_config *c = &box->config;

	if (!c->restart || target_alive(box))
		return false;
	if (box->state.phase == SANDBOX_DEAD)
		return true;
	return box->state.phase == SANDBOX_EXITED && strcmp(c->restart, "always") == 0 &&
	       !box->state.stopped_by[0];
}

static int start_due(struct cli *cli, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	int code = 0, r = sandbox_list(cli->root, &ids, err);

	for (size_t i = 0; r == 0 && i < ids.n; i++) {
		struct start_opts start = { .detached = true };
		auto_sandbox struct sandbox box = { 0 };
		struct err why = ERR_INIT;

		if (sandbox_load(cli->root, ids.v[i], &box, &why) < 0 || !is_due(&box))
			continue;
		if (start_box(cli, ids.v[i], &start, &why) == 0) {
			printf("%s\n", box.config.name);
		} else {
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	return r < 0 ? r : code;
}

/* For a command line of another host: the exit code tells it what it would have told itself. */
static int start_awaited(struct cli *cli, const struct start *s, const char *word, struct err *err)
{
	struct start_opts start = { .awaited = true };
	char id[ID_LEN + 1];
	int r = sandbox_find(cli->root, word, id, err);

	if (r == 0 && s->window && sscanf(s->window, "%ux%u", &start.rows, &start.columns) != 2)
		r = err_set(
			err, EINVAL, "option '--window' is '%.100s': give ROWSxCOLUMNS", s->window);
	return r < 0 ? r : start_box(cli, id, &start, err);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct start *s = values;
	struct start_opts start = {
		.input = s->interactive, .sig_proxy = true, .detach_keys = s->detach_keys
	};
	struct sandbox box;
	char id[ID_LEN + 1];
	int r;

	if (s->policy && (n || s->attach || s->interactive))
		return err_set(err, EINVAL,
			"option '--policy' goes with no sandbox and no other option: it starts all "
			"that are due");
	if (s->policy && cli->remote)
		return err_set(err, ENOTSUP,
			"option '--policy' is for the sandboxes of this host: its own unit does "
			"that on each");
	if (s->policy)
		return start_due(cli, err);
	if (!n)
		return err_set(
			err, EINVAL, "start takes at least one sandbox (micropod start --help)");
	if (s->awaited && n == 1 && !cli->remote)
		return start_awaited(cli, s, words[0], err);
	if (!s->attach && !s->interactive)
		return target_each(cli, words, n, start_one, NULL);
	if (n > 1)
		return err_set(
			err, EINVAL, "only one sandbox can be started and attached to at a time");
	r = boxes_find(cli, words[0], id, err);
	if (r == 0)
		r = boxes_load(cli, id, &box, err);
	if (r < 0)
		return r;
	if (!cli->remote)
		run_notice(cli, box.config.accel);
	sandbox_deinit(&box);
	return start_box(cli, id, &start, err);
}

const struct verb verb_start = {
	.name = "start",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX...",
	.summary = "Start sandboxes that were made or have ended",
	.opts = opts,
	.values_size = sizeof(struct start),
	.min_words = 0,
	.max_words = WORDS_ANY,
	.run = run,
};
