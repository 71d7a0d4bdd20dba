/* SPDX-License-Identifier: Apache-2.0 */
/* One line on stderr that says how far a pull is; on a terminal only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

struct progress {
	bool on;
	bool shown;   /* a line stands there */
	int64_t next; /* not before this time again (CLOCK_MONOTONIC) */
	enum image_phase last;
};

void progress_init(struct progress *progress, bool quiet);

/* An image_progress_fn; arg: struct progress. */
void progress_show(void *arg, const struct image_progress *what);

/* Takes the line away. */
void progress_clear(struct progress *progress);

#define auto_progress __attribute__((cleanup(progress_clear)))
