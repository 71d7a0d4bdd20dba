/* SPDX-License-Identifier: Apache-2.0 */
/* stop, restart and kill. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/start.h"

#define AT(field) offsetof(struct stop_opts, field)
static const struct opt stop_table[] = {
	{ "signal", 's', OPT_STRING, AT(signal), "SIGNAL",
		"send this first (default: the sandbox's own, or TERM)" },
	{ "time", 't', OPT_CALL, 0, "SECONDS", "how long to wait before it is killed",
		.parse = stop_parse_timeout },
	{ "timeout", 0, OPT_CALL, 0, "SECONDS", "the same", .parse = stop_parse_timeout },
	{ NULL },
};

static int stop_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	int r = stop_box(cli, id, arg, err);

	if (r == 0)
		printf("%s\n", word);
	return r;
}

static int stop(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct stop_opts o = *(const struct stop_opts *)values;
	int r = stop_check_signal(o.signal, err);

	return r < 0 ? r : target_each(cli, words, n, stop_one, &o);
}

/* One that has ended is started; so is a dead one, as `start` does. */
static int restart_one(
	struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	struct start_opts start = { .detached = true };
	struct sandbox box;
	bool alive;
	int r = target_open(cli, id, true, &box, err);

	if (r < 0)
		return r;
	alive = target_alive(&box);
	sandbox_deinit(&box);
	if (alive)
		r = stop_box(cli, id, arg, err);
	if (r == 0 && start_box(cli, id, &start, err) != 0)
		r = -err->code;
	if (r == 0)
		printf("%s\n", word);
	return r;
}

static int restart(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct stop_opts o = *(const struct stop_opts *)values;
	int r = stop_check_signal(o.signal, err);

	return r < 0 ? r : target_each(cli, words, n, restart_one, &o);
}

struct kill {
	const char *signal;
};

static const struct opt kill_table[] = {
	{ "signal", 's', OPT_STRING, offsetof(struct kill, signal), "SIGNAL",
		"send this instead of KILL" },
	{ NULL },
};

static int kill_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	Micropod__Sandbox__V1__KillRequest req = MICROPOD__SANDBOX__V1__KILL_REQUEST__INIT;
	auto_client struct client client = { 0 };
	const struct kill *k = arg;
	auto_sandbox struct sandbox box = { 0 };
	int r = target_open(cli, id, true, &box, err);

	if (r == 0)
		r = client_open(cli, &box, &client, err);
	if (r < 0)
		return r;
	req.signal = (char *)(k->signal ? k->signal : "KILL");
	r = client_unary(&client, SANDBOX_METHOD("Kill"), &req.base,
		&micropod__sandbox__v1__kill_response__descriptor, CLIENT_CALL_TIME, NULL, NULL,
		err);
	if (r == 0)
		printf("%s\n", word);
	return r;
}

static int run_kill(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct kill k = *(const struct kill *)values;
	int r = stop_check_signal(k.signal, err);

	return r < 0 ? r : target_each(cli, words, n, kill_one, &k);
}

#define STOP_VERB(verb_name, where, what, fn, table, values)                                  \
	{                                                                                     \
		.name = verb_name, .usage = "[OPTIONS] SANDBOX...", .summary = what,          \
		.opts = table, .values_size = values, .min_words = 1, .max_words = WORDS_ANY, \
		.remote = where, .run = fn                                                    \
	}

const struct verb verb_stop =
	STOP_VERB("stop", VERB_HERE, "Stop sandboxes: a signal first, then by force", stop,
		stop_table, sizeof(struct stop_opts));
const struct verb verb_restart = STOP_VERB("restart", VERB_BY_SANDBOX,
	"Stop sandboxes and start them again", restart, stop_table, sizeof(struct stop_opts));
const struct verb verb_kill = STOP_VERB(
	"kill", VERB_HERE, "Send a signal to sandboxes", run_kill, kill_table, sizeof(struct kill));
