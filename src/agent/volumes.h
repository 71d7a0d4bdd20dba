/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of the host that it shares with the machine over virtio-fs (virtio 1.2, 5.11), which may
 * be plugged in just now. Each is mounted at VOLUMES_DIR/<container>/<n>, away from the bundle,
 * which is removed with all that lies in it, and bound from there into the container. All block.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/api.h"
#include "base/err.h"

#define VOLUMES_DIR "/run/volumes"

/* Whether the mount is one. */
bool volumes_is(const API(Mount) * mount);

/*
 * Mounts the n-th of a container, and waits for it to be plugged in until deadline. path: where
 * that is, or what subpath names in it; a link there is refused. 0 or -errno with err.
 */
int volumes_mount(const char *id, size_t n, const API(Mount) * mount, int64_t deadline,
	char path[static PATH_MAX], struct err *err);

bool volumes_is_read_only(const API(Mount) * mount);

/* Whether it is to get what the image has in its place, if there is nothing in it. */
bool volumes_is_populated(const API(Mount) * mount);

/* Unmounts those of a container. 0 or -errno with err. */
int volumes_unmount(const char *id, struct err *err);
