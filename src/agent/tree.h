/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of a container, as programs without a file: they run where an exec's program would, in the
 * container's namespaces and with its user's rights, and have the standard streams an exec has
 * (ProcessSpec.tool in agent.proto). What they say of failures goes to stderr, one line each.
 * They block as they like: they are processes of their own.
 */
#pragma once

#include "base/strv.h"

/* The tool of this number, or NULL. args as agent.proto says. Returns the exit code: 0, 1 with
 * failures told, 2 for wrong args. */
typedef int (*tree_tool)(const struct strv *args);
tree_tool tree_tool_find(unsigned number);

int tree_get(const struct strv *args);
int tree_put(const struct strv *args);
int tree_stat(const struct strv *args);

/* Its stdin is what layers_open() gives (agent/layers.h); the third of args says what is told. */
int tree_layer(const struct strv *args);
