/* SPDX-License-Identifier: Apache-2.0 */
/* netlink(7) requests, to rtnetlink(7) and netfilter: a message is built in a fixed buffer, sent,
 * and its answer waited for. */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

struct netlink_msg {
	union {
		struct nlmsghdr head;
		uint8_t buf[1024];
	};
};

/* A socket of that protocol (NETLINK_ROUTE, ...), CLOEXEC. fd or -errno. */
int netlink_open(int protocol);

/* Begins a request of this type with a zeroed family struct (ifinfomsg, nfgenmsg, ...) of the
 * given size, which is returned. */
void *netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, size_t size);

/* Appends an attribute. The buffer is large enough for every request of this program (asserted). */
void netlink_add(struct netlink_msg *m, uint16_t type, const void *data, size_t len);

/* Begins an attribute of others, which are added next, until netlink_nest_end() with what is
 * returned. */
size_t netlink_nest(struct netlink_msg *m, uint16_t type);
void netlink_nest_end(struct netlink_msg *m, size_t nest);

/* Sends n messages at once, the first and the last of which (begin and end) are not answered. 0, or
 * the first -errno. Blocks shortly. */
int netlink_ask_batch(int fd, struct netlink_msg *m, size_t n);

/* Sends and waits for the kernel's answer: 0 or its -errno. Blocks shortly. */
int netlink_ask(int fd, struct netlink_msg *m);

/* Sends a dump request and calls fn for each message of the answer. 0, or the first -errno of
 * kernel or fn. */
int netlink_dump(
	int fd, struct netlink_msg *m, int (*fn)(const struct nlmsghdr *h, void *arg), void *arg);
