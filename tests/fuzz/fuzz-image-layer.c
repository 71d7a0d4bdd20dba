/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers to a disk. The input is up to four layers with the word "LAYR" between them; each may be
 * packed. Their digests never fit, which is the last thing looked at and passed over here. A disk
 * that comes out must open.
 */
#include <ext2fs/ext2fs.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "fuzz.h"
#include "image/blocks.h"
#include "image/ext4.h"
#include "image/layer.h"

#define LAYERS_MAX 4

static int memory_file(const void *data, size_t size)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);

	if (fd < 0 || fd_write_full(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

static void check_fs(int fd)
{
	ext2_filsys fs;
	char name[16];

	fdio_name(fd, name);
	if (ext2fs_open(name, EXT2_FLAG_64BITS, 0, 0, fdio_manager(), &fs) ||
		ext2fs_check_directory(fs, EXT2_ROOT_INO))
		abort();
	ext2fs_close_free(&fs);
}

/* layer_apply() puts entries on the tree before it looks at the digest: what the wrong one leaves
 * is a whole tree. */
static int apply(struct tree *tree, const uint8_t *data, size_t size)
{
	struct disk_layer layer = { .fd = memory_file(data, size),
		.digest = "sha256:",
		.diff_id = "sha256:",
		.size = size };
	struct layer_opts opts = { .layer = &layer };
	struct err err = ERR_INIT;
	int r = layer_apply(tree, &opts, &err);

	close(layer.fd);
	if (r == 0 || !err.msg[0])
		abort();
	return strstr(err.msg, "configuration says") ? 0 : r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_close int out = memfd_create("disk", MFD_CLOEXEC);
	struct ext4_opts opts = { .id = "sha256:0", .created = 1 };
	const uint8_t *end = data + size, *p = data;
	struct err err = ERR_INIT;
	struct blocks blocks;
	struct tree tree;
	int r = 0;

	setlocale(LC_CTYPE, "C.UTF-8");
	if (blocks_init(&blocks, out) < 0 || tree_init(&tree, &blocks, 1) < 0)
		abort();
	for (unsigned n = 0; p < end && n < LAYERS_MAX && r == 0; n++) {
		const uint8_t *next = memmem(p, (size_t)(end - p), "LAYR", 4);
		const uint8_t *stop = next ? next : end;

		tree.layer = n;
		r = apply(&tree, p, (size_t)(stop - p));
		p = next ? next + 4 : end;
	}
	if (r == 0) {
		if (ext4_write(&tree, &opts, &err) == 0)
			check_fs(out);
		else if (!err.msg[0])
			abort();
	}
	tree_deinit(&tree);
	blocks_deinit(&blocks);
	return 0;
}
