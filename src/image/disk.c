/* SPDX-License-Identifier: Apache-2.0 */
#include "image/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/limits.h"
#include "image/blocks.h"
#include "image/ext4.h"
#include "image/layer.h"
#include "image/tree.h"

struct layer_progress {
	const struct disk_build *build;
	size_t layer;
};

static void tell(void *arg, uint64_t done)
{
	const struct layer_progress *p = arg;

	p->build->progress(p->build->progress_arg, p->layer, done);
}

static int apply_layers(const struct disk_build *build, struct tree *tree, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < build->n_layers && r == 0; i++) {
		struct layer_progress p = { build, i };
		struct layer_opts opts = { .layer = &build->layers[i],
			.progress = build->progress ? tell : NULL,
			.progress_arg = &p };

		tree->layer = (uint32_t)i;
		r = layer_apply(tree, &opts, err);
	}
	return r;
}

/* What layers above have replaced or removed takes no room. A file system that cannot punch holes
 * keeps it. */
static void punch_freed(const struct blocks *b)
{
	for (size_t i = 0; i < b->freed.n; i++)
		if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)(b->freed.v[i].physical * BLOCK_SIZE),
			    (off_t)b->freed.v[i].len * BLOCK_SIZE) < 0)
			return;
}

int disk_read_layers(
	const struct disk_build *build, struct tree *tree, struct blocks *blocks, struct err *err)
{
	int r = blocks_init(blocks, build->out_fd);

	if (r == 0)
		r = tree_init(tree, blocks, build->created > 0 ? build->created : 0);
	if (r < 0)
		return err_set(err, ENOMEM, "out of memory");
	r = apply_layers(build, tree, err);
	if (r == 0)
		r = tree_add_places(tree, err);
	if (r == 0 && (r = blocks_flush(blocks)) < 0)
		err_errno(err, -r, "cannot write the layers' content");
	return r;
}

static int write_disk(const struct disk_build *build, struct tree *tree, struct err *err)
{
	struct ext4_opts opts = { .id = build->id,
		.created = build->created > 0 ? build->created : 1 };
	int r = ext4_write(tree, &opts, err);

	if (r < 0)
		return r;
	punch_freed(tree->blocks);
	return ftruncate(build->out_fd, (off_t)DISK_VIRTUAL_SIZE) < 0
		       ? err_errno(err, errno, "cannot size the disk")
		       : 0;
}

int disk_build(const struct disk_build *build, struct err *err)
{
	struct blocks blocks;
	struct tree tree = { 0 };
	int r = disk_read_layers(build, &tree, &blocks, err);

	if (r == 0)
		r = write_disk(build, &tree, err);
	tree_deinit(&tree);
	blocks_deinit(&blocks);
	return r;
}
