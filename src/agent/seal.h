/* SPDX-License-Identifier: Apache-2.0 */
/* The agent runs from a sealed memfd: no container that gets hold of /proc/<agent>/exe can write to
 * it (CVE-2019-5736). */
#pragma once

#include "base/err.h"

/*
 * Returns once this process runs from a sealed copy: at the first call it copies itself and
 * executes the copy, with argv and the environment as they are. 0, or -errno with err.
 */
int agent_seal_self(char *const *argv, struct err *err);

/* A read-only descriptor of the running (sealed) binary, CLOEXEC, for oci/execblob.h. fd or -errno.
 */
int agent_self_fd(void);
