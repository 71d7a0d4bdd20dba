/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VMM and its guest say to the vsock device. An even first byte: the rest is what the VMM
 * sends. An odd one: the rest is the begin of the guest's memory, where both rings lie, and the
 * device looks at it.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "vsock/device.h"

#define MEMORY	  (256 * KIB)
#define RING_SIZE 0x1000 /* descriptors, 0x400 on what is available, 0x600 on what is used */
#define NUM	  16

static void on_failed(struct vsock_device *dev, const char *why, void *arg)
{
	if (!*why)
		abort();
	*(bool *)arg = true;
}

static void tell(int vmm, uint32_t request, const void *data, uint32_t size, int fd)
{
	uint32_t header[3] = { request, 1, size };
	struct iovec iov[2] = { { header, sizeof(header) }, { (void *)data, size } };
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(vmm, &msg, MSG_NOSIGNAL) < 0)
		abort();
}

static void start_rings(int vmm, int memory, int kick)
{
	const uint64_t table[5] = { 1, 0, MEMORY, 0, 0 }, features = 1ull << 32;

	tell(vmm, 2, &features, sizeof(features), -1);
	tell(vmm, 5, table, sizeof(table), memory);
	for (uint32_t i = 0; i < 2; i++) {
		const uint64_t at = RING_SIZE * (uint64_t)i,
			       addr[5] = { i, at, at + 0x600, at + 0x400, 0 }, ring = i;
		const uint32_t num[2] = { i, NUM }, base[2] = { i, 0 };

		tell(vmm, 8, num, sizeof(num), -1);
		tell(vmm, 9, addr, sizeof(addr), -1);
		tell(vmm, 10, base, sizeof(base), -1);
		tell(vmm, 12, &ring, sizeof(ring), kick);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fds[2], memory = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING),
		    kick = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	bool failed = false;
	const struct vsock_device_events events = { on_failed, &failed };
	struct vsock_device *dev;
	struct err err = ERR_INIT;
	struct loop *loop;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/fuzz-vsock-%d", (int)getpid());
	if (memory < 0 || kick < 0 || ftruncate(memory, MEMORY) < 0 ||
		fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) < 0 || loop_new(&loop) < 0 ||
		fd_socketpair(fds) < 0 ||
		vsock_device_new(loop, fds[0], path, 3, &events, &dev, &err) < 0)
		abort();
	if (size && (data[0] & 1)) {
		if (pwrite(memory, data + 1, MIN(size - 1, MEMORY), 0) < 0)
			abort();
		start_rings(fds[1], memory, kick);
	} else if (size) {
		if (send(fds[1], data + 1, MIN(size - 1, 64 * KIB), MSG_DONTWAIT | MSG_NOSIGNAL) <
				0 &&
			size > 1)
			abort();
	}
	for (int i = 0; i < 4; i++)
		loop_once(loop, 0);
	close(fds[1]);
	for (int i = 0; i < 4 && !failed; i++)
		loop_once(loop, 0);
	/* The end of the VMM, at the latest, is told. */
	if (!failed)
		abort();
	vsock_device_free(dev);
	loop_free(loop);
	close(memory);
	close(kick);
	return 0;
}
