/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filter.h"

#include <string.h>

#include "net/packet.h"

/* A VLAN tag would be dropped by its type, the room is harmless. */
#define ETHERNET_MAX (ETHERNET_HEADER + 4 + PACKET_MTU)
#define ARP_LEN	     28
#define PROTO_ICMP   1
#define PROTO_TCP    6
#define PROTO_UDP    17
#define PROTO_ICMPV6 58
#define PORT_DNS     53

static const char *const names[FILTER_VERDICT_MAX] = {
	[FILTER_PASS] = "pass",
	[FILTER_MALFORMED] = "malformed",
	[FILTER_PROTOCOL] = "protocol",
	[FILTER_SOURCE] = "source",
	[FILTER_DESTINATION] = "destination",
	[FILTER_SERVICE] = "service",
};

/* Nets that no packet of a guest is for (RFC 6890; RFC 3927 for link-local, where clouds keep their
 * credentials). */
static const struct {
	uint32_t net, mask;
} forbidden[] = {
	{ 0x00000000u, 0xff000000u }, /* this network: Linux takes 0.0.0.0 for the loopback */
	{ 0x7f000000u, 0xff000000u }, /* loopback */
	{ 0xa9fe0000u, 0xffff0000u }, /* link-local */
	{ 0xe0000000u, 0xe0000000u }, /* multicast, reserved, broadcast */
};

static const struct {
	uint32_t net, mask;
} private[] = {
	{ 0x0a000000u, 0xff000000u },
	{ 0xac100000u, 0xfff00000u },
	{ 0xc0a80000u, 0xffff0000u },
	{ 0x64400000u, 0xffc00000u },
};

const struct net_plan net_plan_alone = {
	.network = 0x0a000200u,
	.mask = 0xffffff00u,
	.gateway = 0x0a000202u,
	.dns = 0x0a000203u,
	.guest = 0x0a00020fu,
};

static bool ours(const struct net_plan *plan, uint32_t address)
{
	return (address & plan->mask) == plan->network;
}

static bool is_private(uint32_t address)
{
	for (size_t i = 0; i < ARRAY_SIZE(private); i++)
		if ((address & private[i].mask) == private[i].net)
			return true;
	return false;
}

/* An address that the guest may send from. */
static bool may_send(const struct net_plan *plan, uint32_t address)
{
	return plan->shared
		       ? address == plan->guest
		       : ours(plan, address) && address != plan->gateway && address != plan->dns;
}

/* RFC 826: Ethernet, IPv4. */
static enum filter_verdict filter_arp(const struct net_plan *plan, const uint8_t *p, size_t len)
{
	if (len < ARP_LEN || get16(p) != 1 || get16(p + 2) != ETHERNET_IPV4 || p[4] != 6 ||
		p[5] != 4)
		return FILTER_MALFORMED;
	/* A probe for a duplicate (RFC 5227) comes from 0.0.0.0. */
	if (!may_send(plan, get32(p + 14)) && get32(p + 14) != 0)
		return FILTER_SOURCE;
	return ours(plan, get32(p + 24)) ? FILTER_PASS : FILTER_DESTINATION;
}

/* What is for the stack itself; data is the packet's payload. */
static enum filter_verdict filter_service(
	const struct net_plan *plan, uint32_t to, uint8_t proto, const uint8_t *data, size_t len)
{
	uint16_t port;

	if (proto == PROTO_ICMP)
		return FILTER_PASS;
	if (proto != PROTO_TCP && proto != PROTO_UDP)
		return FILTER_SERVICE;
	if (len < 4)
		return FILTER_MALFORMED;
	port = get16(data + 2);
	if (to == plan->dns)
		return port == PORT_DNS ? FILTER_PASS : FILTER_SERVICE;
	/* The gateway's DHCP and TFTP; other ports are the host's loopback, which the stack refuses
	 * or not as told. */
	return proto == PROTO_UDP && (port == 67 || port == 68 || port == 69) ? FILTER_SERVICE
									      : FILTER_PASS;
}

enum filter_verdict filter_destination(const struct net_plan *plan, uint32_t address)
{
	if (address == plan->network || address == (plan->network | ~plan->mask))
		return FILTER_DESTINATION;
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		if ((address & forbidden[i].mask) == forbidden[i].net)
			return FILTER_DESTINATION;
	if (ours(plan, address) || plan->reach == NET_REACH_ALL)
		return FILTER_PASS;
	if (plan->reach == NET_REACH_NOWHERE)
		return FILTER_DESTINATION;
	return is_private(address) == (plan->reach == NET_REACH_PRIVATE) ? FILTER_PASS
									 : FILTER_DESTINATION;
}

static enum filter_verdict filter_ipv4(const struct net_plan *plan, const uint8_t *p, size_t len)
{
	size_t header, total;
	uint32_t to;

	if (len < 20 || p[0] >> 4 != 4)
		return FILTER_MALFORMED;
	header = (size_t)(p[0] & 15) * 4;
	total = get16(p + 2);
	if (header < 20 || total < header || total > len)
		return FILTER_MALFORMED;
	if (!may_send(plan, get32(p + 12)))
		return FILTER_SOURCE;
	to = get32(p + 16);
	if (filter_destination(plan, to) != FILTER_PASS)
		return FILTER_DESTINATION;
	if (to == plan->gateway || to == plan->dns) {
		/* A later fragment has no ports to look at, and a first one may be overwritten by
		 * it. */
		if (get16(p + 6) & 0x3fff)
			return FILTER_SERVICE;
		return filter_service(plan, to, p[9], p + header, total - header);
	}
	return FILTER_PASS;
}

/* ---- IPv6 ---- */

#define ICMPV6_ROUTER_SOLICITATION 133

/* The last bytes of their addresses. */
#define GATEWAY6 0x02
#define DNS6	 0x03
#define GUEST6	 0x15

struct prefix6 {
	uint8_t bytes[16];
	unsigned bits;
};

/* As `forbidden` (RFC 6890): what is IPv4 in disguise would be the stack's to open. */
static const struct prefix6 forbidden6[] = {
	{ { 0 }, 96 },		       /* ::, ::1, IPv4-compatible */
	{ { [10] = 0xff, 0xff }, 96 }, /* IPv4-mapped */
	{ { 0xfe, 0x80 }, 10 },	       /* link-local */
	{ { 0xff }, 8 },	       /* multicast */
	{ { 0x20, 0x02 }, 16 },	       /* 6to4 */
	{ { 0x20, 0x01 }, 32 },	       /* Teredo */
};

static const struct prefix6 private6[] = {
	{ { 0xfc }, 7 },	/* RFC 4193 */
	{ { 0xfe, 0xc0 }, 10 }, /* site-local */
};

/* RFC 6052: it has an IPv4 address in its last four bytes. */
static const struct prefix6 translated = { { 0x00, 0x64, 0xff, 0x9b }, 96 };

static bool in_prefix(const uint8_t address[static 16], const struct prefix6 *p)
{
	unsigned whole = p->bits / 8, rest = p->bits % 8;

	return memcmp(address, p->bytes, whole) == 0 &&
	       (!rest || ((address[whole] ^ p->bytes[whole]) >> (8 - rest)) == 0);
}

static bool in_one_of(const uint8_t address[static 16], const struct prefix6 *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (in_prefix(address, &list[i]))
			return true;
	return false;
}

/* net.h has the words. */
static const struct prefix6 own = { { 0xfd, 0x3c, 0x9e, 0x1b, 0x7a, 0x40 }, 64 };

/* Whether it is this one of the sandbox' network. */
static bool is_own(const uint8_t address[static 16], uint8_t last)
{
	struct prefix6 whole = { .bits = 128 };

	memcpy(whole.bytes, own.bytes, sizeof(own.bytes));
	whole.bytes[15] = last;
	return in_prefix(address, &whole);
}

enum filter_verdict filter_destination6(
	const struct net_plan *plan, const uint8_t address[static 16])
{
	bool is_private6;

	if (in_one_of(address, forbidden6, ARRAY_SIZE(forbidden6)))
		return FILTER_DESTINATION;
	if (in_prefix(address, &translated))
		return filter_destination(plan, get32(address + 12));
	/* Nobody else is on it. */
	if (in_prefix(address, &own))
		return is_own(address, GATEWAY6) || is_own(address, DNS6) ? FILTER_PASS
									  : FILTER_DESTINATION;
	if (plan->reach == NET_REACH_ALL)
		return FILTER_PASS;
	if (plan->reach == NET_REACH_NOWHERE)
		return FILTER_DESTINATION;
	is_private6 = in_one_of(address, private6, ARRAY_SIZE(private6));
	return is_private6 == (plan->reach == NET_REACH_PRIVATE) ? FILTER_PASS : FILTER_DESTINATION;
}

/* Neighbour discovery (RFC 4861) goes between link-local addresses and groups; what the stack would
 * tell of itself when solicited, the guest has been told. */
static enum filter_verdict filter_icmpv6(
	const struct net_plan *plan, const uint8_t *to, const uint8_t *data, size_t len)
{
	static const struct prefix6 near[] = { { { 0xfe, 0x80 }, 10 }, { { 0xff, 0x02 }, 16 } };

	if (len < 4)
		return FILTER_MALFORMED;
	if (data[0] == ICMPV6_ROUTER_SOLICITATION)
		return FILTER_SERVICE;
	return in_one_of(to, near, ARRAY_SIZE(near)) ? FILTER_PASS : filter_destination6(plan, to);
}

static enum filter_verdict filter_ipv6(const struct net_plan *plan, const uint8_t *p, size_t len)
{
	static const struct prefix6 link_local = { { 0xfe, 0x80 }, 10 }, none = { { 0 }, 128 };
	const uint8_t *from = p + 8, *to = p + 24, *data = p + IPV6_HEADER;
	size_t payload;
	uint16_t port;

	if (len < IPV6_HEADER || p[0] >> 4 != 6)
		return FILTER_MALFORMED;
	payload = get16(p + 4);
	if (payload > len - IPV6_HEADER)
		return FILTER_MALFORMED;
	if (p[6] == PROTO_ICMPV6) {
		/* Also when it looks for a duplicate of its own. */
		if (!is_own(from, GUEST6) && !in_prefix(from, &link_local) &&
			!in_prefix(from, &none))
			return FILTER_SOURCE;
		return filter_icmpv6(plan, to, data, payload);
	}
	/* Extension headers would hide the ports. */
	if (p[6] != PROTO_TCP && p[6] != PROTO_UDP)
		return FILTER_PROTOCOL;
	if (payload < 4)
		return FILTER_MALFORMED;
	if (!is_own(from, GUEST6))
		return FILTER_SOURCE;
	if (filter_destination6(plan, to) != FILTER_PASS)
		return FILTER_DESTINATION;
	port = get16(data + 2);
	if (is_own(to, DNS6))
		return port == PORT_DNS ? FILTER_PASS : FILTER_SERVICE;
	return is_own(to, GATEWAY6) && p[6] == PROTO_UDP && port == 69 ? FILTER_SERVICE
								       : FILTER_PASS;
}

enum filter_verdict filter_frame(const struct net_plan *plan, const uint8_t *frame, size_t len)
{
	if (len < ETHERNET_HEADER || len > ETHERNET_MAX || (frame[6] & 1))
		return FILTER_MALFORMED;
	switch (get16(frame + 12)) {
	case ETHERNET_ARP:
		return filter_arp(plan, frame + ETHERNET_HEADER, len - ETHERNET_HEADER);
	case ETHERNET_IPV4:
		return filter_ipv4(plan, frame + ETHERNET_HEADER, len - ETHERNET_HEADER);
	case ETHERNET_IPV6:
		return filter_ipv6(plan, frame + ETHERNET_HEADER, len - ETHERNET_HEADER);
	default:
		return FILTER_PROTOCOL;
	}
}

const char *filter_verdict_name(enum filter_verdict verdict)
{
	return verdict < FILTER_VERDICT_MAX ? names[verdict] : "unknown";
}
