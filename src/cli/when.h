/* SPDX-License-Identifier: Apache-2.0 */
/* Points in time as --since and --until take them. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * "2026-01-31T12:00:00.5Z" (RFC 3339; without a zone local time; seconds, minutes or the whole time
 * may be left out), Unix seconds with a fraction ("1767225600.5"), or how long ago ("42m",
 * "1h30m"). Nanoseconds since 1970 to *ret_ns. 0 or -EINVAL with err. An opt parser: field is an
 * int64_t.
 */
int when_parse(const char *word, void *ret_ns, struct err *err);
