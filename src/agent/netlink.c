/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"

#define DUMP_BUFFER 32768 /* what the kernel puts into one datagram at most */

int netlink_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(&fd);
}

void *netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, size_t size)
{
	memset(m, 0, sizeof(*m));
	m->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
	m->head.nlmsg_type = type;
	m->head.nlmsg_flags = NLM_F_REQUEST | flags;
	return NLMSG_DATA(&m->head);
}

void netlink_add(struct netlink_msg *m, uint16_t type, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);
	struct rtattr *a = (struct rtattr *)(m->buf + at);

	assert(at + RTA_SPACE(len) <= sizeof(m->buf));
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	m->head.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
}

static int send_request(int fd, struct netlink_msg *m)
{
	static uint32_t last_seq;

	m->head.nlmsg_seq = ++last_seq;
	return send(fd, m->buf, m->head.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* Handles one datagram: 1 when the answer is complete, 0 to go on, or -errno. */
static int take_datagram(uint8_t *buf, size_t len, uint32_t seq,
	int (*fn)(const struct nlmsghdr *h, void *arg), void *arg)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	int r;

	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_seq != seq)
			continue;
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = NLMSG_DATA(h);

			if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
				return -EPROTO;
			return e->error ? e->error : 1;
		}
		r = fn ? fn(h, arg) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int receive(int fd, uint32_t seq, int (*fn)(const struct nlmsghdr *h, void *arg), void *arg)
{
	auto_free uint8_t *buf = malloc(DUMP_BUFFER);
	int r = buf ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = recv(fd, buf, DUMP_BUFFER, 0);

		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : take_datagram(buf, (size_t)n, seq, fn, arg);
	}
	return MIN(r, 0);
}

int netlink_ask(int fd, struct netlink_msg *m)
{
	int r;

	m->head.nlmsg_flags |= NLM_F_ACK;
	r = send_request(fd, m);
	return r < 0 ? r : receive(fd, m->head.nlmsg_seq, NULL, NULL);
}

int netlink_dump(
	int fd, struct netlink_msg *m, int (*fn)(const struct nlmsghdr *h, void *arg), void *arg)
{
	int r;

	m->head.nlmsg_flags |= NLM_F_DUMP;
	r = send_request(fd, m);
	return r < 0 ? r : receive(fd, m->head.nlmsg_seq, fn, arg);
}
