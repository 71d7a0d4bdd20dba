/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/trace.h"
#include "cli/docker.h"
#include "cli/relay.h"
#include "cli/remote.h"
#include "cli/runopts.h"
#include "cli/start.h"
#include "sandbox/volume.h"

static const struct opt run_table[] = {
	{ "detach", 'd', OPT_FLAG, offsetof(struct run_opts, detach), NULL,
		"run in the background and print the id" },
	{ "detach-keys", 0, OPT_STRING, offsetof(struct run_opts, detach_keys), "KEYS",
		"keys that leave it running (default: " DETACH_KEYS_DEFAULT ")" },
	{ "sig-proxy", 0, OPT_FLAG, offsetof(struct run_opts, sig_proxy), NULL,
		"send signals on to the process (default: true)" },
	{ NULL },
};

static int check_terminal(const struct cli *cli, const struct run_opts *o, struct err *err)
{
	if (!o->detach && o->tty && o->interactive && !isatty(STDIN_FILENO))
		return err_set(err, EINVAL,
			"the input is not a terminal: leave '-t' out, or call from a terminal");
	if (!o->detach && cli->settings.driver == SETTINGS_DRIVER_DOCKER && docker_is_direct(o))
		return err_set(err, EINVAL,
			"nothing can be attached without an agent here: give -d, and see the "
			"output "
			"with micropod logs");
	return 0;
}

static void remove_box(struct cli *cli, const char *id, struct err *err)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;
	auto_strv struct strv args = STRV_INIT;

	auto_sandbox struct sandbox box = { 0 };

	if (!cli->remote) {
		sandbox_load(cli->root, id, &box, err);
		if (sandbox_remove(cli->root, id, true, err) == 0)
			volume_remove_anonymous(cli->root, &box.config.volumes);
	} else if (strv_add(&args, "rm") == 0 && strv_add(&args, "-f") == 0 &&
		   strv_add(&args, id) == 0) {
		remote_command(cli->remote, remote_host(cli->remote, id), &args, &out, err);
	}
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct run_opts *o = values;
	struct start_opts start = { .detached = o->detach,
		.input = o->interactive,
		.sig_proxy = o->sig_proxy,
		.detach_keys = o->detach_keys };
	struct detach_keys keys;
	struct err ignored = ERR_INIT;
	char id[ID_LEN + 1];
	int code, r = check_terminal(cli, o, err);

	if (r == 0 && o->detach_keys)
		r = detach_keys_parse(o->detach_keys, &keys, err);
	if (r == 0)
		r = run_create(cli, o, words, n, id, err);
	if (r != 0)
		return r;
	trace_step("sandbox made");
	if (!o->quiet && !cli->remote && cli->settings.driver == SETTINGS_DRIVER_VM)
		run_notice(cli, (enum vm_accel)cli->settings.accel);
	code = start_box(cli, id, &start, err);
	/* Asked for, never run: nothing is left of it. */
	if (!start.started)
		remove_box(cli, id, &ignored);
	else if (o->detach)
		printf("%s\n", id);
	else if (o->remove && !start.left && !cli->remote)
		sandbox_wait_gone(cli->root, id, deadline_in(START_REMOVE_TIME));
	trace_step("sandbox left");
	return code;
}

static int create(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	char id[ID_LEN + 1];
	int r = run_create(cli, values, words, n, id, err);

	if (r != 0)
		return r;
	printf("%s\n", id);
	return 0;
}

const struct verb verb_run = {
	.name = "run",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] IMAGE [COMMAND [ARG...]]",
	.summary = "Run an image in a new sandbox",
	.opts = run_table,
	.shared_opts = run_create_opts,
	.values_size = sizeof(struct run_opts),
	.defaults = &run_defaults,
	.settings = true,
	.options_first = true,
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};

const struct verb verb_create = {
	.name = "create",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] IMAGE [COMMAND [ARG...]]",
	.summary = "Make a sandbox without starting it",
	.shared_opts = run_create_opts,
	.values_size = sizeof(struct run_opts),
	.defaults = &run_defaults,
	.settings = true,
	.options_first = true,
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = create,
};
