/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems of the guest: those a Linux system has from the start, the root the agent lives in, and the root file
 * systems of containers, made of disks. All block on the kernel (milliseconds); mounts made in a forked worker
 * hold for the agent too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CONTAINERS_DIR "/containers"

/* How the guest came up. */
enum mounts_root {
	MOUNTS_ROOT_TMPFS, /* from the initramfs: its files moved to a tmpfs, which is now the root */
	MOUNTS_ROOT_DISK,  /* agent-rootfs.ext4, read-only */
	MOUNTS_ROOT_MAX
};

/* /proc, /sys, /dev: what everything else needs. Those that are mounted already are left alone. 0 or -errno with err. */
int mounts_first(struct err *err);

/*
 * Leaves the initramfs, which no container can pivot_root away from: its files move to a tmpfs and that becomes the root.
 * When the kernel booted from a disk, or one with the serial number "agentroot" is there, the root is that disk
 * instead, read-only. Open descriptors stay good; the initramfs' memory is given back. 0 or -errno with err.
 */
int mounts_switch_root(enum mounts_root *ret_root, struct err *err);

/* The rest: /dev/pts, /dev/shm, /dev/mqueue, /run, /tmp, /containers, cgroup v2 with its controllers handed down. 0 or -errno with err. */
int mounts_rest(enum mounts_root root, struct err *err);

/*
 * Waits for the block device with this virtio serial number: found at once, or named by a kernel event (uevent) until
 * deadline (CLOCK_MONOTONIC ns). path gets "/dev/vdb". 0, -ENODEV at the deadline, -EINVAL (serial longer than 20 bytes or
 * with other than [A-Za-z0-9_.-]) with err.
 */
int mounts_find_disk(const char *serial, int64_t deadline, char path[static 32], struct err *err);

/* A container's root made of disks. Strings are borrowed. */
struct mounts_root_disks {
	const char *image_serial;   /* ext4, read-only: the image */
	const char *scratch_serial; /* ext4: the writable layer; NULL or "": a tmpfs */
	uint64_t tmpfs_bytes;	    /* size of that tmpfs; 0: half of memory */
	bool read_only;		    /* the root itself; there is no writable layer then */
};

/*
 * Mounts CONTAINERS_DIR/<id>/rootfs: overlayfs of the image's disk and the writable layer, made below
 * CONTAINERS_DIR/<id>/disks. id has been checked. Waits for the disks until deadline. On failure everything is
 * unmounted again. 0 or -errno with err.
 */
int mounts_container_root(const char *id, const struct mounts_root_disks *disks, int64_t deadline, struct err *err);

/* Undoes it in order, and removes the mount points. What is busy is detached, and goes when its last user goes. 0 or -errno with err. */
int mounts_container_root_remove(const char *id, struct err *err);

/* The end: unmounts what holds data, last mounted first, and flushes it to the disks. Does what it can; 0 or the first error. */
int mounts_end(struct err *err);
