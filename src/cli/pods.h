/* SPDX-License-Identifier: Apache-2.0 */
/* Pods, for verbs that have to do with more. */
#pragma once

#include "cli/cli.h"
#include "sandbox/manager.h"

/* The ids of the sandboxes in a pod, appended. 0 or -errno with err. */
int pods_members(struct cli *cli, const char *pod, struct strv *ids, struct err *err);

/* One with sandboxes in it is -EBUSY, unless force: then they go first. 0 or -errno with err. */
int pods_remove(struct cli *cli, const struct sandbox *pod, bool force, struct err *err);
