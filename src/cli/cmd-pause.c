/* SPDX-License-Identifier: Apache-2.0 */
/* pause and unpause. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/target.h"

static int call(struct cli *cli, const char *word, const char *id, const char *method,
	const ProtobufCMessage *req, const ProtobufCMessageDescriptor *answer, struct err *err)
{
	auto_client struct client client = { 0 };
	auto_sandbox struct sandbox box = { 0 };
	int r = target_open(cli, id, true, &box, err);

	if (r == 0)
		r = client_open(cli, &box, &client, err);
	if (r == 0)
		r = client_unary(&client, method, req, answer, CLIENT_CALL_TIME, NULL, NULL, err);
	if (r == 0)
		printf("%s\n", word);
	return r;
}

static int pause_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	Micropod__Sandbox__V1__PauseRequest req = MICROPOD__SANDBOX__V1__PAUSE_REQUEST__INIT;

	return call(cli, word, id, SANDBOX_METHOD("Pause"), &req.base,
		&micropod__sandbox__v1__pause_response__descriptor, err);
}

static int unpause_one(
	struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	Micropod__Sandbox__V1__UnpauseRequest req = MICROPOD__SANDBOX__V1__UNPAUSE_REQUEST__INIT;

	return call(cli, word, id, SANDBOX_METHOD("Unpause"), &req.base,
		&micropod__sandbox__v1__unpause_response__descriptor, err);
}

static int run_pause(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return target_each(cli, words, n, pause_one, NULL);
}

static int run_unpause(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return target_each(cli, words, n, unpause_one, NULL);
}

const struct verb verb_pause = {
	.name = "pause",
	.remote = VERB_HERE,
	.usage = "SANDBOX...",
	.summary = "Have all processes of sandboxes stand still",
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run_pause,
};

const struct verb verb_unpause = {
	.name = "unpause",
	.remote = VERB_HERE,
	.usage = "SANDBOX...",
	.summary = "Let the processes of paused sandboxes go on",
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run_unpause,
};
