/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define EVENT_MAX 8192 /* the kernel's own limit is 2 KiB of variables and a path */

int uevent_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	auto_close int fd = socket(
		AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* An event is "action@path" and KEY=VALUE strings, each with its NUL. */
static bool is_about(const char *event, size_t len, const char *subsystem)
{
	char want[64];
	const char *end = event + len;

	snprintf(want, sizeof(want), "SUBSYSTEM=%s", subsystem);
	for (const char *s = event; s < end; s += strnlen(s, (size_t)(end - s)) + 1)
		if ((size_t)(end - s) > strlen(want) && strcmp(s, want) == 0)
			return true;
	return false;
}

int uevent_wait(int fd, const char *subsystem, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char event[EVENT_MAX];

	for (;;) {
		ssize_t n = recv(fd, event, sizeof(event) - 1, 0);

		if (n < 0 && errno == ENOBUFS)
			return 0; /* events were lost: look again */
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			event[n] = '\0';
			if (is_about(event, (size_t)n, subsystem))
				return 0;
			continue;
		}
		n = poll(&p, 1, deadline_poll_ms(deadline));
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}
