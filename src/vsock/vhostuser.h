/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end's side of vhost-user (QEMU: docs/interop/vhost-user.rst): a VMM hands over its
 * guest's memory and the rings of one device, over a socket on our loop. The VMM may have been
 * taken over by its guest, so what it says is bounded and checked; memory that could be taken away
 * under us is refused.
 */
#pragma once

#include "io/loop.h"
#include "vsock/virtq.h"

struct vhost_user;

struct vhost_user_ops {
	/* The driver has put something into this ring, or the ring has just come. */
	void (*ring)(struct vhost_user *vu, unsigned index, void *arg);
	/* It goes away, and what was in flight with it. */
	void (*stopped)(struct vhost_user *vu, unsigned index, void *arg);
	/* The VMM has left, or broke the protocol: why is one line. May free. */
	void (*closed)(struct vhost_user *vu, const char *why, void *arg);
};

struct vhost_user_device {
	uint64_t features;  /* of the device, besides VIRTIO_F_VERSION_1 and VIRTIO_F_EVENT_IDX */
	const void *config; /* borrowed, at most LIMIT_VHOST_CONFIG bytes */
	unsigned config_len;
	unsigned rings; /* at most LIMIT_VHOST_RINGS */
	const struct vhost_user_ops *ops;
	void *arg;
};

/* Takes over fd, a connected socket. device is copied. 0 or -errno (fd closed then too). */
int vhost_user_new(struct loop *loop, int fd, const struct vhost_user_device *device,
	struct vhost_user **ret_vu);
/* Returns NULL. */
struct vhost_user *vhost_user_free(struct vhost_user *vu);

/* The ring, or NULL while it is not there. */
struct virtq *vhost_user_ring(struct vhost_user *vu, unsigned index);

/* Interrupts the guest if it wants to hear of what was pushed. */
void vhost_user_call(struct vhost_user *vu, unsigned index);

/* The device cannot go on with this ring: what its driver wrote makes no sense. It stands still
 * from now on. */
void vhost_user_break(struct vhost_user *vu, unsigned index);
