/* SPDX-License-Identifier: Apache-2.0 */
/* What of the host a container sees: -v and --mount as Docker reads them. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/strv.h"

struct sandbox_root;

/* Where volumes with names are. */
struct volumes_where {
	struct sandbox_root *root; /* here, where they are made if they are missing ... */
	bool engine;		   /* ... unless an engine has them */
};

/*
 * "HOST:CONTAINER[:OPTIONS]", "NAME:CONTAINER[:OPTIONS]" or "/CONTAINER" (--volume), appended to
 * volumes as sandbox/config.h has them, HOST made absolute;
 * "type=bind|volume|tmpfs,source=...,target=...
 * [,readonly]" (--mount), where a tmpfs goes to tmpfs as --tmpfs would say it. A folder that
 * --volume names and that is missing is made, as Docker does; --mount wants it to be there. 0, or
 * -errno with err.
 */
int volumes_parse(
	const struct volumes_where *where, const char *text, struct strv *volumes, struct err *err);
int volumes_parse_mount(const struct volumes_where *where, const char *text, struct strv *volumes,
	struct strv *tmpfs, struct err *err);

/* Those that others lie in come first, whatever order they were given in. -EINVAL with err: two
 * for one place, or too many. */
int volumes_sort(struct strv *volumes, struct err *err);
