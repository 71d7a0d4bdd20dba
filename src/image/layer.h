/* SPDX-License-Identifier: Apache-2.0 */
/* One layer's tar stream put onto a tree; image/disk.h says what the entries mean. */
#pragma once

#include "image/disk.h"
#include "image/tree.h"

struct layer_opts {
	const struct disk_layer *layer;
	void (*progress)(void *arg, uint64_t done); /* packed bytes read; may be NULL */
	void *progress_arg;
};

/*
 * Reads the blob to its end, verifies what is unpacked against diff_id (the packed bytes were
 * verified when they came, and cannot be wrong without this) and puts each entry onto the tree;
 * content goes to tree->blocks. 0 or -errno with err that names layer and entry; the tree is then
 * good for tree_deinit() alone. The locale must be one of UTF-8 (libarchive drops names otherwise).
 */
int layer_apply(struct tree *tree, const struct layer_opts *opts, struct err *err);
