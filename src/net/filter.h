/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a guest's frames the network stack gets to see at all. What is let through is ARP and
 * IPv4 (RFC 791) from the sandbox's own network to an address that a guest may talk to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

/* 10.0.2.0/24 in host byte order; net.h has the words. */
#define NET_V4_NETWORK 0x0a000200u
#define NET_V4_MASK    0xffffff00u
#define NET_V4_GATEWAY 0x0a000202u
#define NET_V4_DNS     0x0a000203u
#define NET_V4_GUEST   0x0a00020fu

enum filter_verdict {
	FILTER_PASS,
	FILTER_MALFORMED,   /* too short, lengths that do not fit */
	FILTER_PROTOCOL,    /* neither ARP nor IPv4 */
	FILTER_SOURCE,	    /* not from the sandbox's network */
	FILTER_DESTINATION, /* link-local, loopback, multicast, broadcast, reserved */
	FILTER_SERVICE, /* a service of the stack that no sandbox uses: DHCP, TFTP, what is not DNS
			   on the DNS address */
	FILTER_VERDICT_MAX
};

enum filter_verdict filter_frame(const uint8_t *frame, size_t len);

/* Whether a guest may send to the address (host byte order) at all: FILTER_PASS or
 * FILTER_DESTINATION. */
enum filter_verdict filter_destination(uint32_t address);

const char *filter_verdict_name(enum filter_verdict verdict);
