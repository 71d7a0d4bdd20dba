/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: rtnetlink(7) for the devices. The rule is nftables', in a table that its netlink
 * socket owns (NFT_TABLE_F_OWNER, Linux 5.12): the kernel removes it when the socket is closed, so
 * nothing is left of a process that is killed. A tap device that is not persistent goes the same
 * way (Documentation/networking/tuntap.rst).
 */
#include "net/bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "io/netlink.h"

#define FORWARD	    "/proc/sys/net/ipv4/ip_forward"
#define SOURCE_NAT  100 /* NF_IP_PRI_NAT_SRC */
#define IPV4_SOURCE 12	/* of the header */
#define CHAIN	    "postrouting"

static int fail(int r, const char *what, const char *name, struct err *err)
{
	return r == -EPERM ? err_set(err, EPERM,
				     "a network on a bridge needs root (or CAP_NET_ADMIN): leave "
				     "'--driver bridge' out for one that needs no rights")
			   : err_errno(err, -r, "cannot %s '%s'", what, name);
}

/* ---- devices ---- */

static int make_link(int fd, const char *name)
{
	struct netlink_msg m;
	uint8_t mac[6];
	size_t nest;
	int r;

	/* One of its own: else it is that of a port, which come and go. */
	random_bytes(mac, sizeof(mac));
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
	netlink_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	netlink_add(&m, IFLA_IFNAME, name, strlen(name) + 1);
	netlink_add(&m, IFLA_ADDRESS, mac, sizeof(mac));
	nest = netlink_nest(&m, IFLA_LINKINFO);
	netlink_add(&m, IFLA_INFO_KIND, "bridge", strlen("bridge"));
	netlink_nest_end(&m, nest);
	r = netlink_ask(fd, &m);
	return r == -EEXIST ? 0 : r;
}

/* Up, and on the bridge unless that is 0. */
static int set_up(int fd, const char *name, unsigned bridge)
{
	struct netlink_msg m;
	struct ifinfomsg *info = netlink_begin(&m, RTM_NEWLINK, 0, sizeof(*info));
	uint32_t master = bridge;

	info->ifi_index = (int)if_nametoindex(name);
	if (!info->ifi_index)
		return -ENODEV;
	info->ifi_flags = info->ifi_change = IFF_UP;
	if (bridge)
		netlink_add(&m, IFLA_MASTER, &master, sizeof(master));
	return netlink_ask(fd, &m);
}

static int set_address(int fd, const char *name, uint32_t address, unsigned prefix)
{
	struct netlink_msg m;
	struct ifaddrmsg *info =
		netlink_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	uint32_t local = htonl(address), broadcast = htonl(address | (UINT32_MAX >> prefix));

	info->ifa_family = AF_INET;
	info->ifa_prefixlen = (uint8_t)prefix;
	info->ifa_index = if_nametoindex(name);
	if (!info->ifa_index)
		return -ENODEV;
	netlink_add(&m, IFA_LOCAL, &local, sizeof(local));
	netlink_add(&m, IFA_ADDRESS, &local, sizeof(local));
	netlink_add(&m, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	return netlink_ask(fd, &m);
}

static int forward(struct err *err)
{
	auto_free char *text = NULL;
	int r = fs_read_file(AT_FDCWD, FORWARD, 16, &text, NULL);

	if (r == 0 && text[0] != '1')
		r = fs_set(FORWARD, "1");
	return r < 0 ? fail(r, "have packets passed on by", FORWARD, err) : 0;
}

int bridge_make(const char *name, uint32_t address, unsigned prefix, bool routed, struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	int r = fd < 0 ? fd : make_link(fd, name);

	if (r == 0)
		r = set_address(fd, name, address, prefix);
	if (r == 0)
		r = set_up(fd, name, 0);
	if (r < 0)
		return fail(r, "make the bridge", name, err);
	return routed ? forward(err) : 0;
}

int bridge_remove(const char *name, struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	struct netlink_msg m;
	struct ifinfomsg *info = netlink_begin(&m, RTM_DELLINK, 0, sizeof(*info));
	int r = fd;

	info->ifi_index = (int)if_nametoindex(name);
	if (!info->ifi_index)
		return 0;
	if (fd >= 0)
		r = netlink_ask(fd, &m);
	return r < 0 && r != -ENODEV ? fail(r, "remove the bridge", name, err) : 0;
}

/* ---- routes ---- */

struct wanted {
	uint32_t subnet;
	unsigned prefix;
};

static int on_route(const struct nlmsghdr *h, void *arg)
{
	const struct wanted *w = arg;
	const struct rtmsg *route = NLMSG_DATA(h);
	size_t left;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) ||
		route->rtm_family != AF_INET || !route->rtm_dst_len || route->rtm_dst_len > 32 ||
		(route->rtm_type != RTN_UNICAST && route->rtm_type != RTN_LOCAL))
		return 0;
	left = RTM_PAYLOAD(h);
	for (const struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		unsigned shared = MIN(w->prefix, route->rtm_dst_len);
		uint32_t to;

		if (a->rta_type != RTA_DST || RTA_PAYLOAD(a) != sizeof(to))
			continue;
		memcpy(&to, RTA_DATA(a), sizeof(to));
		if (((ntohl(to) ^ w->subnet) >> (32 - shared)) == 0)
			return -EEXIST;
	}
	return 0;
}

bool bridge_is_routed(uint32_t subnet, unsigned prefix)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	struct wanted w = { subnet, prefix };
	struct netlink_msg m;
	struct rtmsg *route = netlink_begin(&m, RTM_GETROUTE, 0, sizeof(*route));

	route->rtm_family = AF_INET;
	return fd >= 0 && netlink_dump(fd, &m, on_route, &w) == -EEXIST;
}

/* ---- the rule ---- */

static void begin_nft(struct netlink_msg *m, unsigned type, uint16_t flags)
{
	struct nfgenmsg *g =
		netlink_begin(m, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, sizeof(*g));

	g->nfgen_family = NFPROTO_IPV4;
	g->version = NFNETLINK_V0;
}

static void begin_batch(struct netlink_msg *m, uint16_t type)
{
	struct nfgenmsg *g = netlink_begin(m, type, 0, sizeof(*g));

	g->version = NFNETLINK_V0;
	g->res_id = htons(NFNL_SUBSYS_NFTABLES);
}

static void add_text(struct netlink_msg *m, uint16_t type, const char *text)
{
	netlink_add(m, type, text, strlen(text) + 1);
}

static void add_number(struct netlink_msg *m, uint16_t type, uint32_t number)
{
	number = htonl(number);
	netlink_add(m, type, &number, sizeof(number));
}

static void add_chain(struct netlink_msg *m, const char *table)
{
	size_t nest;

	begin_nft(m, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	add_text(m, NFTA_CHAIN_TABLE, table);
	add_text(m, NFTA_CHAIN_NAME, CHAIN);
	add_text(m, NFTA_CHAIN_TYPE, "nat");
	nest = netlink_nest(m, NFTA_CHAIN_HOOK);
	add_number(m, NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING);
	add_number(m, NFTA_HOOK_PRIORITY, SOURCE_NAT);
	netlink_nest_end(m, nest);
}

struct expression {
	size_t element, data;
};

static struct expression begin_expression(struct netlink_msg *m, const char *name)
{
	struct expression e = { .element = netlink_nest(m, NFTA_LIST_ELEM) };

	add_text(m, NFTA_EXPR_NAME, name);
	e.data = netlink_nest(m, NFTA_EXPR_DATA);
	return e;
}

static void end_expression(struct netlink_msg *m, struct expression e)
{
	netlink_nest_end(m, e.data);
	netlink_nest_end(m, e.element);
}

static void add_compare(struct netlink_msg *m, enum nft_cmp_ops op, const void *value, size_t len)
{
	struct expression e = begin_expression(m, "cmp");
	size_t data;

	add_number(m, NFTA_CMP_SREG, NFT_REG_1);
	add_number(m, NFTA_CMP_OP, op);
	data = netlink_nest(m, NFTA_CMP_DATA);
	netlink_add(m, NFTA_DATA_VALUE, value, len);
	netlink_nest_end(m, data);
	end_expression(m, e);
}

/* ip saddr ADDRESS oifname != BRIDGE masquerade */
static void add_rule(struct netlink_msg *m, const char *table, const char *bridge, uint32_t address)
{
	char name[IFNAMSIZ] = "";
	uint32_t source = htonl(address);
	struct expression e;
	size_t nest;

	snprintf(name, sizeof(name), "%s", bridge);
	begin_nft(m, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	add_text(m, NFTA_RULE_TABLE, table);
	add_text(m, NFTA_RULE_CHAIN, CHAIN);
	nest = netlink_nest(m, NFTA_RULE_EXPRESSIONS);
	e = begin_expression(m, "payload");
	add_number(m, NFTA_PAYLOAD_DREG, NFT_REG_1);
	add_number(m, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	add_number(m, NFTA_PAYLOAD_OFFSET, IPV4_SOURCE);
	add_number(m, NFTA_PAYLOAD_LEN, sizeof(source));
	end_expression(m, e);
	add_compare(m, NFT_CMP_EQ, &source, sizeof(source));
	e = begin_expression(m, "meta");
	add_number(m, NFTA_META_DREG, NFT_REG_1);
	add_number(m, NFTA_META_KEY, NFT_META_OIFNAME);
	end_expression(m, e);
	add_compare(m, NFT_CMP_NEQ, name, sizeof(name));
	end_expression(m, begin_expression(m, "masq"));
	netlink_nest_end(m, nest);
}

static int make_rule(const char *table, const char *bridge, uint32_t address, int *ret_fd)
{
	auto_close int fd = netlink_open(NETLINK_NETFILTER);
	struct netlink_msg m[5];
	int r;

	if (fd < 0)
		return fd;
	begin_batch(&m[0], NFNL_MSG_BATCH_BEGIN);
	begin_nft(&m[1], NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	add_text(&m[1], NFTA_TABLE_NAME, table);
	add_number(&m[1], NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
	add_chain(&m[2], table);
	add_rule(&m[3], table, bridge, address);
	begin_batch(&m[4], NFNL_MSG_BATCH_END);
	r = netlink_ask_batch(fd, m, ARRAY_SIZE(m));
	if (r == 0)
		*ret_fd = take_fd(&fd);
	return r;
}

/* ---- joining ---- */

static int open_tap(const char *name, int *ret_fd)
{
	auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL };

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int bridge_join(const char *bridge, uint32_t address, bool masquerade, int *ret_tap, int *ret_rule,
	struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE), tap = -1, rule = -1;
	char name[IFNAMSIZ], table[32];
	int r = fd;

	/* No two sandboxes have the same address. */
	snprintf(name, sizeof(name), "mp%08x", address);
	snprintf(table, sizeof(table), "micropod-%08x", address);
	if (fd >= 0)
		r = open_tap(name, &tap);
	if (r >= 0)
		r = set_up(fd, name, if_nametoindex(bridge));
	if (r < 0)
		return fail(r, "join the bridge", bridge, err);
	if (masquerade && (r = make_rule(table, bridge, address, &rule)) < 0)
		return fail(r, "have addresses translated by nftables for", bridge, err);
	*ret_tap = take_fd(&tap);
	*ret_rule = take_fd(&rule);
	return 0;
}
