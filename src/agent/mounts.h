/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems of the guest: those a Linux system has from the start, the root the agent lives in,
 * and the root file systems of containers, made of disks. All block on the kernel (milliseconds);
 * mounts made in a forked worker hold for the agent too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CONTAINERS_DIR "/containers"

/* Where the agent lives. */
enum mounts_root {
	MOUNTS_ROOT_INITRAMFS, /* the kernel's first root: no container can pivot_root away from it
				*/
	MOUNTS_ROOT_TMPFS,     /* what mounts_leave_initramfs() made of it */
	MOUNTS_ROOT_DISK,      /* agent-rootfs.ext4, read-only */
	MOUNTS_ROOT_MAX
};

/* /proc alone, which all else reads. What is mounted already stays. 0 or -errno with err. */
int mounts_proc(struct err *err);

/* /sys and /dev. What is mounted already stays. 0 or -errno with err. */
int mounts_devices(struct err *err);

/* Looks at the file system at "/". */
enum mounts_root mounts_which_root(void);

/*
 * From the initramfs to a tmpfs as root: the initramfs' folders are bound into it, nothing is
 * copied. Open descriptors stay good. 0 or -errno with err.
 */
int mounts_leave_initramfs(struct err *err);

/*
 * Removes what only the boot needed of the former initramfs, to have its memory back: the files of
 * loaded modules, and the agent's own, which by now runs from a copy (agent_seal_self()). Best
 * effort.
 */
void mounts_give_back_memory(void);

/*
 * From the initramfs to the disk with this serial number, read-only, as root; the caller then
 * executes /sbin/init. Waits for the disk until deadline. 0 or -errno with err.
 */
int mounts_enter_disk(const char *serial, int64_t deadline, struct err *err);

/*
 * The rest: /dev/pts, /dev/shm, /dev/mqueue, cgroup v2, and where the root is read-only /run, /tmp
 * and /containers. 0 or -errno with err.
 */
int mounts_rest(enum mounts_root root, struct err *err);

/*
 * Waits for the block device with this virtio serial number: found at once, or named by a kernel
 * event (uevent) until deadline (CLOCK_MONOTONIC ns). path gets "/dev/vdb". 0, -ENODEV at the
 * deadline, -EINVAL (serial longer than 20 bytes or with other than [A-Za-z0-9_.-]) with err.
 */
int mounts_find_disk(const char *serial, int64_t deadline, char path[static 32], struct err *err);

/* Remembers the disks that are there by their serial numbers, which a machine that goes on still
 * has under the same names. */
void mounts_remember_disks(void);

/* Has the disks vda, vdb, ... go by these names (separated by commas) from now on, whatever their
 * serial numbers are. 0, or -EINVAL with err: no names, or too many. */
int mounts_name_disks(const char *names, struct err *err);

/* A container's root made of disks. Strings are borrowed. */
struct mounts_root_disks {
	const char *image_serial;   /* ext4, read-only: the image */
	const char *image_tag;	    /* instead: the shared folder that it is; NULL or "": none */
	const char *scratch_serial; /* ext4: the writable layer; NULL or "": a tmpfs */
	uint64_t tmpfs_bytes;	    /* size of that tmpfs; 0: half of memory */
	bool read_only;		    /* the root itself; there is no writable layer then */
};

/*
 * Mounts CONTAINERS_DIR/<id>/rootfs: overlayfs of the image's disk and the writable layer, made
 * below CONTAINERS_DIR/<id>/disks. id has been checked. Waits for the disks until deadline. On
 * failure everything is unmounted again. 0 or -errno with err.
 */
int mounts_container_root(
	const char *id, const struct mounts_root_disks *disks, int64_t deadline, struct err *err);

/* The image and the writable layer's disk of a container, which may be in use, at these places. 0
 * or -errno with err, and then they may be mounted. */
int mounts_layers(const struct mounts_root_disks *disks, const char *image, const char *layer,
	int64_t deadline, struct err *err);

/* Undoes it in order, and removes the mount points. What is busy is detached, and goes when its
 * last user goes. 0 or -errno with err. */
int mounts_container_root_remove(const char *id, struct err *err);

/* The end: unmounts what holds data, last mounted first, and flushes it to the disks. Does what it
 * can; 0 or the first error. */
int mounts_end(struct err *err);
