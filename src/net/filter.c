/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filter.h"

#include "net/packet.h"

/* A VLAN tag would be dropped by its type, the room is harmless. */
#define ETHERNET_MAX (ETHERNET_HEADER + 4 + PACKET_MTU)
#define ARP_LEN	     28
#define PROTO_ICMP   1
#define PROTO_TCP    6
#define PROTO_UDP    17
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

enum filter_verdict filter_frame(const struct net_plan *plan, const uint8_t *frame, size_t len)
{
	if (len < ETHERNET_HEADER || len > ETHERNET_MAX || (frame[6] & 1))
		return FILTER_MALFORMED;
	switch (get16(frame + 12)) {
	case ETHERNET_ARP:
		return filter_arp(plan, frame + ETHERNET_HEADER, len - ETHERNET_HEADER);
	case ETHERNET_IPV4:
		return filter_ipv4(plan, frame + ETHERNET_HEADER, len - ETHERNET_HEADER);
	default:
		return FILTER_PROTOCOL;
	}
}

const char *filter_verdict_name(enum filter_verdict verdict)
{
	return verdict < FILTER_VERDICT_MAX ? names[verdict] : "unknown";
}
