/* SPDX-License-Identifier: Apache-2.0 */
/* Writing ext4 with libext2fs: an io_manager on a descriptor, and a tree with its data to a whole
 * file system. */
#pragma once

#include <ext2fs/ext2fs.h>
#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/tree.h"

/*
 * libext2fs opens by name; this one takes "fd:N" and reads and writes that descriptor, which stays
 * the caller's. So a confined process that may open nothing can use it. Block size 1024 until told
 * otherwise.
 */
io_manager fdio_manager(void);
void fdio_name(int fd, char out[static 16]);

/* libext2fs's error as ours: err_set with what and its text; -ENOSPC and the like where it passed
 * errno on. */
int ext4_failed(struct err *err, long code, const char *what);

/* 16 bytes each, made from digest and salt, so that one image always gets the same. */
void ext4_uuid(const char *digest, const char *salt, uint8_t out[static 16]);

struct ext4_opts {
	const char *id;	 /* digest that UUID and hash seed come from */
	int64_t created; /* seconds since 1970, not before */
};

/*
 * Adds folders and metadata behind the data that tree->blocks has written, and superblock and
 * descriptors in front: the file is then a file system. Inode numbers are given to the tree. 0 or
 * -errno with err.
 */
int ext4_write(struct tree *tree, const struct ext4_opts *opts, struct err *err);

/* ext4dir.c: the blocks of a folder (inode->extents, size, flags), with a hash index from 3 blocks
 * on. 0 or -errno. */
int ext4_write_dir(struct tree *tree, struct inode *dir, const uint32_t seed[4]);

/* ext4extent.c: the blocks of the extent tree where it needs some (inode->extent_root,
 * meta_blocks). 0 or -errno. */
int ext4_write_extents(struct tree *tree, struct inode *inode);

/* The 60 bytes of i_block. */
void ext4_extent_root(const struct inode *inode, void *out);
