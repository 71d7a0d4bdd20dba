/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768) by the byte, for the parts of
 * micropod-net that make and read packets themselves. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ETHERNET_HEADER 14
#define IPV4_HEADER	20 /* without options */
#define UDP_HEADER	8
#define ETHERNET_IPV4	0x0800
#define ETHERNET_ARP	0x0806
#define ETHERNET_IPV6	0x86dd
#define IPV6_HEADER	40
#define PACKET_MTU	1500

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static inline void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline void put32(uint8_t *p, uint32_t value)
{
	put16(p, value >> 16);
	put16(p + 2, value & 0xffff);
}

/* The network card that libslirp, or we in its place, give an address of the sandbox's network. */
void packet_mac(uint32_t address, uint8_t mac[static 6]);

/* The header of an IPv4 packet with len bytes of payload, its checksum included; fragment is its
 * flags and offset. */
void packet_ipv4(uint8_t ip[static IPV4_HEADER], uint32_t from, uint32_t to, uint8_t proto,
	uint16_t id, unsigned fragment, size_t len);

/* A UDP header before len bytes of data, which lie behind it, its checksum included. */
void packet_udp(
	uint8_t *udp, uint32_t from, uint16_t from_port, uint32_t to, uint16_t to_port, size_t len);
