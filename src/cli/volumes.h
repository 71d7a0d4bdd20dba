/* SPDX-License-Identifier: Apache-2.0 */
/* Folders and files of the host in the container: -v and --mount as Docker reads them. */
#pragma once

#include "base/err.h"
#include "base/strv.h"

/*
 * "HOST:CONTAINER[:OPTIONS]" (--volume), or "type=bind,source=...,target=...[,readonly]" (--mount),
 * appended to volumes as sandbox/config.h has them, HOST made absolute. A folder that --volume
 * names and that is missing is made, as Docker does; --mount wants it to be there. 0, or -errno
 * with err.
 */
int volumes_parse(const char *text, struct strv *volumes, struct err *err);
int volumes_parse_mount(const char *text, struct strv *volumes, struct err *err);

/* Those that others lie in come first, whatever order they were given in. -EINVAL with err: two
 * for one place, or too many. */
int volumes_sort(struct strv *volumes, struct err *err);
