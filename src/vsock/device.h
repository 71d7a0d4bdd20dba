/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-vsock device (virtio 1.2, 5.10) behind vhost-user, whose host side are unix sockets, as
 * Firecracker has it (its docs/vsock.md): who connects to PATH and writes "CONNECT <port>\n" is
 * connected to that port of the guest's, and reads "OK <its own port>\n" first; a guest that
 * connects to port P of CID 2 is connected to PATH_P, if somebody listens there. No other user of
 * the host comes near it: PATH lies in a private folder.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"

struct vsock_device;

struct vsock_device_events {
	/* The VMM has left, or its device broke: why is one line. May free. */
	void (*failed)(struct vsock_device *dev, const char *why, void *arg);
	void *arg;
};

/*
 * Serves the device over fd, a socket that is connected to the VMM (consumed in every case), and
 * listens on path (mode 0600; a stale one is replaced). The guest's CID is cid. Who connects before
 * the guest's driver is up waits for it. 0 or -errno with err. Does not block.
 */
int vsock_device_new(struct loop *loop, int fd, const char *path, uint64_t cid,
	const struct vsock_device_events *events, struct vsock_device **ret_dev, struct err *err);

/* Ends all connections and removes path. Returns NULL. */
struct vsock_device *vsock_device_free(struct vsock_device *dev);
