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

/* The host that has it does: only the first word is a sandbox. */
static int ask_host(struct cli *cli, const char **words, struct err *err)
{
	auto_strv struct strv args = STRV_INIT;
	char id[ID_LEN + 1];
	int r = remote_find(cli->remote, words[0], id, err);

	if (r < 0)
		return r;
	if (!*remote_host(cli->remote, id))
		return err_set(err, ENOTSUP,
			"'%s' is an agent without a host, which has no other name", words[0]);
	r = strv_add(&args, "rename");
	if (r == 0)
		r = strv_addv(&args, (const char *const[]){ "--", id, words[1], NULL });
	return r < 0 ? err_errno(err, -r, "cannot ask the server")
		     : remote_command(cli->remote, remote_host(cli->remote, id), &args, NULL, err);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	auto_close int lock = -1;
	int r;

	if (cli->remote)
		return ask_host(cli, words, err);
	r = target_load(cli, words[0], &box, err);
	if (r < 0)
		return r;
	if (target_alive(&box))
		return ask_shim(cli, &box, words[1], err);
	lock = sandbox_lock(cli->root, box.config.id, err);
	return lock < 0 ? lock : sandbox_rename(cli->root, &box.config, words[1], err);
}

const struct verb verb_rename = {
	.name = "rename",
	.remote = VERB_HERE,
	.usage = "SANDBOX NAME",
	.summary = "Give a sandbox another name",
	.min_words = 2,
	.max_words = 2,
	.run = run,
};
