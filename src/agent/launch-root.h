/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of a container that is made without a runtime, step by step, in the child that will be
 * its first process. All return 0, or -errno with f, after which the child can only report it.
 */
#pragma once

#include <errno.h>

#include "agent/launch.h"
#include "agent/mounts.h"

/* "cannot STEP OBJECT: ..." for f. Returns -code. */
int launch_failed(struct failure *f, const char *step, const char *object, int code);

/* A system call, of whose failure the function that it stands in is to tell. */
#define TRY(call, step, object)                                       \
	do {                                                          \
		long try_ = (call);                                   \
		if (try_ < 0)                                         \
			return launch_failed(f, step, object, errno); \
	} while (0)

/* Whether the mount is a file system in memory, which is made here as virtio-fs ones are. */
bool launch_root_is_tmpfs(const API(Mount) * mount);

/* In fresh namespaces: leaves the guest's mounts and cgroups, and puts together what every
 * container has below its bundle. shm_bytes: size of /dev/shm; 0: Docker's. share_ipc:
 * it is the machine's. */
int launch_root_stage(const char *bundle, uint64_t shm_bytes, bool share_ipc, struct failure *f);

/* Mounts the container's disks at CONTAINERS_DIR/<id>/rootfs. */
int launch_root_mount_disks(
	const char *id, const struct mounts_root_disks *disks, struct failure *f);

/* After both (the disks only if the request has some): puts all in place and makes it this process'
 * root. */
int launch_root_enter(const struct launch_spec *spec, struct failure *f);
