/* SPDX-License-Identifier: Apache-2.0 */
#include "io/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"

#define NETLINK_BATCH_MAX 8
#define DUMP_BUFFER	  32768 /* what the kernel puts into one datagram at most */

int netlink_open(int protocol)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

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
	if (len)
		memcpy(RTA_DATA(a), data, len);
	m->head.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
}

size_t netlink_nest(struct netlink_msg *m, uint16_t type)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);

	netlink_add(m, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void netlink_nest_end(struct netlink_msg *m, size_t nest)
{
	struct rtattr *a = (struct rtattr *)(m->buf + nest);

	a->rta_len = (uint16_t)(m->head.nlmsg_len - nest);
}

static uint32_t last_seq;

static int send_request(int fd, struct netlink_msg *m)
{
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

int netlink_ask_batch(int fd, struct netlink_msg *m, size_t n)
{
	struct iovec iov[NETLINK_BATCH_MAX];
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	int r = 0;

	assert(n >= 2 && n <= ARRAY_SIZE(iov));
	for (size_t i = 0; i < n; i++) {
		m[i].head.nlmsg_seq = ++last_seq;
		if (i > 0 && i < n - 1)
			m[i].head.nlmsg_flags |= NLM_F_ACK;
		iov[i] = (struct iovec){ m[i].buf, NLMSG_ALIGN(m[i].head.nlmsg_len) };
	}
	if (sendmsg(fd, &msg, 0) < 0)
		return -errno;
	for (size_t i = 1; r == 0 && i < n - 1; i++)
		r = receive(fd, m[i].head.nlmsg_seq, NULL, NULL);
	return r;
}

int netlink_dump(
	int fd, struct netlink_msg *m, int (*fn)(const struct nlmsghdr *h, void *arg), void *arg)
{
	int r;

	m->head.nlmsg_flags |= NLM_F_DUMP;
	r = send_request(fd, m);
	return r < 0 ? r : receive(fd, m->head.nlmsg_seq, fn, arg);
}
