/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: the layers of an image as one read-only ext4 file, and empty ones to write to. Both are
 * made without root and without mounting anything, sparse, and have a virtual size of
 * DISK_VIRTUAL_SIZE (the file system in them is smaller), so that any disk fits any template.
 *
 * Layers are applied as the OCI image-spec (layer.md) says and Docker does it:
 *  - names are cleaned lexically; one that climbs out with ".." is refused;
 *  - symbolic links on the way to an entry, from whatever layer, are followed inside the image's
 * root, as in a chroot (".." stops at the root); more than 40 of them, or one that leads to
 * something that is no folder, is refused. The last component is never followed. Nothing outside
 * the image can be reached: the tree lives in memory;
 *  - missing parents are made, root's, 0755;
 *  - a folder over a folder takes the new attributes and keeps its content; any other pair
 * replaces;
 *  - ".wh.x" removes x of lower layers, ".wh..wh..opq" all that lower layers put into its folder,
 * wherever in the layer they stand; other ".wh..wh." names are dropped;
 *  - hard links must lead to something that is there by then and no folder;
 *  - owner, mode with set-id bits, times in ns, devices, FIFOs, extended attributes user.*,
 * trusted.*, security.* and POSIX ACLs are kept; tar has no sockets. Any refusal names layer and
 * entry, and leaves nothing behind.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"

#define DISK_FORMAT 2 /* goes up when the builder writes the same layers differently */

struct disk_layer {
	int fd;			   /* the blob, at offset 0; borrowed */
	char digest[DIGEST_SIZE];  /* its name in messages */
	char diff_id[DIGEST_SIZE]; /* what the tar inside must have */
	uint64_t size;
};

struct disk_build {
	const struct disk_layer *layers; /* lowest first */
	size_t n_layers;
	char id[DIGEST_SIZE]; /* of the configuration; UUID and hash seed come from it, so that
				 equal images give equal bytes */
	int64_t created;      /* seconds since 1970; time of what the layers give no time for */
	int out_fd;	      /* an empty file, read and write; borrowed */
	void (*progress)(void *arg, size_t layer,
		uint64_t done); /* packed bytes read of a layer; may be NULL */
	void *progress_arg;
};

/*
 * Writes the disk to out_fd; the caller syncs. Parses what strangers wrote: run it in a confined
 * worker (image_disk() does). 0 or -errno with err: EINVAL and the like for a bad entry, EBADMSG
 * wrong digest or broken layer, EFBIG a limit of base/limits.h, ENOSPC.
 */
int disk_build(const struct disk_build *build, struct err *err);

/*
 * The first half of it: the layers on each other in tree, their content in out_fd. Both are to be
 * deinitialised in any case, tree first. 0 or -errno with err.
 */
struct tree;
struct blocks;
int disk_read_layers(
	const struct disk_build *build, struct tree *tree, struct blocks *blocks, struct err *err);

/*
 * Makes path an empty sparse ext4 of fs size size_bytes (16 MiB to DISK_VIRTUAL_SIZE), replacing
 * what is there. cache: a folder where one template per size is kept and copied from (then it takes
 * milliseconds); NULL: none. The root folder is root's, 0755. It has a small journal, so that a
 * killed guest leaves a file system that mounts again.
 */
int disk_make_scratch(const char *cache, const char *path, uint64_t size_bytes, struct err *err);
