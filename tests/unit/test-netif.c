/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink for real, in a network namespace of our own: two ends of a veth pair stand for the
 * guest's devices. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/netif.h"
#include "io/netlink.h"
#include "base/cleanup.h"
#include "test.h"

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa }, mac_b[6] = { 2, 0, 0, 0, 0, 0xb };
static bool ready;

/* Attributes nested in attributes: the length of the outer one is set when the inner ones are
 * there. */
static struct rtattr *nest(struct netlink_msg *m, uint16_t type)
{
	struct rtattr *a = (struct rtattr *)(m->buf + NLMSG_ALIGN(m->head.nlmsg_len));

	netlink_add(m, type, "", 0);
	return a;
}

static void close_nest(struct netlink_msg *m, struct rtattr *a)
{
	a->rta_len = (uint16_t)((char *)m->buf + m->head.nlmsg_len - (char *)a);
}

static int make_veth(void)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	struct netlink_msg m;
	struct rtattr *info, *data, *peer;

	netlink_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	netlink_add(&m, IFLA_IFNAME, "va", 3);
	netlink_add(&m, IFLA_ADDRESS, mac_a, 6);
	info = nest(&m, IFLA_LINKINFO);
	netlink_add(&m, IFLA_INFO_KIND, "veth", 5);
	data = nest(&m, IFLA_INFO_DATA);
	peer = nest(&m, VETH_INFO_PEER);
	memset(m.buf + m.head.nlmsg_len, 0, sizeof(struct ifinfomsg));
	m.head.nlmsg_len += sizeof(struct ifinfomsg);
	netlink_add(&m, IFLA_IFNAME, "vb", 3);
	netlink_add(&m, IFLA_ADDRESS, mac_b, 6);
	close_nest(&m, peer);
	close_nest(&m, data);
	close_nest(&m, info);
	return netlink_ask(fd, &m);
}

static void namespaces(void)
{
	struct err err = ERR_INIT;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		SKIP("no user namespaces here");
	CHECK_INT(netif_loopback_up(&err), 0);
	if (make_veth() < 0)
		SKIP("no veth devices here");
	ready = true;
}

static unsigned flags_of(const char *name, int *ret_mtu)
{
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = { 0 };

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFMTU, &req) < 0)
		return 0;
	*ret_mtu = req.ifr_mtu;
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return 0;
	return (unsigned)req.ifr_flags;
}

/* How many times name has the address. */
static unsigned has_address(const char *name, const char *text)
{
	struct ifaddrs *all;
	char buf[INET6_ADDRSTRLEN];
	unsigned n = 0;

	REQUIRE(getifaddrs(&all) == 0);
	for (struct ifaddrs *a = all; a; a = a->ifa_next) {
		const void *addr;

		if (!a->ifa_addr || strcmp(a->ifa_name, name) != 0)
			continue;
		if (a->ifa_addr->sa_family == AF_INET)
			addr = &((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr;
		else if (a->ifa_addr->sa_family == AF_INET6)
			addr = &((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr;
		else
			continue;
		n += strcmp(inet_ntop(a->ifa_addr->sa_family, addr, buf, sizeof(buf)), text) == 0;
	}
	freeifaddrs(all);
	return n;
}

/* Whether a datagram to text would find a way, and from which address. */
static bool routed(const char *text, const char *source)
{
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) }, from;
	socklen_t len = sizeof(from);
	char buf[INET_ADDRSTRLEN];

	inet_pton(AF_INET, text, &to.sin_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return false;
	getsockname(fd, (struct sockaddr *)&from, &len);
	return strcmp(inet_ntop(AF_INET, &from.sin_addr, buf, sizeof(buf)), source) == 0;
}

static void configure(void)
{
	struct netif_link links[2] = { { .name = "eth0", .mtu = 1400, .n_addresses = 2 },
		{ .n_addresses = 1 } };
	struct netif_route routes[2] = { 0 };
	struct err err = ERR_INIT;
	int mtu = 0;

	if (!ready)
		SKIP("no user namespaces here");
	memcpy(links[0].mac, mac_a, 6);
	memcpy(links[1].mac, mac_b, 6);
	REQUIRE(netif_parse_cidr("10.0.2.15/24", &links[0].addresses[0]) == 0);
	REQUIRE(netif_parse_cidr("fec0::15/64", &links[0].addresses[1]) == 0);
	REQUIRE(netif_parse_cidr("10.0.3.1/24", &links[1].addresses[0]) == 0);
	REQUIRE(netif_parse_address("10.0.2.2", 32, &routes[0].gateway) == 0);
	REQUIRE(netif_parse_cidr("10.9.0.0/16", &routes[1].destination) == 0);
	snprintf(routes[1].interface, sizeof(routes[1].interface), "vb");
	/* Twice: it is idempotent, also for a link that is up and has its name. */
	for (int i = 0; i < 2; i++) {
		CHECK_INT(netif_configure(links, 2, routes, 2, &err), 0);
		CHECK_STR(err.msg, "");
		CHECK(flags_of("eth0", &mtu) & IFF_UP);
		CHECK_INT(mtu, 1400);
		CHECK_INT(has_address("eth0", "10.0.2.15"), 1);
		CHECK_INT(has_address("eth0", "fec0::15"), 1);
		CHECK_INT(has_address("vb", "10.0.3.1"), 1);
		CHECK(routed("192.0.2.1", "10.0.2.15"));
		CHECK(routed("10.9.1.1", "10.0.3.1"));
	}
	/* Up, and renamed all the same. */
	snprintf(links[0].name, sizeof(links[0].name), "net0");
	CHECK_INT(netif_configure(links, 1, NULL, 0, &err), 0);
	CHECK(flags_of("net0", &mtu) & IFF_UP);
}

static void refused(void)
{
	struct netif_link link = { .mac = { 2, 9, 9, 9, 9, 9 } }, any = { .any = true };
	struct netif_route nowhere = { 0 }, mixed = { 0 }, gone = { .interface = "gone" };
	struct err err = ERR_INIT;

	if (!ready)
		SKIP("no user namespaces here");
	CHECK_INT(netif_configure(&link, 1, NULL, 0, &err), -ENODEV);
	CHECK_STR(err.msg, "there is no network interface 02:09:09:09:09:09");
	CHECK_INT(netif_configure(&any, 1, NULL, 0, &err), -ENOTUNIQ);
	CHECK_INT(netif_configure(NULL, 0, &nowhere, 1, &err), -EINVAL);
	netif_parse_cidr("10.0.0.0/8", &mixed.destination);
	netif_parse_address("fec0::1", 128, &mixed.gateway);
	CHECK_INT(netif_configure(NULL, 0, &mixed, 1, &err), -EINVAL);
	netif_parse_cidr("10.0.0.0/8", &gone.destination);
	CHECK_INT(netif_configure(NULL, 0, &gone, 1, &err), -ENODEV);
}

TEST_MAIN(TEST(namespaces), TEST(configure), TEST(refused))
