/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel settings (sysctl(8)) that a container asks for. The guest's kernel is the sandbox' own, so
 * all can be had, not only those that belong to a namespace.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Whether it belongs to the IPC namespace, which each container has for itself. */
bool sysctl_is_ipc(const char *key);

/* "net.core.somaxconn": writes it below this process' /proc/sys, for its namespaces. 0 or -errno
 * with err. */
int sysctl_set(const char *key, const char *value, struct err *err);
