/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders: atomic replacement, trees, confined opening, locks. All block on the disk. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* Reads a whole file of at most max bytes (-EFBIG beyond). *ret_data is malloc'd with a NUL behind.
 * 0 or -errno. */
int fs_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len);

/*
 * Replaces path by the data: temporary file beside it, fsync if durable, rename. Readers see the
 * old or the new file, never a part. 0 or -errno, and then nothing has changed and no temporary
 * file is left.
 */
int fs_replace_file(
	int dirfd, const char *path, const void *data, size_t len, mode_t mode, bool durable);

/* mkdir -p with the mode for those made. 0 or -errno. */
int fs_make_dirs(const char *path, mode_t mode);

/* rm -rf below dirfd, without following links or leaving the file system. A missing path is no
 * error. 0 or -errno. */
int fs_remove_tree(int dirfd, const char *path);

/*
 * openat2(2) beneath dirfd: no "..", absolute path, magic link or symbolic link leads out of it.
 * Returns the fd (CLOEXEC), or -errno (-EXDEV: it led out).
 */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/*
 * Takes an advisory lock (flock(2)) on path, made if missing. exclusive or shared; wait or
 * -EWOULDBLOCK. Returns the fd that holds it until closed (by the last process that inherited it),
 * or -errno.
 */
int fs_lock(int dirfd, const char *path, bool exclusive, bool wait);

/* Writes text in one write(2) to a file that is there: how the kernel's settings are made. 0 or
 * -errno. */
int fs_set(const char *path, const char *text);

/* Makes dir (0700) if missing and refuses one that is not ours or that others may write to. 0 or
 * -errno with err. */
int fs_private_dir(const char *path, struct err *err);

/* Bytes that path, and all below it, takes on the disk; a symbolic link at its end is followed,
 * others are not. What goes away meanwhile counts nothing. Adds to *bytes. 0 or -errno. */
int fs_disk_usage(int dirfd, const char *path, uint64_t *bytes);

/* Bytes free for this user on path's file system. 0 or -errno. */
int fs_free_bytes(const char *path, uint64_t *ret_bytes);
