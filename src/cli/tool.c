/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tool.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "cli/relay.h"

/* Somebody may have to wait for it, and whom it waits for may be gone. */
#define LAYER_TIME (600 * NSEC_PER_SEC)

int tool_run(struct cli *cli, const struct sandbox *box, Micropod__Agent__V1__Tool tool,
	const char *const *args, int in, int out, struct err *err)
{
	Micropod__Agent__V1__ExecStart start = MICROPOD__AGENT__V1__EXEC_START__INIT;
	Micropod__Agent__V1__ProcessSpec spec = MICROPOD__AGENT__V1__PROCESS_SPEC__INIT;
	Micropod__Agent__V1__User root = MICROPOD__AGENT__V1__USER__INIT;
	auto_client struct client client = { 0 };
	auto_close int old_in = -1, old_out = -1;
	ProtobufCBinaryData argv[4];
	char id[ID_LEN + 1];
	int r;

	root.name.data = (uint8_t *)"0";
	root.name.len = 1;
	id_generate(id);
	start.exec_id = id;
	start.process = &spec;
	spec.user = &root;
	spec.tool = tool;
	spec.args = argv;
	for (; args[spec.n_args]; spec.n_args++)
		argv[spec.n_args] = (ProtobufCBinaryData){ strlen(args[spec.n_args]),
			(uint8_t *)args[spec.n_args] };
	spec.kill_after_ns = tool == MICROPOD__AGENT__V1__TOOL__TOOL_LAYER ? LAYER_TIME : 0;
	spec.open_stdin = tool == MICROPOD__AGENT__V1__TOOL__TOOL_PUT_TREE;
	r = client_open(cli, box, &client, err);
	if (r < 0)
		return r;
	start.container_id = client.container;
	old_in = dup(STDIN_FILENO);
	old_out = dup(STDOUT_FILENO);
	if (old_in < 0 || old_out < 0 || (in >= 0 && dup2(in, STDIN_FILENO) < 0) ||
		(out >= 0 && dup2(out, STDOUT_FILENO) < 0))
		return err_errno(err, errno, "cannot copy");
	r = relay_exec(&client, &start, NULL, err);
	dup2(old_in, STDIN_FILENO);
	dup2(old_out, STDOUT_FILENO);
	return r;
}
