/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/netif.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/netlink.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/parse.h"
#include "base/strbuf.h"

/* What the caller says */

static size_t address_size(int family)
{
	return family == AF_INET ? 4 : 16;
}

int netif_parse_address(const char *text, unsigned prefix, struct netif_address *ret_address)
{
	struct netif_address a = { .prefix = (uint8_t)prefix };

	if (inet_pton(AF_INET, text, a.addr) == 1)
		a.family = AF_INET;
	else if (inet_pton(AF_INET6, text, a.addr) == 1)
		a.family = AF_INET6;
	else
		return -EINVAL;
	if (prefix > address_size(a.family) * 8)
		return -EINVAL;
	*ret_address = a;
	return 0;
}

int netif_parse_cidr(const char *text, struct netif_address *ret_address)
{
	char copy[INET6_ADDRSTRLEN + 8], *slash;
	unsigned prefix;

	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy) ||
		!(slash = strchr(copy, '/')))
		return -EINVAL;
	*slash++ = '\0';
	if (parse_uint(slash, 0, 128, &prefix) < 0)
		return -EINVAL;
	return netif_parse_address(copy, prefix, ret_address);
}

bool netif_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (!n || n >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)name[i]) || name[i] == '/' || name[i] == ':')
			return false;
	return true;
}

/* Links as the kernel has them */

struct kernel_link {
	int index;
	unsigned flags;
	uint8_t mac[6];
	char name[IFNAMSIZ];
};

struct find {
	const struct netif_link *wanted; /* NULL: by name */
	const char *name;
	size_t n; /* that fit */
	struct kernel_link found;
};

static void read_link(const struct nlmsghdr *h, struct kernel_link *ret)
{
	const struct ifinfomsg *info = NLMSG_DATA(h);
	const struct rtattr *a = IFLA_RTA(info);
	size_t left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*info));

	*ret = (struct kernel_link){ .index = info->ifi_index, .flags = info->ifi_flags };
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == sizeof(ret->mac))
			memcpy(ret->mac, RTA_DATA(a), sizeof(ret->mac));
		if (a->rta_type == IFLA_IFNAME)
			snprintf(ret->name, sizeof(ret->name), "%.*s", (int)RTA_PAYLOAD(a),
				(const char *)RTA_DATA(a));
	}
}

static int on_link(const struct nlmsghdr *h, void *arg)
{
	struct find *f = arg;
	struct kernel_link link;
	bool fits;

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return 0;
	read_link(h, &link);
	if (!f->wanted)
		fits = strcmp(link.name, f->name) == 0;
	else if (f->wanted->any)
		/* Tunnels that modules make by themselves have no hardware address. */
		fits = !(link.flags & IFF_LOOPBACK) && memcmp(link.mac, (uint8_t[6]){ 0 }, 6) != 0;
	else
		fits = memcmp(link.mac, f->wanted->mac, 6) == 0 && !(link.flags & IFF_LOOPBACK);
	if (fits && f->n++ == 0)
		f->found = link;
	return 0;
}

static int find_link(int fd, struct find *f)
{
	struct netlink_msg m;
	struct ifinfomsg *info = netlink_begin(&m, RTM_GETLINK, 0, sizeof(*info));

	info->ifi_family = AF_UNSPEC;
	return netlink_dump(fd, &m, on_link, f);
}

/* Changes */

static int set_flags(int fd, int index, bool up)
{
	struct netlink_msg m;
	struct ifinfomsg *info = netlink_begin(&m, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = index;
	info->ifi_change = IFF_UP;
	info->ifi_flags = up ? IFF_UP : 0;
	return netlink_ask(fd, &m);
}

/* name: NULL: as it is. */
static int set_properties(int fd, int index, const char *name, const struct netif_link *link)
{
	struct netlink_msg m;
	struct ifinfomsg *info = netlink_begin(&m, RTM_NEWLINK, 0, sizeof(*info));
	uint32_t mtu = link->mtu;

	info->ifi_index = index;
	if (name)
		netlink_add(&m, IFLA_IFNAME, name, strlen(name) + 1);
	if (mtu)
		netlink_add(&m, IFLA_MTU, &mtu, sizeof(mtu));
	if (link->set_mac)
		netlink_add(&m, IFLA_ADDRESS, link->new_mac, sizeof(link->new_mac));
	return name || mtu || link->set_mac ? netlink_ask(fd, &m) : 0;
}

static int add_address(int fd, int index, const struct netif_address *a)
{
	struct netlink_msg m;
	struct ifaddrmsg *info =
		netlink_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	size_t size = address_size(a->family);

	info->ifa_family = (uint8_t)a->family;
	info->ifa_prefixlen = a->prefix;
	info->ifa_index = (uint32_t)index;
	netlink_add(&m, IFA_LOCAL, a->addr, size);
	netlink_add(&m, IFA_ADDRESS, a->addr, size);
	if (a->family == AF_INET && a->prefix < 31) {
		uint32_t local, broadcast;

		memcpy(&local, a->addr, sizeof(local));
		broadcast = a->prefix ? local | htonl(0xffffffffu >> a->prefix) : 0xffffffffu;
		netlink_add(&m, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	if (a->family == AF_INET6) {
		/* Nobody else is there who could have the address: no second of waiting for an
		 * objection. */
		uint32_t flags = IFA_F_NODAD;

		netlink_add(&m, IFA_FLAGS, &flags, sizeof(flags));
	}
	return netlink_ask(fd, &m);
}

struct drop {
	const struct netif_link *link;
	int fd, index;
};

static bool has_address(const struct netif_link *link, int family, const void *addr)
{
	for (size_t i = 0; i < link->n_addresses; i++)
		if (link->addresses[i].family == family &&
			memcmp(link->addresses[i].addr, addr, address_size(family)) == 0)
			return true;
	return false;
}

static int on_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *info = NLMSG_DATA(h);
	const struct rtattr *a = IFA_RTA(info);
	const struct drop *d = arg;
	struct netlink_msg m;
	struct ifaddrmsg *out;
	size_t left;

	if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*info)) ||
		info->ifa_index != (uint32_t)d->index || info->ifa_family != AF_INET)
		return 0;
	left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*info));
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type != IFA_LOCAL || RTA_PAYLOAD(a) != address_size(AF_INET) ||
			has_address(d->link, AF_INET, RTA_DATA(a)))
			continue;
		out = netlink_begin(&m, RTM_DELADDR, 0, sizeof(*out));
		out->ifa_family = AF_INET;
		out->ifa_prefixlen = info->ifa_prefixlen;
		out->ifa_index = info->ifa_index;
		netlink_add(&m, IFA_LOCAL, RTA_DATA(a), RTA_PAYLOAD(a));
		return netlink_ask(d->fd, &m);
	}
	return 0;
}

/* The IPv4 addresses that it has and is not to have, such as those of the VM that a template was
 * made from; with the last one its routes go. */
static int drop_addresses(int fd, int index, const struct netif_link *link)
{
	auto_close int other =
		netlink_open(NETLINK_ROUTE); /* one is asked while the other is read from */
	struct drop d = { .link = link, .fd = other, .index = index };
	struct netlink_msg m;
	struct ifaddrmsg *info = netlink_begin(&m, RTM_GETADDR, 0, sizeof(*info));

	if (other < 0)
		return other;
	info->ifa_family = AF_INET;
	return netlink_dump(fd, &m, on_address, &d);
}

static int add_route(int fd, const struct netif_route *route, int index)
{
	struct netlink_msg m;
	struct rtmsg *info =
		netlink_begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	int family = route->destination.family ? route->destination.family : route->gateway.family;
	uint32_t out = (uint32_t)index;

	info->rtm_family = (uint8_t)family;
	info->rtm_dst_len = route->destination.family ? route->destination.prefix : 0;
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_protocol = RTPROT_STATIC;
	info->rtm_scope = route->gateway.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	info->rtm_type = RTN_UNICAST;
	if (info->rtm_dst_len)
		netlink_add(&m, RTA_DST, route->destination.addr, address_size(family));
	if (route->gateway.family)
		netlink_add(&m, RTA_GATEWAY, route->gateway.addr, address_size(family));
	if (index)
		netlink_add(&m, RTA_OIF, &out, sizeof(out));
	return netlink_ask(fd, &m);
}

static void mac_text(const struct netif_link *link, char out[static 32])
{
	const uint8_t *m = link->mac;

	if (link->any)
		snprintf(out, 32, "that is not lo");
	else
		snprintf(out, 32, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
			m[5]);
}

static int configure_link(int fd, const struct netif_link *link, struct err *err)
{
	struct find f = { .wanted = link };
	const char *rename;
	char mac[32];
	int r = find_link(fd, &f);

	mac_text(link, mac);
	if (r == 0 && f.n == 0)
		return err_set(err, ENODEV, "there is no network interface %s", mac);
	if (r == 0 && f.n > 1)
		return err_set(err, ENOTUNIQ, "there are %zu network interfaces %s", f.n, mac);
	rename = link->name[0] && strcmp(link->name, f.found.name) != 0 ? link->name : NULL;
	/* A name changes only while the link is down. */
	if (r == 0 && rename && (f.found.flags & IFF_UP))
		r = set_flags(fd, f.found.index, false);
	if (r == 0)
		r = set_properties(fd, f.found.index, rename, link);
	if (r == 0)
		r = set_flags(fd, f.found.index, true);
	if (r == 0 && link->n_addresses)
		r = drop_addresses(fd, f.found.index, link);
	for (size_t i = 0; r == 0 && i < link->n_addresses; i++)
		r = add_address(fd, f.found.index, &link->addresses[i]);
	return r < 0 ? err_errno(err, -r, "cannot set up the network interface %s", mac) : 0;
}

static int configure_route(int fd, const struct netif_route *route, size_t number, struct err *err)
{
	struct find f = { .name = route->interface };
	int r = 0;

	if (!route->destination.family && !route->gateway.family)
		return err_set(
			err, EINVAL, "route %zu has neither destination nor gateway", number);
	if (route->destination.family && route->gateway.family &&
		route->destination.family != route->gateway.family)
		return err_set(err, EINVAL, "route %zu mixes IPv4 and IPv6", number);
	if (route->interface[0]) {
		r = find_link(fd, &f);
		if (r == 0 && f.n == 0)
			return err_set(err, ENODEV, "there is no network interface '%s'",
				route->interface);
	}
	if (r == 0)
		r = add_route(fd, route, f.found.index);
	return r < 0 ? err_errno(err, -r, "cannot add route %zu", number) : 0;
}

int netif_configure(const struct netif_link *links, size_t n_links,
	const struct netif_route *routes, size_t n_routes, struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	int r = 0;

	if (fd < 0)
		return err_errno(err, -fd, "cannot open a route socket");
	for (size_t i = 0; r == 0 && i < n_links; i++)
		r = configure_link(fd, &links[i], err);
	for (size_t i = 0; r == 0 && i < n_routes; i++)
		r = configure_route(fd, &routes[i], i, err);
	return r;
}

int netif_set_mac(const struct netif_link *link, struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	struct netlink_msg m;
	int r = fd < 0 ? fd : 0;

	/* Index 0: by name. */
	netlink_begin(&m, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
	netlink_add(&m, IFLA_IFNAME, link->name, strlen(link->name) + 1);
	netlink_add(&m, IFLA_ADDRESS, link->new_mac, sizeof(link->new_mac));
	if (r == 0)
		r = netlink_ask(fd, &m);
	return r < 0 ? err_errno(err, -r, "cannot set the MAC address of '%s'", link->name) : 0;
}

int netif_loopback_up(struct err *err)
{
	auto_close int fd = netlink_open(NETLINK_ROUTE);
	struct find f = { .name = "lo" };
	int r = fd < 0 ? fd : find_link(fd, &f);

	/* The kernel gives lo its addresses when it goes up. */
	if (r == 0)
		r = f.n ? set_flags(fd, f.found.index, true) : -ENODEV;
	return r < 0 ? err_errno(err, -r, "cannot set up the loopback interface") : 0;
}

/* Settings */

int netif_sysctls(struct err *err)
{
	int r = fs_set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");

	if (r == 0)
		r = fs_set("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
	return r < 0 ? err_errno(err, -r, "cannot set the network's sysctls") : 0;
}

bool netif_is_word(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isgraph((unsigned char)*s) || *s == '#' || *s == ';')
			return false;
	return true;
}

int netif_resolv_conf(const char *path, const char *const *servers, size_t n_servers,
	const char *const *search, size_t n_search, struct err *err)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	struct netif_address address;
	int r;

	for (size_t i = 0; i < n_servers; i++) {
		if (netif_parse_address(servers[i], 0, &address) < 0)
			return err_set(err, EINVAL, "name server '%.64s' is not an IP address",
				servers[i]);
		strbuf_addf(&sb, "nameserver %s\n", servers[i]);
	}
	for (size_t i = 0; i < n_search; i++) {
		if (!netif_is_word(search[i]))
			return err_set(err, EINVAL, "search domain %zu is not a domain name", i);
		strbuf_addf(&sb, "%s%s%s", i ? " " : "search ", search[i],
			i + 1 == n_search ? "\n" : "");
	}
	r = strbuf_error(&sb);
	/* Containers have the file itself mounted: it is written in place, a new file would not
	 * reach them. */
	if (r == 0) {
		auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

		if (fd < 0 || (sb.len && write(fd, sb.data, sb.len) != (ssize_t)sb.len))
			r = -errno;
	}
	return r < 0 ? err_errno(err, -r, "cannot write %s", path) : 0;
}

int netif_own_address(char out[static INET_ADDRSTRLEN])
{
	struct ifaddrs *all;
	int r = getifaddrs(&all) < 0 ? -errno : 0;

	snprintf(out, INET_ADDRSTRLEN, "127.0.1.1");
	if (r < 0)
		return r;
	for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
			(i->ifa_flags & IFF_LOOPBACK))
			continue;
		inet_ntop(AF_INET, &((const struct sockaddr_in *)i->ifa_addr)->sin_addr, out,
			INET_ADDRSTRLEN);
		break;
	}
	freeifaddrs(all);
	return 0;
}

int netif_hostname(const char *name, struct err *err)
{
	size_t n = strlen(name);

	if (!n || n > 64 || name[0] == '-' || name[0] == '.' ||
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-") !=
			n)
		return err_set(err, EINVAL, "'%.64s' is not a host name", name);
	return sethostname(name, n) < 0 ? err_errno(err, errno, "cannot set the host name") : 0;
}
