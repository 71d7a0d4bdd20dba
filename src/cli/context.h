/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers by name: contexts.json beside micropod.yaml. One of them may be the current one, which is
 * used where neither --server nor MICROPOD_SERVER names a server; MICROPOD_CONTEXT names another,
 * "default" this host.
 */
#pragma once

#include "base/err.h"

struct context {
	char *server, *token_file, *ca, *pin; /* server NULL: this host; the others may be NULL */
};

/* The one that counts now. 0 or -errno with err: MICROPOD_CONTEXT names none, or the file is
 * damaged. */
int context_current(struct context *ret_context, struct err *err);
void context_deinit(struct context *context);
