/* SPDX-License-Identifier: Apache-2.0 */
#include "net/packet.h"

#include <netinet/in.h>
#include <string.h>

/* The ones' complement sum of RFC 1071, to be folded and inverted. */
static uint32_t sum(const uint8_t *p, size_t len, uint32_t start)
{
	for (; len > 1; p += 2, len -= 2)
		start += get16(p);
	return len ? start + (uint32_t)(p[0] << 8) : start;
}

static uint16_t finish(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

void packet_mac(uint32_t address, uint8_t mac[static 6])
{
	mac[0] = 0x52;
	mac[1] = 0x55;
	put32(mac + 2, address);
}

void packet_ipv4(uint8_t ip[static IPV4_HEADER], uint32_t from, uint32_t to, uint8_t proto,
	uint16_t id, unsigned fragment, size_t len)
{
	memset(ip, 0, IPV4_HEADER);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IPV4_HEADER + len));
	put16(ip + 4, id);
	put16(ip + 6, fragment);
	ip[8] = 64;
	ip[9] = proto;
	put32(ip + 12, from);
	put32(ip + 16, to);
	put16(ip + 10, finish(sum(ip, IPV4_HEADER, 0)));
}

void packet_udp(
	uint8_t *udp, uint32_t from, uint16_t from_port, uint32_t to, uint16_t to_port, size_t len)
{
	size_t total = UDP_HEADER + len;
	uint32_t pseudo = (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) +
			  IPPROTO_UDP + (uint32_t)total;
	uint16_t check;

	put16(udp, from_port);
	put16(udp + 2, to_port);
	put16(udp + 4, (unsigned)total);
	put16(udp + 6, 0);
	check = finish(sum(udp, total, pseudo));
	put16(udp + 6, check ? check : 0xffff);
}
