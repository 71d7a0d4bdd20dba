/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "cli/relay.h"
#include "cli/target.h"

struct attach_opts {
	const char *detach_keys;
	bool no_stdin, sig_proxy;
};

static const struct attach_opts defaults = { .detach_keys = DETACH_KEYS_DEFAULT,
	.sig_proxy = true };

#define AT(field) offsetof(struct attach_opts, field)
static const struct opt opts[] = {
	{ "detach-keys", 0, OPT_STRING, AT(detach_keys), "KEYS",
		"keys that leave it running (default: " DETACH_KEYS_DEFAULT ")" },
	{ "no-stdin", 0, OPT_FLAG, AT(no_stdin), NULL, "do not give it our input" },
	{ "sig-proxy", 0, OPT_FLAG, AT(sig_proxy), NULL,
		"send signals on to the process (default: true)" },
	{ NULL },
};

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct attach_opts *o = values;
	struct relay_opts relay = { .join = true, .sig_proxy = o->sig_proxy };
	auto_sandbox struct sandbox box = { 0 };
	int r = detach_keys_parse(o->detach_keys, &relay.keys, err);

	if (r == 0)
		r = target_load(cli, words[0], &box, err);
	if (r < 0)
		return r;
	relay.input = !o->no_stdin && box.config.open_stdin;
	if (relay.input && box.config.tty && !isatty(STDIN_FILENO))
		return err_set(err, EINVAL,
			"the input is not a terminal: call from one, or with --no-stdin");
	return relay_attach(cli, &box, &relay, err);
}

const struct verb verb_attach = {
	.name = "attach",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX",
	.summary = "Join the terminal, input and output of a running sandbox",
	.opts = opts,
	.values_size = sizeof(struct attach_opts),
	.defaults = &defaults,
	.min_words = 1,
	.max_words = 1,
	.run = run,
};
