/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders as ext4 has them (kernel: Documentation/filesystems/ext4/directory.rst). Up to two blocks
 * the entries stand in order of their names; beyond, in order of their hashes in leaf blocks, with
 * an index in front: block 0 is the root, then, if its 508 places are too few for the leaves,
 * nodes, then the leaves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "image/ext4.h"

#define LINEAR_BLOCKS_MAX 2
#define DX_ROOT_OFFSET \
	32 /* of the root's first index entry: "." and "..", then 8 bytes of dx_root_info */
#define DX_NODE_OFFSET 8
#define DX_ROOT_LIMIT  ((BLOCK_SIZE - DX_ROOT_OFFSET) / 8)
#define DX_NODE_LIMIT  ((BLOCK_SIZE - DX_NODE_OFFSET) / 8)

struct entry {
	const struct dentry *dentry;
	uint32_t hash, minor;
};

struct leaf {
	uint32_t hash; /* of its first entry; bit 0: that hash also ends the leaf before */
	size_t first, n;
};

struct dirwriter {
	struct tree *tree;
	struct inode *dir;
	uint8_t block[BLOCK_SIZE];
	size_t fill; /* bytes of block used */
	struct ext2_dir_entry *last;
	uint32_t n_blocks; /* written */
};

static size_t record_len(size_t name_len)
{
	return (8 + name_len + 3) & ~(size_t)3;
}

static int file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EXT2_FT_REG_FILE;
	case S_IFDIR:
		return EXT2_FT_DIR;
	case S_IFCHR:
		return EXT2_FT_CHRDEV;
	case S_IFBLK:
		return EXT2_FT_BLKDEV;
	case S_IFIFO:
		return EXT2_FT_FIFO;
	case S_IFLNK:
		return EXT2_FT_SYMLINK;
	default:
		return EXT2_FT_UNKNOWN;
	}
}

static void put_record(struct dirwriter *w, uint32_t number, int type, const char *name, size_t len)
{
	struct ext2_dir_entry *e = (void *)(w->block + w->fill);

	e->inode = number;
	e->rec_len = (uint16_t)record_len(len);
	ext2fs_dirent_set_name_len(e, (int)len);
	ext2fs_dirent_set_file_type(e, type);
	memcpy(e->name, name, len);
	w->last = e;
	w->fill += record_len(len);
}

static int append(struct dirwriter *w)
{
	int r = blocks_append(w->tree->blocks, w->block, w->n_blocks, 1, &w->dir->extents);

	w->n_blocks++;
	w->fill = 0;
	w->last = NULL;
	memset(w->block, 0, BLOCK_SIZE);
	return r;
}

/* Ends a block of entries: the last one reaches to its end. */
static int end_block(struct dirwriter *w)
{
	if (!w->last)
		return 0;
	w->last->rec_len = (uint16_t)(w->last->rec_len + (BLOCK_SIZE - w->fill));
	return append(w);
}

static void put_dots(struct dirwriter *w)
{
	put_record(w, w->dir->number, EXT2_FT_DIR, ".", 1);
	put_record(
		w, w->dir->parent ? w->dir->parent->number : w->dir->number, EXT2_FT_DIR, "..", 2);
}

static int put_dentry(struct dirwriter *w, const struct dentry *d)
{
	int r = w->fill + record_len(d->len) > BLOCK_SIZE ? end_block(w) : 0;

	if (r == 0)
		put_record(w, d->inode->number, file_type(d->inode->attr.mode), d->name, d->len);
	return r;
}

static int write_linear(struct dirwriter *w, struct dentry **children)
{
	int r = 0;

	put_dots(w);
	for (size_t i = 0; children[i] && r == 0; i++)
		r = put_dentry(w, children[i]);
	return r < 0 ? r : end_block(w);
}

static int compare_hashes(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->minor != y->minor)
		return x->minor < y->minor ? -1 : 1;
	return strcmp(x->dentry->name, y->dentry->name);
}

static int hash_entries(
	struct dentry **children, size_t n, const uint32_t seed[4], struct entry *entries)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t copy[4] = { seed[0], seed[1], seed[2], seed[3] };

		entries[i].dentry = children[i];
		if (ext2fs_dirhash(EXT2_HASH_HALF_MD4_UNSIGNED, children[i]->name, children[i]->len,
			    copy, &entries[i].hash, &entries[i].minor))
			return -EINVAL;
	}
	qsort(entries, n, sizeof(*entries), compare_hashes);
	return 0;
}

/* Which entries go into which leaf. Returns the number of leaves; leaves has room for n. */
static size_t plan_leaves(const struct entry *entries, size_t n, struct leaf *leaves)
{
	size_t n_leaves = 0, fill = BLOCK_SIZE;

	for (size_t i = 0; i < n; i++) {
		size_t len = record_len(entries[i].dentry->len);

		if (fill + len > BLOCK_SIZE) {
			bool goes_on = i && entries[i - 1].hash == entries[i].hash;

			leaves[n_leaves++] = (struct leaf){ entries[i].hash | goes_on, i, 0 };
			fill = 0;
		}
		leaves[n_leaves - 1].n++;
		fill += len;
	}
	return n_leaves;
}

/* An index block's entries: limit and count stand where the first one would have its hash. */
static void put_index(uint8_t *at, size_t limit, const struct leaf *leaves, size_t stride, size_t n,
	uint32_t first_block)
{
	struct ext2_dx_countlimit count = { .limit = (uint16_t)limit, .count = (uint16_t)n };
	struct ext2_dx_entry e;

	for (size_t i = 0; i < n; i++) {
		e.hash = leaves[i * stride].hash;
		e.block = first_block + (uint32_t)i;
		memcpy(at + 8 * i, &e, sizeof(e));
	}
	memcpy(at, &count, sizeof(count));
}

static int write_root(
	struct dirwriter *w, const struct leaf *leaves, size_t n_leaves, size_t n_nodes)
{
	struct ext2_dx_root_info info = {
		.hash_version = EXT2_HASH_HALF_MD4, .info_length = 8, .indirect_levels = n_nodes > 0
	};

	put_dots(w);
	w->last->rec_len = BLOCK_SIZE - 12;
	memcpy(w->block + 24, &info, sizeof(info));
	if (n_nodes)
		put_index(w->block + DX_ROOT_OFFSET, DX_ROOT_LIMIT, leaves, DX_NODE_LIMIT, n_nodes,
			1);
	else
		put_index(w->block + DX_ROOT_OFFSET, DX_ROOT_LIMIT, leaves, 1, n_leaves, 1);
	return append(w);
}

static int write_node(
	struct dirwriter *w, const struct leaf *leaves, size_t n, uint32_t first_block)
{
	struct ext2_dir_entry *fake = (void *)w->block; /* an unused entry over the whole block */

	fake->rec_len = BLOCK_SIZE;
	put_index(w->block + DX_NODE_OFFSET, DX_NODE_LIMIT, leaves, 1, n, first_block);
	return append(w);
}

static int write_indexed(struct dirwriter *w, const struct entry *entries,
	const struct leaf *leaves, size_t n_leaves)
{
	size_t n_nodes =
		n_leaves > DX_ROOT_LIMIT ? (n_leaves + DX_NODE_LIMIT - 1) / DX_NODE_LIMIT : 0;
	int r;

	if (n_nodes > DX_ROOT_LIMIT)
		return -EFBIG;
	r = write_root(w, leaves, n_leaves, n_nodes);
	for (size_t i = 0; i < n_nodes && r == 0; i++) {
		size_t first = i * DX_NODE_LIMIT;

		r = write_node(w, leaves + first, MIN(n_leaves - first, (size_t)DX_NODE_LIMIT),
			(uint32_t)(1 + n_nodes + first));
	}
	for (size_t i = 0; i < n_leaves && r == 0; i++) {
		for (size_t k = 0; k < leaves[i].n; k++) {
			const struct dentry *d = entries[leaves[i].first + k].dentry;

			put_record(w, d->inode->number, file_type(d->inode->attr.mode), d->name,
				d->len);
		}
		r = end_block(w);
	}
	return r;
}

static size_t linear_blocks(struct dentry **children)
{
	size_t blocks = 1, fill = 24;

	for (size_t i = 0; children[i]; i++) {
		size_t len = record_len(children[i]->len);

		if (fill + len > BLOCK_SIZE) {
			blocks++;
			fill = 0;
		}
		fill += len;
	}
	return blocks;
}

int ext4_write_dir(struct tree *tree, struct inode *dir, const uint32_t seed[4])
{
	auto_free struct dentry **children = tree_children(dir);
	auto_free struct entry *entries = NULL;
	auto_free struct leaf *leaves = NULL;
	struct dirwriter w = { .tree = tree, .dir = dir };
	int r;

	if (!children)
		return -ENOMEM;
	if (linear_blocks(children) <= LINEAR_BLOCKS_MAX) {
		r = write_linear(&w, children);
	} else {
		entries = calloc(dir->n_children, sizeof(*entries));
		leaves = calloc(dir->n_children, sizeof(*leaves));
		if (!entries || !leaves)
			return -ENOMEM;
		r = hash_entries(children, dir->n_children, seed, entries);
		if (r == 0)
			r = write_indexed(
				&w, entries, leaves, plan_leaves(entries, dir->n_children, leaves));
		dir->flags |= EXT2_INDEX_FL;
	}
	dir->size = (uint64_t)w.n_blocks * BLOCK_SIZE;
	return r;
}
