/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened to the sandboxes of a root, in ROOT/events.log: a line of JSON for each, shaped as
 * Docker's events are, written by whoever does it. So nothing that was short is missed, and nobody
 * has to be there to watch. Beyond LIMIT_EVENTS_LOG the file becomes events.log.1, in place of the
 * one before.
 */
#pragma once

#include "sandbox/config.h"
#include "sandbox/root.h"

#define EVENTS_FILE "events.log"
#define EVENTS_OLD  "events.log.1"

/*
 * action: "create", "start", "die", "oom", "kill", "stop", "destroy"; key and value: one more
 * attribute ("exitCode", "0"), or NULL. Never fails: what cannot be written is logged. Blocks on
 * the disk.
 */
void sandbox_event(const struct sandbox_root *root, const struct sandbox_config *config,
	const char *action, const char *key, const char *value);
