/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/target.h"

/* Its shim does it while there is one: it holds the lock, and knows the name. */
static int ask_shim(struct cli *cli, const struct sandbox *box, const char *name, struct err *err)
{
	Micropod__Sandbox__V1__RenameRequest req = MICROPOD__SANDBOX__V1__RENAME_REQUEST__INIT;
	auto_client struct client client = { 0 };
	int r = client_open(cli, box, &client, err);

	req.name = (char *)name;
	return r < 0 ? r
		     : client_unary(&client, SANDBOX_METHOD("Rename"), &req.base,
			       &micropod__sandbox__v1__rename_response__descriptor,
			       CLIENT_CALL_TIME, NULL, NULL, err);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	auto_close int lock = -1;
	int r = target_load(cli, words[0], &box, err);

	if (r < 0)
		return r;
	if (target_alive(&box))
		return ask_shim(cli, &box, words[1], err);
	lock = sandbox_lock(cli->root, box.config.id, err);
	return lock < 0 ? lock : sandbox_rename(cli->root, &box.config, words[1], err);
}

const struct verb verb_rename = {
	.name = "rename",
	.remote = VERB_BY_SANDBOX,
	.usage = "SANDBOX NAME",
	.summary = "Give a sandbox another name",
	.min_words = 2,
	.max_words = 2,
	.run = run,
};
