/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of a server: programs of their own, with libraries that nobody else loads. */
#include "cli/cli.h"

const struct verb verb_server = {
	.name = "server",
	.usage = "[OPTIONS]",
	.summary = "Collect hosts and agents, and let others use them",
	.program = "micropod-server",
};

const struct verb verb_runner = {
	.name = "runner",
	.usage = "[OPTIONS]",
	.summary = "Join this host to a server",
	.program = "micropod-runner",
};

const struct verb verb_token = {
	.name = "token",
	.usage = "create|ls|rm [OPTIONS]",
	.summary = "Say who may use a server",
	.program = "micropod-server",
};
