/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archives that trees travel in: ustar with pax headers (POSIX.1-2017, pax), so that names of
 * any bytes and length, sizes, nanoseconds and extended attributes survive. Reads GNU's long names
 * too. Every byte read is a stranger's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strbuf.h"

#define TAR_BLOCK 512

struct tar_xattr {
	char *name;
	void *value;
	size_t len;
};

struct tar_entry {
	char type; /* '0' file, '1' hard link, '2' symbolic link, '3' character device, '4' block
		      device, '5' folder, '6' FIFO */
	char *path, *link; /* owned; bytes */
	mode_t mode;	   /* permissions only */
	uint32_t uid, gid, major, minor;
	uint64_t size; /* of a file's content, which follows */
	int64_t mtime;
	uint32_t mtime_ns;
	struct tar_xattr *xattrs; /* owned */
	size_t n_xattrs;
};

void tar_entry_deinit(struct tar_entry *entry);
/* Copies. 0, -ENOMEM or -E2BIG (LIMIT_XATTR_BYTES in all). */
int tar_entry_add_xattr(struct tar_entry *entry, const char *name, const void *value, size_t len);

/* Appends the entry's headers. Its content follows, filled up to whole blocks (tar_padding()), and
 * behind the last entry two blocks of zeros. */
void tar_put_entry(struct strbuf *out, const struct tar_entry *entry);

/* Zeros that follow size bytes of content. */
static inline size_t tar_padding(uint64_t size)
{
	return (size_t)(-size & (TAR_BLOCK - 1));
}

/* Where it is read from: as read(2), whole or less, 0 at the end, -errno. */
struct tar_reader {
	ssize_t (*read)(void *arg, void *buf, size_t len);
	void *arg;
	uint64_t left; /* of the current entry's content */
	size_t padding;
};

/*
 * The next entry; what was not read of the one before is skipped. 1, 0 at the archive's end, or
 * -errno with err (EPROTO: no archive, or of a kind that is not read, such as GNU's sparse files;
 * E2BIG: above a limit). Blocks as read does.
 */
int tar_next(struct tar_reader *reader, struct tar_entry *ret_entry, struct err *err);

/* Content of the current entry: bytes, 0 at its end, -errno with err. */
ssize_t tar_content(struct tar_reader *reader, void *buf, size_t len, struct err *err);
