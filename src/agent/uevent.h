/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for devices: the kernel's events (netlink(7), NETLINK_KOBJECT_UEVENT) tell when to look
 * again. */
#pragma once

#include <stdint.h>

/* A socket that the kernel's events arrive at from now on, CLOEXEC. fd or -errno. */
int uevent_open(void);

/* Blocks until an event of this subsystem ("block", "virtio-ports") has come or the deadline is
 * past. 0, -ETIMEDOUT or -errno. */
int uevent_wait(int fd, const char *subsystem, int64_t deadline);
