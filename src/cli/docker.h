/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that are containers of a Docker Engine: what is theirs in run and create. */
#pragma once

#include "cli/runopts.h"

/* Where the agent goes. With an engine on this host it lies in the folder that is mounted anyway,
 * for the way back: a copy costs 0.13 s of the engine's, and the workload could change it. */
#define DOCKER_AGENT_PATH "/tmp/agent"
#define DOCKER_AGENT_HERE "/.micropod/agent"

/* Whether the sandbox' agent is not to be reached from here: nothing can be attached. */
bool docker_is_direct(const struct run_opts *opts);

/* Refuses what only VMs have. 0 or -EINVAL with err. */
int docker_check_options(const struct run_opts *opts, struct err *err);

/*
 * Asks the engine for the image, which it fetches if need be, and makes the sandbox. The container
 * is made when it is started. config: with what needs nothing but the options. Blocks, with
 * progress on stderr. 0 or -errno with err.
 */
int docker_create(struct cli *cli, const struct run_opts *opts, const char **words,
	struct sandbox_config *config, struct err *err);
