/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a guest's frames the network stack gets to see at all. What is let through is ARP, IPv4
 * (RFC 791) and IPv6 (RFC 8200) from the sandbox's own network to an address that a guest may talk
 * to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

/* Where a guest may send to, outside its own network. */
enum net_reach {
	NET_REACH_ALL,
	NET_REACH_PRIVATE,  /* addresses of private networks (RFC 1918, 6598, 4193) only */
	NET_REACH_INTERNET, /* all but those */
	NET_REACH_NOWHERE,
};

/* A sandbox's network; addresses in host byte order. Its IPv6 is everyone's (net.h). */
struct net_plan {
	uint32_t network, mask;
	uint32_t gateway, dns, guest;
	enum net_reach reach;
	bool shared; /* with other sandboxes: only its own address is a source */
	/* The others, and the gateway, are reached by a bridge of the host's; the stack, which
	 * publishes ports, has another address then. */
	bool bridged;
	uint32_t proxy;
};

/* That of a sandbox alone, 10.0.2.0/24; net.h has the words. */
extern const struct net_plan net_plan_alone;

enum filter_verdict {
	FILTER_PASS,
	FILTER_MALFORMED,   /* too short, lengths that do not fit */
	FILTER_PROTOCOL,    /* neither ARP nor IPv4 nor IPv6; an extension header of IPv6 */
	FILTER_SOURCE,	    /* not from the sandbox's network */
	FILTER_DESTINATION, /* link-local, loopback, multicast, broadcast, reserved, and what the
			       plan does not reach */
	FILTER_SERVICE, /* a service of the stack that no sandbox uses: DHCP, TFTP, what is not DNS
			   on the DNS address */
	FILTER_VERDICT_MAX
};

enum filter_verdict filter_frame(const struct net_plan *plan, const uint8_t *frame, size_t len);

/* Whether a guest may send to the address (host byte order) at all: FILTER_PASS or
 * FILTER_DESTINATION. */
enum filter_verdict filter_destination(const struct net_plan *plan, uint32_t address);

/* The same of an IPv6 address. */
enum filter_verdict filter_destination6(
	const struct net_plan *plan, const uint8_t address[static 16]);

const char *filter_verdict_name(enum filter_verdict verdict);
