/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writable disk. It has a journal although that costs writes: what survives a killed guest must
 * mount again at the sandbox's next start, and without a journal that would take a file system
 * check. 16 MiB are enough for one container's metadata, and like inode tables they stay holes
 * until they are used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/limits.h"
#include "image/disk.h"
#include "image/ext4.h"

#define SCRATCH_FORMAT	   2
#define SCRATCH_MIN	   (16 * MIB)
#define BYTES_PER_INODE	   (16 * KIB)
#define JOURNAL_BLOCKS	   4096
#define JOURNAL_BLOCKS_LOW 1024 /* the least that the kernel takes; for disks below 512 MiB */
#define SMALL_DISK	   (512 * MIB)

static void set_param(struct ext2_super_block *param, uint64_t size)
{
	param->s_rev_level = EXT2_DYNAMIC_REV;
	ext2fs_set_feature_xattr(param);
	ext2fs_set_feature_dir_index(param);
	ext2fs_set_feature_sparse_super(param);
	ext2fs_set_feature_filetype(param);
	ext2fs_set_feature_extents(param);
	ext2fs_set_feature_flex_bg(param);
	ext2fs_set_feature_large_file(param);
	ext2fs_set_feature_huge_file(param);
	ext2fs_set_feature_gdt_csum(param);
	ext2fs_set_feature_dir_nlink(param);
	ext2fs_set_feature_extra_isize(param);
	ext2fs_blocks_count_set(param, size / BLOCK_SIZE);
	param->s_inodes_count = (uint32_t)MAX(size / BYTES_PER_INODE, (uint64_t)1024);
	param->s_log_block_size = param->s_log_cluster_size = 2;
	param->s_inode_size = 256;
	param->s_min_extra_isize = param->s_want_extra_isize = 32;
	param->s_log_groups_per_flex = 4;
	param->s_errors = EXT2_ERRORS_RO;
}

/* The file is new and all zero: tables and journal need no writing, in the guest neither. */
static void mark_zeroed(ext2_filsys fs)
{
	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
}

/*
 * What the file system itself takes up, as the kernel counts it. A kernel that finds another number
 * there corrects it at the first mount, in each copy of the superblock all over the disk.
 */
static errcode_t set_overhead(ext2_filsys fs, unsigned journal_blocks)
{
	blk64_t used = 0;
	/* The last block is not counted, and not used yet. */
	errcode_t e = ext2fs_count_used_clusters(fs, fs->super->s_first_data_block,
		ext2fs_blocks_count(fs->super) - fs->super->s_first_data_block - 1, &used);

	fs->super->s_overhead_clusters = (uint32_t)(used + journal_blocks);
	return e;
}

static errcode_t fill_fs(ext2_filsys fs, uint64_t size)
{
	unsigned journal_blocks = size < SMALL_DISK ? JOURNAL_BLOCKS_LOW : JOURNAL_BLOCKS;
	struct ext2_super_block *sb = fs->super;
	errcode_t e = ext2fs_allocate_tables(fs);

	if (!e)
		e = set_overhead(fs, journal_blocks);

	ext4_uuid("scratch", "uuid", sb->s_uuid);
	ext4_uuid("scratch", "hash seed", (uint8_t *)sb->s_hash_seed);
	sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
	sb->s_flags = EXT2_FLAGS_UNSIGNED_HASH;
	sb->s_max_mnt_count = -1;
	for (ext2_ino_t i = 1; i < EXT2_GOOD_OLD_FIRST_INO; i++)
		if (i != EXT2_ROOT_INO)
			ext2fs_inode_alloc_stats2(fs, i, +1, 0);
	if (!e)
		e = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);
	if (!e)
		e = ext2fs_mkdir(fs, EXT2_ROOT_INO, 0, "lost+found");
	if (!e)
		e = ext2fs_add_journal_inode(fs, journal_blocks, 0);
	if (!e)
		mark_zeroed(fs);
	return e;
}

/* An empty file system on fd, an empty file. */
static int make_scratch(int fd, uint64_t size, struct err *err)
{
	struct ext2_super_block param = { 0 };
	ext2_filsys fs = NULL;
	char name[16];
	errcode_t e;

	set_param(&param, size);
	fdio_name(fd, name);
	e = ext2fs_initialize(name, EXT2_FLAG_64BITS, &param, fdio_manager(), &fs);
	if (!e)
		e = fill_fs(fs, size);
	if (!e)
		e = ext2fs_close_free(&fs);
	if (fs)
		ext2fs_free(fs);
	if (e)
		return ext4_failed(err, e, "cannot make an empty disk");
	return ftruncate(fd, (off_t)DISK_VIRTUAL_SIZE) < 0
		       ? err_errno(err, errno, "cannot size the disk")
		       : 0;
}

/* Makes path through a temporary file beside it: whole or not there. from: a disk to copy, or -1 to
 * make one. */
static int make_at(const char *path, int from, uint64_t size, struct err *err)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;
	char suffix[17];
	uint8_t raw[8];
	int r;

	random_bytes(raw, sizeof(raw));
	hex_encode(raw, sizeof(raw), suffix);
	if (asprintf(&tmp, "%s.%s.tmp", path, suffix) < 0) {
		tmp = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "cannot make disk '%s'", tmp);
	if (from < 0)
		r = make_scratch(fd, size, err);
	else if ((r = fd_copy_sparse(from, fd)) < 0)
		err_errno(err, -r, "cannot copy the empty disk to '%s'", tmp);
	if (r == 0 && rename(tmp, path) < 0)
		r = err_errno(err, errno, "cannot make disk '%s'", path);
	if (r < 0)
		unlink(tmp);
	return r;
}

int disk_make_scratch(const char *cache, const char *path, uint64_t size_bytes, struct err *err)
{
	uint64_t size = size_bytes / BLOCK_SIZE * BLOCK_SIZE;
	auto_free char *template = NULL;
	auto_close int fd = -1;
	int r;

	if (size < SCRATCH_MIN || size > DISK_VIRTUAL_SIZE)
		return err_set(err, EINVAL, "a disk has at least 16 MiB and at most 1 TiB");
	if (!cache)
		return make_at(path, -1, size, err);
	if (asprintf(&template, "%s/scratch-%llu-%d.img", cache, (unsigned long long)size,
		    SCRATCH_FORMAT) < 0) {
		template = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	fd = open(template, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		r = fs_make_dirs(cache, 0700);
		if (r < 0)
			return err_errno(err, -r, "cannot make folder '%s'", cache);
		r = make_at(template, -1, size, err);
		if (r < 0)
			return r;
		fd = open(template, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? err_errno(err, errno, "cannot open '%s'", template)
		      : make_at(path, fd, size, err);
}
