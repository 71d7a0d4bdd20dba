/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that take names of sandboxes. */
#pragma once

#include "cli/cli.h"

/*
 * Calls fn for each word with the sandbox it names; what fails is complained about, the rest is
 * done. arg is passed on. Returns 0, or EXIT_MICROPOD if any failed.
 */
int target_each(struct cli *cli, const char **words, size_t n,
	int (*fn)(struct cli *cli, const char *word, const char *id, void *arg, struct err *err),
	void *arg);

/* Finds and loads one. 0 or -errno with err. */
int target_load(struct cli *cli, const char *word, struct sandbox *ret_box, struct err *err);

/*
 * sandbox_load(), and more of a container that an engine runs though no shim of ours is there (it
 * has died, or the engine has started it by itself): another shim is started for it. asked: also
 * for one that has ended as far as we know. Blocks. 0 or -errno with err.
 */
int target_open(
	struct cli *cli, const char *id, bool asked, struct sandbox *ret_box, struct err *err);

/* Whether a shim should be there: starting, running or stopping. */
bool target_alive(const struct sandbox *box);

/* Docker's state in one word: "created", "running", "paused", "exited", ... */
const char *target_state(const struct sandbox *box);

/* Docker's STATUS: "Up 5 minutes", "Exited (0) 2 hours ago", "Created", "Dead 3 minutes ago". buf:
 * at least 64 bytes. */
const char *target_status(const struct sandbox *box, char *buf, size_t size);

/* Docker's PORTS: "0.0.0.0:8080->80/tcp, ...". Appends. */
void target_ports(const struct sandbox *box, struct strbuf *out);

#define auto_sandbox __attribute__((cleanup(sandbox_deinit)))
