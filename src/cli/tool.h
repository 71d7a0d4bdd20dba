/* SPDX-License-Identifier: Apache-2.0 */
/* Tools that the agent has of its own (agent.proto, Tool), run in a sandbox' container as root. */
#pragma once

#include "agent.pb-c.h"
#include "cli/client.h"

/* args: NULL-terminated. in, out: its stdin and stdout, -1: ours. Blocks until it has ended. The
 * exit code or -errno with err. */
int tool_run(struct cli *cli, const struct sandbox *box, Micropod__Agent__V1__Tool tool,
	const char *const *args, int in, int out, struct err *err);
