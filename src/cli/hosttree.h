/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of this host as tar streams, by libarchive. Both block until all is done and are meant for
 * a child process. What cannot be read or made is told on stderr and left out.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Writes path with all below it to fd, under the name `name`. follow: a link path is followed.
 * Returns 0, or 1 with failures told. */
int hosttree_send(int fd, const char *path, const char *name, bool follow);

/*
 * Reads a stream from fd into folder. It is a stranger's: every name must be `name` or below it
 * (all must be below folder if name is "."), no link is followed, no device made, no right to
 * another's identity given. keep: owners too, which only root can. Returns 0, or 1 with failures
 * told.
 */
int hosttree_receive(int fd, const char *folder, const char *name, bool keep);
