/* SPDX-License-Identifier: Apache-2.0 */
/* What `rm`, `inspect` and `prune` of volumes, networks and pods have in common. */
#pragma once

#include <jansson.h>

#include "cli/cli.h"

/* Prints each word whose thing is removed, complains of each that is not; missing_is_fine: but not
 * of one that is not there. Returns the exit code. */
int things_remove(struct cli *cli, const char **words, size_t n, bool missing_is_fine,
	int (*remove)(struct sandbox_root *root, const char *word, struct err *err));

/* Prints what describe() makes of each word, as format says; complains of what it cannot find. The
 * exit code, or -errno with err. */
int things_inspect(struct cli *cli, const char *format, const char **words, size_t n,
	int (*describe)(struct cli *cli, const char *word, json_t **ret, struct err *err),
	struct err *err);

/* Removes those that no sandbox uses, and prints "Deleted WHAT: NAME" for each. The exit code, or
 * -errno with err. */
int things_prune(struct cli *cli, const char *what,
	int (*list)(struct sandbox_root *root, struct strv *names, struct err *err),
	bool (*used)(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1]),
	int (*remove)(struct sandbox_root *root, const char *word, struct err *err),
	struct err *err);
