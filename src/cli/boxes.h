/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes, wherever they are: below this root, or on the hosts of a server. All block. */
#pragma once

#include "cli/cli.h"

/* As sandbox_find(), sandbox_list() and sandbox_load(). */
int boxes_find(struct cli *cli, const char *word, char out[static ID_LEN + 1], struct err *err);
int boxes_list(struct cli *cli, struct strv *ids, struct err *err);
int boxes_load(struct cli *cli, const char *id, struct sandbox *ret_box, struct err *err);
