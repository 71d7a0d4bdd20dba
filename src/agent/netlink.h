/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink(7) requests: a message is built in a fixed buffer, sent, and its answer waited for. */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

struct netlink_msg {
	union {
		struct nlmsghdr head;
		uint8_t buf[512];
	};
};

/* A route socket, CLOEXEC. fd or -errno. */
int netlink_open(void);

/* Begins a request of this type with a zeroed family struct (ifinfomsg, ifaddrmsg, rtmsg) of the
 * given size, which is returned. */
void *netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, size_t size);

/* Appends an attribute. The buffer is large enough for every request of this program (asserted). */
void netlink_add(struct netlink_msg *m, uint16_t type, const void *data, size_t len);

/* Sends and waits for the kernel's answer: 0 or its -errno. Blocks shortly. */
int netlink_ask(int fd, struct netlink_msg *m);

/* Sends a dump request and calls fn for each message of the answer. 0, or the first -errno of
 * kernel or fn. */
int netlink_dump(
	int fd, struct netlink_msg *m, int (*fn)(const struct nlmsghdr *h, void *arg), void *arg);
