/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of a disk that is being made: handed out in order, written in large sequential pieces.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macro.h"

#define BLOCK_SIZE	 4096
#define BLOCKS_PER_GROUP 32768
#define GROUP_DESC_SIZE	 32
/* Group descriptors of the largest disk (DISK_VIRTUAL_SIZE) lie behind the superblock's block; then
 * data begins. */
#define BLOCKS_FIRST \
	(1 + DISK_VIRTUAL_SIZE / BLOCK_SIZE / BLOCKS_PER_GROUP * GROUP_DESC_SIZE / BLOCK_SIZE)

/* len blocks from logical on in a file lie at physical; as in ext4, at most 32768 of them. */
struct extent {
	uint32_t logical, len;
	uint64_t physical;
};

struct extents {
	struct extent *v;
	size_t n, cap;
};

struct blocks {
	int fd;	       /* borrowed */
	uint64_t next; /* the next block handed out */
	uint8_t *buf;  /* not yet written, the blocks before next */
	size_t fill;
	struct extents freed; /* handed out and given back; logical unused */
};

int blocks_init(struct blocks *b, int fd); /* 0 or -ENOMEM */
void blocks_deinit(struct blocks *b);

/* Appends n blocks of data and adds them to list as logical ... 0 or -errno (-EFBIG: the disk is
 * full). */
int blocks_append(
	struct blocks *b, const void *data, uint32_t logical, size_t n, struct extents *list);

/* Takes a list's blocks back and empties it. 0 or -errno. */
int blocks_free(struct blocks *b, struct extents *list);

/* Writes what is still buffered. 0 or -errno. */
int blocks_flush(struct blocks *b);

/* Sum of the lengths. */
uint64_t extents_blocks(const struct extents *list);
