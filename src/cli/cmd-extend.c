/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/client.h"
#include "cli/target.h"

struct extend {
	int64_t time; /* negative: as it was made */
};

static const struct opt table[] = {
	{ "time", 't', OPT_DURATION, offsetof(struct extend, time), "SECONDS",
		"so long from now, 0: without end (default: as it was made)" },
	{ NULL },
};

static const struct extend defaults = { .time = -1 };

static int extend_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	Micropod__Sandbox__V1__ExtendRequest req = MICROPOD__SANDBOX__V1__EXTEND_REQUEST__INIT;
	auto_client struct client client = { 0 };
	const struct extend *e = arg;
	auto_sandbox struct sandbox box = { 0 };
	ProtobufCMessage *answer = NULL;
	int r = target_open(cli, id, true, &box, err);

	if (r == 0)
		r = client_open(cli, &box, &client, err);
	if (r < 0)
		return r;
	req.time_ns = e->time;
	r = client_unary(&client, SANDBOX_METHOD("Extend"), &req.base,
		&micropod__sandbox__v1__extend_response__descriptor, CLIENT_CALL_TIME, &answer,
		NULL, err);
	if (r == 0)
		printf("%s\n", word);
	if (answer)
		protobuf_c_message_free_unpacked(answer, NULL);
	return r;
}

static int extend(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct extend e = *(const struct extend *)values;

	return target_each(cli, words, n, extend_one, &e);
}

const struct verb verb_extend = {
	.name = "extend",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX...",
	.summary = "Give sandboxes with a limit more time",
	.opts = table,
	.values_size = sizeof(struct extend),
	.defaults = &defaults,
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = extend,
};
