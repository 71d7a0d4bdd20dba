/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of an image as a folder of this host, for a root file system that is shared with the
 * guest (virtio-fs) instead of being a disk. What layers mean is said in image/disk.h. Owners, and
 * attributes but user.*, are kept as root only: for anyone else all is their own. Devices are left
 * out.
 */
#pragma once

#include "image/disk.h"

#define UNPACK_FORMAT 1 /* goes up when the same layers are unpacked differently */

/* What a folder is unpacked in: the root, and files with more than one name while it is filled. */
#define UNPACK_ROOT  "root"
#define UNPACK_LINKS "links"

/*
 * Fills both, which are there and empty, below the folder dir. build as for disk_build(), its
 * out_fd a file for what is in between. Parses what strangers wrote: run it in a worker that can
 * reach nothing but the folder (image_tree() does). 0 or -errno with err, as disk_build().
 */
int unpack_build(const struct disk_build *build, int dir, struct err *err);
