/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of container.log, in the log format of Kubernetes' CRI: "<RFC 3339 time> <stdout|stderr>
 * <F|P> <bytes>\n". F is a whole line, P a part whose newline is not its own; putting the bytes of
 * all entries of a stream together, with a newline behind each F, gives the stream back byte for
 * byte.
 */
#pragma once

#include <stdint.h>

#include "base/strbuf.h"

/* Appends the entries for len bytes that were read at time_ns (since the epoch) from stdout (0) or
 * stderr (1). */
void crilog_format(
	struct strbuf *out, unsigned stream, int64_t time_ns, const void *data, size_t len);

/* Adds up the bytes of each stream that the entries of text are of. An entry that is cut off does
 * not count. */
void crilog_count(const char *text, size_t len, uint64_t bytes[static 2]);
