/* SPDX-License-Identifier: Apache-2.0 */
/* What a Dockerfile starts from. No I/O; any bytes. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/strv.h"

/*
 * Appends to names the images that the file's instructions name (FROM, COPY --from=, ADD --from=,
 * RUN --mount=...,from=), each once: none of the file's own stages, and not `scratch`. args:
 * "NAME=value", the build arguments given; they and the defaults of ARG before the first FROM are
 * put in. 0, or -EINVAL with err (no FROM; LIMIT_BUILD_BASES), or -ENOMEM.
 */
int buildfile_bases(
	const char *text, size_t len, const struct strv *args, struct strv *names, struct err *err);
