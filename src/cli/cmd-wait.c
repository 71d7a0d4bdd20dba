/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "cli/boxes.h"
#include "cli/client.h"

static int wait_running(struct cli *cli, const struct sandbox *box, int *ret_code, struct err *err)
{
	Micropod__Sandbox__V1__WaitRequest req = MICROPOD__SANDBOX__V1__WAIT_REQUEST__INIT;
	auto_client struct client client = { 0 };
	ProtobufCMessage *answer = NULL;
	int r = client_open(cli, box, &client, err);

	if (r == 0)
		r = client_unary(&client, SANDBOX_METHOD("Wait"), &req.base,
			&micropod__sandbox__v1__wait_response__descriptor, 0, &answer, NULL, err);
	if (r < 0)
		return r;
	*ret_code = ((Micropod__Sandbox__V1__WaitResponse *)answer)->exit_code;
	protobuf_c_message_free_unpacked(answer, NULL);
	return 0;
}

static int wait_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	struct err lost = ERR_INIT;
	int code = 0, r = target_open(cli, id, true, &box, err);

	if (r < 0)
		return r;
	if (box.state.phase == SANDBOX_CREATED)
		return client_not_running(&box, err);
	if (!target_alive(&box)) {
		code = box.state.exit_code;
	} else if (wait_running(cli, &box, &code, &lost) < 0) {
		/* Its shim has gone meanwhile: what it wrote last, or that it is dead, is on the
		 * disk. */
		sandbox_deinit(&box);
		box = (struct sandbox){ 0 };
		r = boxes_load(cli, id, &box, err);
		if (r < 0 || target_alive(&box))
			return err_set(err, lost.code, "%s", lost.msg);
		code = box.state.exit_code;
	}
	printf("%d\n", code);
	return 0;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return target_each(cli, words, n, wait_one, NULL);
}

const struct verb verb_wait = {
	.name = "wait",
	.remote = VERB_HERE,
	.usage = "SANDBOX...",
	.summary = "Wait until sandboxes have ended and print their exit codes",
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
