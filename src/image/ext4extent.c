/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extent trees (kernel: Documentation/filesystems/ext4/ifork.rst): four extents fit into the inode.
 * With more, leaf blocks hold 340 each, and index blocks 340 of those, until four are enough.
 */
#include "image/ext4.h"

#include <errno.h>
#include <ext2fs/ext3_extents.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define ROOT_MAX 4
#define NODE_MAX ((BLOCK_SIZE - sizeof(struct ext3_extent_header)) / sizeof(struct ext3_extent))

/* One level of the tree: what the one above points to. */
struct level {
	struct extent *v;
	size_t n;
};

static void put_header(void *at, size_t n, size_t max, unsigned depth)
{
	struct ext3_extent_header h = { .eh_magic = EXT3_EXT_MAGIC,
		.eh_entries = (uint16_t)n,
		.eh_max = (uint16_t)max,
		.eh_depth = (uint16_t)depth };

	memcpy(at, &h, sizeof(h));
}

/* depth 0: extents; above: where the blocks of the level below lie. */
static void put_node(void *at, const struct extent *v, size_t n, size_t max, unsigned depth)
{
	char *p = (char *)at + sizeof(struct ext3_extent_header);

	put_header(at, n, max, depth);
	for (size_t i = 0; i < n; i++, p += sizeof(struct ext3_extent)) {
		struct ext3_extent e = { .ee_block = v[i].logical,
			.ee_len = (uint16_t)v[i].len,
			.ee_start = (uint32_t)v[i].physical,
			.ee_start_hi = (uint16_t)(v[i].physical >> 32) };
		struct ext3_extent_idx x = { .ei_block = v[i].logical,
			.ei_leaf = (uint32_t)v[i].physical,
			.ei_leaf_hi = (uint16_t)(v[i].physical >> 32) };

		static_assert(sizeof(e) == sizeof(x), "both kinds of entry are alike in size");
		memcpy(p, depth ? (void *)&x : (void *)&e, sizeof(e));
	}
}

/* Writes one level's blocks; the level above is put out. */
static int write_level(struct tree *tree, struct inode *inode, const struct extent *v, size_t n,
	unsigned depth, struct level *ret_above)
{
	size_t n_nodes = (n + NODE_MAX - 1) / NODE_MAX;
	auto_free struct extent *above = calloc(n_nodes, sizeof(*above));
	struct extents where = { 0 };
	int r = 0;

	if (!above)
		return -ENOMEM;
	for (size_t i = 0; i < n_nodes && r == 0; i++) {
		uint8_t block[BLOCK_SIZE] = { 0 };
		const struct extent *first = v + i * NODE_MAX;

		put_node(block, first, MIN(n - i * NODE_MAX, NODE_MAX), NODE_MAX, depth);
		above[i] = (struct extent){ first->logical, 0, tree->blocks->next };
		r = blocks_append(tree->blocks, block, 0, 1, &where);
	}
	free(where.v);
	inode->meta_blocks += (uint32_t)n_nodes;
	*ret_above = (struct level){ take_ptr(above), n_nodes };
	return r;
}

int ext4_write_extents(struct tree *tree, struct inode *inode)
{
	struct level level = { inode->extents.v, inode->extents.n };
	auto_free struct extent *owned = NULL;
	unsigned depth = 0;

	if (level.n <= ROOT_MAX)
		return 0;
	while (level.n > ROOT_MAX) {
		int r = write_level(tree, inode, level.v, level.n, depth++, &level);

		free(owned);
		owned = level.v;
		if (r < 0)
			return r;
	}
	inode->extent_root = calloc(1, 60);
	if (!inode->extent_root)
		return -ENOMEM;
	put_node(inode->extent_root, level.v, level.n, ROOT_MAX, depth);
	return 0;
}

void ext4_extent_root(const struct inode *inode, void *out)
{
	if (inode->extent_root)
		memcpy(out, inode->extent_root, 60);
	else
		put_node(out, inode->extents.v, inode->extents.n, ROOT_MAX, 0);
}
