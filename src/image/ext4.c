/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: when this begins, all content of files lies in the file from block BLOCKS_FIRST on,
 * in the order in which the layers came. Behind it go folders, long symbolic links and extent
 * trees, then bitmaps and inode tables of all groups together (flex_bg allows that), sized to what
 * there is. libext2fs makes superblock, descriptors, bitmaps, inodes and attributes; with
 * sparse_super2 and no backups, no group needs blocks at its beginning, so data is one run. Groups
 * without anything are marked uninitialised and take no room. Nobody ever writes to this file
 * system, so there is no journal, no reserve and no slack.
 */
#include "image/ext4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/limits.h"

#define INODE_SIZE	 256
#define INODES_PER_BLOCK (BLOCK_SIZE / INODE_SIZE)
#define EXTRA_ISIZE	 32
#define FAST_LINK_MAX	 59    /* bytes of a symbolic link's target that fit into the inode */
#define DIR_LINKS_MAX	 64998 /* subfolders; beyond, dir_nlink sets the count to 1 */

struct writer {
	struct tree *tree;
	const struct ext4_opts *opts;
	struct inode **inodes;	  /* in order of their numbers */
	struct dentry **dentries; /* the first that names each; for messages */
	size_t n, cap, n_xattrs;
	uint32_t seed[4];
	ext2_filsys fs;
	uint32_t groups, inodes_per_group;
};

int ext4_failed(struct err *err, long code, const char *what)
{
	/* System errors pass through libext2fs as they are; its own are far above. */
	int e = code > 0 && code < 4096 ? (int)code : EIO;

	return err_set(err, e, "%s: %s", what, error_message(code));
}

void ext4_uuid(const char *digest, const char *salt, uint8_t out[static 16])
{
	char text[2 * DIGEST_SIZE], hash[DIGEST_SIZE];

	snprintf(text, sizeof(text), "%s %s", digest, salt);
	memset(out, 0, 16);
	if (digest_of(text, strlen(text), hash) == 0) {
		hash[DIGEST_PREFIX_LEN + 32] = 0;
		hex_decode(digest_hex(hash), out, 16);
	}
	/* RFC 4122, version 8-like use of a hash is marked as version 5: made from a name. */
	out[6] = (uint8_t)((out[6] & 0x0f) | 0x50);
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

/* Numbers, in order of paths */

static int add_inode(struct writer *w, struct inode *inode, struct dentry *d)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 1024;
		struct inode **inodes = reallocarray(w->inodes, cap, sizeof(*inodes));
		struct dentry **dentries;

		if (!inodes)
			return -ENOMEM;
		w->inodes = inodes;
		dentries = reallocarray(w->dentries, cap, sizeof(*dentries));
		if (!dentries)
			return -ENOMEM;
		w->dentries = dentries;
		w->cap = cap;
	}
	inode->number = w->n ? EXT2_GOOD_OLD_FIRST_INO + (uint32_t)w->n - 1 : EXT2_ROOT_INO;
	w->inodes[w->n] = inode;
	w->dentries[w->n++] = d;
	w->n_xattrs += inode->attr.n_xattrs > 0;
	return 0;
}

static int number(struct writer *w, struct inode *dir)
{
	auto_free struct dentry **children = tree_children(dir);
	int r = children ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && children[i]; i++) {
		struct inode *inode = children[i]->inode;

		if (inode->number)
			continue; /* another hard link */
		r = add_inode(w, inode, children[i]);
		if (r == 0 && S_ISDIR(inode->attr.mode))
			r = number(w, inode);
	}
	return r;
}

/* What lies in blocks beside the files' content */

static int write_long_link(struct tree *tree, struct inode *inode)
{
	uint8_t block[BLOCK_SIZE] = { 0 };

	memcpy(block, inode->target, inode->size);
	return blocks_append(tree->blocks, block, 0, 1, &inode->extents);
}

static int write_blocks(struct writer *w, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < w->n && r == 0; i++) {
		struct inode *inode = w->inodes[i];

		if (S_ISDIR(inode->attr.mode))
			r = ext4_write_dir(w->tree, inode, w->seed);
		else if (S_ISLNK(inode->attr.mode) && inode->size > FAST_LINK_MAX)
			r = write_long_link(w->tree, inode);
		if (r == 0)
			r = ext4_write_extents(w->tree, inode);
	}
	if (r == 0)
		r = blocks_flush(w->tree->blocks);
	return r < 0 ? err_errno(err, -r, "cannot write the disk") : 0;
}

/* Geometry */

static int plan(struct writer *w, struct err *err)
{
	uint64_t data = w->tree->blocks->next + w->n_xattrs,
		 inodes = EXT2_GOOD_OLD_FIRST_INO - 1 + w->n, need;
	uint64_t groups = (data + BLOCKS_PER_GROUP - 1) / BLOCKS_PER_GROUP, per_group;

	for (;; groups++) {
		per_group = (inodes + groups - 1) / groups;
		per_group =
			(per_group + INODES_PER_BLOCK - 1) / INODES_PER_BLOCK * INODES_PER_BLOCK;
		need = data + groups * (2 + per_group / INODES_PER_BLOCK);
		if (per_group <= 8 * BLOCK_SIZE && need <= groups * BLOCKS_PER_GROUP)
			break;
	}
	if (groups > DISK_VIRTUAL_SIZE / BLOCK_SIZE / BLOCKS_PER_GROUP)
		return err_set(err, EFBIG, "the image is larger than a disk can be (1 TiB)");
	w->groups = (uint32_t)groups;
	w->inodes_per_group = (uint32_t)per_group;
	return 0;
}

static void set_features(struct ext2_super_block *sb)
{
	sb->s_rev_level = EXT2_DYNAMIC_REV;
	ext2fs_set_feature_xattr(sb);
	ext2fs_set_feature_dir_index(sb);
	ext2fs_set_feature_sparse_super2(sb);
	ext2fs_set_feature_filetype(sb);
	ext2fs_set_feature_extents(sb);
	ext2fs_set_feature_flex_bg(sb);
	ext2fs_set_feature_large_file(sb);
	ext2fs_set_feature_huge_file(sb);
	ext2fs_set_feature_gdt_csum(sb);
	ext2fs_set_feature_dir_nlink(sb);
	ext2fs_set_feature_extra_isize(sb);
}

static int make_fs(struct writer *w, struct err *err)
{
	struct ext2_super_block param = { 0 }, *sb;
	char name[16];
	errcode_t e;

	set_features(&param);
	ext2fs_blocks_count_set(&param, (blk64_t)w->groups * BLOCKS_PER_GROUP);
	param.s_inodes_count = w->groups * w->inodes_per_group;
	param.s_log_block_size = param.s_log_cluster_size = 2;
	param.s_blocks_per_group = BLOCKS_PER_GROUP;
	param.s_inode_size = INODE_SIZE;
	param.s_min_extra_isize = param.s_want_extra_isize = EXTRA_ISIZE;
	param.s_log_groups_per_flex = 4;
	param.s_errors = EXT2_ERRORS_CONTINUE;
	fdio_name(w->tree->blocks->fd, name);
	e = ext2fs_initialize(name, EXT2_FLAG_64BITS, &param, fdio_manager(), &w->fs);
	if (e)
		return ext4_failed(err, e, "cannot make the file system");
	sb = w->fs->super;
	if (w->fs->group_desc_count != w->groups || sb->s_inodes_per_group != w->inodes_per_group ||
		1 + w->fs->desc_blocks > BLOCKS_FIRST)
		return err_set(err, EIO, "libext2fs chose another geometry than it was told");
	w->fs->now = (time_t)w->opts->created;
	ext4_uuid(w->opts->id, "uuid", sb->s_uuid);
	memcpy(sb->s_hash_seed, w->seed, sizeof(w->seed));
	sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
	sb->s_flags = EXT2_FLAGS_UNSIGNED_HASH;
	sb->s_mkfs_time = sb->s_wtime = sb->s_lastcheck = (uint32_t)w->opts->created;
	sb->s_max_mnt_count = -1;
	sb->s_checkinterval = 0;
	return 0;
}

/* Marks what is taken, and lays out bitmaps and tables behind the data. */
static void place_tables(struct writer *w)
{
	ext2_filsys fs = w->fs;
	const struct blocks *b = w->tree->blocks;
	uint32_t table = w->inodes_per_group / INODES_PER_BLOCK;
	blk64_t at = b->next;

	ext2fs_mark_block_bitmap_range2(fs->block_map, BLOCKS_FIRST, (unsigned)(at - BLOCKS_FIRST));
	for (size_t i = 0; i < b->freed.n; i++)
		ext2fs_unmark_block_bitmap_range2(
			fs->block_map, b->freed.v[i].physical, b->freed.v[i].len);
	for (dgrp_t g = 0; g < w->groups; g++)
		ext2fs_block_bitmap_loc_set(fs, g, at + g);
	for (dgrp_t g = 0; g < w->groups; g++)
		ext2fs_inode_bitmap_loc_set(fs, g, at + w->groups + g);
	for (dgrp_t g = 0; g < w->groups; g++)
		ext2fs_inode_table_loc_set(fs, g, at + 2 * w->groups + (blk64_t)g * table);
	ext2fs_mark_block_bitmap_range2(fs->block_map, at, w->groups * (2 + table));
	for (ext2_ino_t i = 1; i < EXT2_GOOD_OLD_FIRST_INO; i++)
		ext2fs_mark_inode_bitmap2(fs->inode_map, i);
}

/* Inodes */

/* Seconds and nanoseconds as ext4 has them: 34 bits of seconds, those outside of them at the
 * nearest end. */
static uint32_t time_low(int64_t *sec)
{
	*sec = MAX(MIN(*sec, (int64_t)INT32_MAX + 3 * ((int64_t)1 << 32)), (int64_t)INT32_MIN);
	return (uint32_t)*sec;
}

static uint32_t time_extra(int64_t sec, uint32_t nsec)
{
	return (uint32_t)(((sec - (int32_t)sec) >> 32) & 3) | nsec << 2;
}

static void fill_content(const struct inode *inode, struct ext2_inode_large *out)
{
	uint32_t major = inode->attr.major, minor = inode->attr.minor;

	switch (inode->attr.mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		if (major < 256 && minor < 256)
			out->i_block[0] = major << 8 | minor;
		else
			out->i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
		return;
	case S_IFIFO:
		return;
	case S_IFLNK:
		if (inode->size <= FAST_LINK_MAX) {
			memcpy(out->i_block, inode->target, inode->size);
			return;
		}
		break;
	default:
		break;
	}
	out->i_flags |= EXT4_EXTENTS_FL;
	ext4_extent_root(inode, out->i_block);
}

static uint16_t link_count(const struct inode *inode)
{
	if (!S_ISDIR(inode->attr.mode))
		return (uint16_t)inode->nlink;
	return inode->n_dirs > DIR_LINKS_MAX ? 1 : (uint16_t)(inode->n_dirs + 2);
}

static void fill_inode(const struct inode *inode, struct ext2_inode_large *out)
{
	const struct attributes *a = &inode->attr;
	uint64_t sectors =
		(extents_blocks(&inode->extents) + inode->meta_blocks) * (BLOCK_SIZE / 512);
	int64_t sec = a->mtime;

	out->i_mode = (uint16_t)a->mode;
	out->i_uid = (uint16_t)a->uid;
	out->i_uid_high = (uint16_t)(a->uid >> 16);
	out->i_gid = (uint16_t)a->gid;
	out->i_gid_high = (uint16_t)(a->gid >> 16);
	out->i_size = (uint32_t)inode->size;
	out->i_size_high = (uint32_t)(inode->size >> 32);
	out->i_links_count = link_count(inode);
	out->i_blocks = (uint32_t)sectors;
	out->osd2.linux2.l_i_blocks_hi = (uint16_t)(sectors >> 32);
	out->i_flags = inode->flags;
	out->i_extra_isize = EXTRA_ISIZE;
	out->i_atime = out->i_ctime = out->i_mtime = out->i_crtime = time_low(&sec);
	out->i_atime_extra = out->i_ctime_extra = out->i_mtime_extra = out->i_crtime_extra =
		time_extra(sec, a->mtime_nsec);
	fill_content(inode, out);
}

static errcode_t write_xattrs(struct writer *w, const struct inode *inode)
{
	struct ext2_xattr_handle *handle;
	errcode_t e = ext2fs_xattrs_open(w->fs, inode->number, &handle);

	if (e)
		return e;
	for (size_t i = 0; i < inode->attr.n_xattrs && !e; i++) {
		const struct xattr *x = &inode->attr.xattrs[i];

		e = ext2fs_xattr_set(handle, x->name, x->value, x->len);
	}
	if (!e)
		e = ext2fs_xattrs_write(handle);
	ext2fs_xattrs_close(&handle);
	return e;
}

static int write_inodes(struct writer *w, struct err *err)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct inode *inode = w->inodes[i];
		union {
			struct ext2_inode_large large;
			uint8_t bytes[INODE_SIZE];
		} u = { .bytes = { 0 } };
		errcode_t e;

		fill_inode(inode, &u.large);
		e = ext2fs_write_inode_full(
			w->fs, inode->number, (struct ext2_inode *)&u.large, INODE_SIZE);
		ext2fs_mark_inode_bitmap2(w->fs->inode_map, inode->number);
		if (!e && inode->attr.n_xattrs)
			e = write_xattrs(w, inode);
		if (e) {
			ext4_failed(err, e, "cannot write the inode");
			return err_wrap(
				err, "entry '%.100s'", w->dentries[i] ? w->dentries[i]->name : "/");
		}
	}
	return 0;
}

/* Counts */

static void count_group(struct writer *w, dgrp_t g, uint32_t dirs)
{
	ext2_filsys fs = w->fs;
	uint32_t free_blocks = 0, used_inodes = 0, last = 0;
	blk64_t first_block = ext2fs_group_first_block2(fs, g);
	ext2_ino_t first_inode = 1 + g * w->inodes_per_group;
	uint16_t flags = EXT2_BG_INODE_ZEROED;

	for (uint32_t i = 0; i < BLOCKS_PER_GROUP; i++)
		free_blocks += !ext2fs_test_block_bitmap2(fs->block_map, first_block + i);
	for (uint32_t i = 0; i < w->inodes_per_group; i++)
		if (ext2fs_test_inode_bitmap2(fs->inode_map, first_inode + i)) {
			used_inodes++;
			last = i + 1;
		}
	if (!used_inodes)
		flags |= EXT2_BG_INODE_UNINIT;
	if (free_blocks == BLOCKS_PER_GROUP)
		flags |= EXT2_BG_BLOCK_UNINIT;
	ext2fs_bg_flags_zap(fs, g);
	ext2fs_bg_flags_set(fs, g, flags);
	ext2fs_bg_free_blocks_count_set(fs, g, free_blocks);
	ext2fs_bg_free_inodes_count_set(fs, g, w->inodes_per_group - used_inodes);
	ext2fs_bg_itable_unused_set(fs, g, w->inodes_per_group - last);
	ext2fs_bg_used_dirs_count_set(fs, g, dirs);
	ext2fs_group_desc_csum_set(fs, g);
	ext2fs_free_blocks_count_add(fs->super, free_blocks);
	fs->super->s_free_inodes_count += w->inodes_per_group - used_inodes;
}

static int count(struct writer *w, struct err *err)
{
	auto_free uint32_t *dirs = calloc(w->groups, sizeof(*dirs));

	if (!dirs)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < w->n; i++)
		if (S_ISDIR(w->inodes[i]->attr.mode))
			dirs[(w->inodes[i]->number - 1) / w->inodes_per_group]++;
	ext2fs_free_blocks_count_set(w->fs->super, 0);
	w->fs->super->s_free_inodes_count = 0;
	for (dgrp_t g = 0; g < w->groups; g++)
		count_group(w, g, dirs[g]);
	return 0;
}

static int finish(struct writer *w, struct err *err)
{
	errcode_t e;

	ext2fs_mark_super_dirty(w->fs);
	ext2fs_mark_bb_dirty(w->fs);
	ext2fs_mark_ib_dirty(w->fs);
	e = ext2fs_close_free(&w->fs);
	return e ? ext4_failed(err, e, "cannot write the file system") : 0;
}

static int write_all(struct writer *w, struct err *err)
{
	int r = add_inode(w, w->tree->root, NULL);

	if (r == 0)
		r = number(w, w->tree->root);
	if (r < 0)
		return err_set(err, ENOMEM, "out of memory");
	if ((r = write_blocks(w, err)) < 0 || (r = plan(w, err)) < 0 || (r = make_fs(w, err)) < 0)
		return r;
	place_tables(w);
	if ((r = write_inodes(w, err)) < 0 || (r = count(w, err)) < 0)
		return r;
	return finish(w, err);
}

int ext4_write(struct tree *tree, const struct ext4_opts *opts, struct err *err)
{
	struct writer w = { .tree = tree, .opts = opts };
	int r;

	ext4_uuid(opts->id, "hash seed", (uint8_t *)w.seed);
	r = write_all(&w, err);
	if (w.fs)
		ext2fs_free(w.fs);
	free(w.inodes);
	free(w.dentries);
	return r;
}
