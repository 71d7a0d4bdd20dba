/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that come and go while a VM runs, and folders and a vsock device that come, over QMP: each
 * behind a PCIe root port of its own, as a descriptor, for a confined QEMU finds no files (QEMU:
 * docs/pcie.txt, QMP add-fd, getfd).
 */
#pragma once

#include "driver/driver.h"
#include "driver/qmp.h"

struct plugs;

/* n root ports ("slot0", ... in QEMU's arguments). qmp is borrowed and must live as long. 0 or
 * -ENOMEM. */
int plugs_new(struct loop *loop, struct qmp *qmp, unsigned n, struct plugs **ret_plugs);
/* Callbacks that are owed do not come. Returns NULL. */
struct plugs *plugs_free(struct plugs *plugs);

/*
 * As driver.h's plug, share, vsock and unplug. cb comes once, never from within the call. 0, or
 * -errno with err and no call: -ENOSPC no port is free, -EEXIST or -ENOENT the serial number.
 */
int plugs_add(struct plugs *plugs, const struct vm_disk *disk, int64_t deadline, vm_done cb,
	void *arg, struct err *err);
int plugs_share(struct plugs *plugs, const char *tag, int daemon, int64_t deadline, vm_done cb,
	void *arg, struct err *err);
int plugs_vsock(struct plugs *plugs, const struct vm_vsock *vsock, int64_t deadline, vm_done cb,
	void *arg, struct err *err);
int plugs_remove(struct plugs *plugs, const char *serial, int64_t deadline, vm_done cb, void *arg,
	struct err *err);

/* The guest has let go of a device: QMP's DEVICE_DELETED. */
void plugs_deleted(struct plugs *plugs, const char *device);
/* The VM has ended: calls that are open fail with err. */
void plugs_fail(struct plugs *plugs, const struct err *err);
