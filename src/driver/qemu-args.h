/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's argument vector from a vm_config: no I/O, so that unit tests see every word of it. */
#pragma once

#include "base/strv.h"
#include "driver/driver.h"

/* Names and descriptors as QEMU sees them; confined, they are the same for every sandbox. */
struct qemu_view {
	const char *program; /* argv[0] */
	const char *
		firmware; /* folder with qboot.rom and linuxboot_dma.bin; NULL: QEMU's own choice */
	const char *kernel, *initramfs;
	const char *ram; /* the memory file; NULL with anonymous memory */
	const char *disks[LIMIT_DISKS +
			  1]; /* in config's order, the agent root file system behind them */
	int qmp_fd, agent_fd, console_fd;
	int net_fd;	  /* -1: none */
	const char *trim; /* the plugin, NULL: none; takes its orders on trim_fd */
	int trim_fd;
	bool io_uring; /* else a pool of threads reads and writes the disks */
};

#define QEMU_SERIAL_MAX 20 /* VIRTIO_BLK_ID_BYTES, virtio 1.2 5.2.6 */
#define QEMU_TAG_MAX	36 /* of a shared folder, virtio 1.2 5.11.4 */

/* The serial number of the disk that config->agent_rootfs becomes. */
#define QEMU_AGENT_ROOTFS_SERIAL "agentroot"

/*
 * Appends to argv. 0, or -errno with err for a config that QEMU cannot have (memory, CPUs, serial
 * numbers, length of the command line).
 */
int qemu_args_build(const struct vm_config *config, const struct qemu_view *view, struct strv *argv,
	struct err *err);
