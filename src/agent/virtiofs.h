/* SPDX-License-Identifier: Apache-2.0 */
/* File systems that the host shares with the machine (virtio 1.2, 5.11). Both block. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Mounts the one with this tag, once it is plugged in, until deadline. 0 or -errno with err. */
int virtiofs_mount(const char *tag, const char *target, unsigned long flags, int64_t deadline,
	struct err *err);

/* Where the first contract has a container's root that the host shares, under a tag of that name:
 * mounted if such a one is there and is not mounted yet; whoever looks finds what there is. */
#define VIRTIOFS_ROOT "/container_rootfs"
void virtiofs_mount_root(void);
