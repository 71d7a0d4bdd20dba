/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's network by rtnetlink(7), name servers and host name. Idempotent: what is there
 * already stays. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define RESOLV_CONF	    "/run/micropod/resolv.conf" /* /etc may be read-only */
#define NETIF_MAX	    16
#define NETIF_ADDRESSES_MAX 16
#define NETIF_ROUTES_MAX    64
#define NETIF_DNS_MAX	    16

struct netif_address {
	int family; /* AF_INET or AF_INET6 */
	uint8_t addr[16];
	uint8_t prefix;
};

struct netif_link {
	uint8_t mac[6];
	bool any;     /* no mac given: the only link that is not lo */
	bool set_mac; /* to new_mac */
	uint8_t new_mac[6];
	char name[16]; /* "": as it is */
	unsigned mtu;  /* 0: as it is */
	size_t n_addresses;
	struct netif_address addresses[NETIF_ADDRESSES_MAX];
};

struct netif_route {
	struct netif_address destination; /* family 0: default, of the gateway's family */
	struct netif_address gateway;	  /* family 0: none (the interface itself) */
	char interface[16];		  /* "": found by the gateway */
};

/* "10.0.2.15" or "fec0::1" with a prefix length; "0.0.0.0/0" by the second. 0 or -EINVAL. */
int netif_parse_address(const char *text, unsigned prefix, struct netif_address *ret_address);
int netif_parse_cidr(const char *text, struct netif_address *ret_address);

/* Whether name can be a network interface's: 1-15 bytes, no '/', no space, not "." or "..". */
bool netif_name_valid(const char *name);

/* lo up with 127.0.0.1 and ::1. 0 or -errno with err. */
int netif_loopback_up(struct err *err);

/* Finds, renames, sets up and addresses each link, then adds the routes. Blocks on the kernel
 * (milliseconds). 0 or -errno with err (-ENODEV: no link has that MAC). */
int netif_configure(const struct netif_link *links, size_t n_links,
	const struct netif_route *routes, size_t n_routes, struct err *err);

/* Gives the link called link->name, up or down, its new_mac. 0 or -errno with err. */
int netif_set_mac(const struct netif_link *link, struct err *err);

/* The first IPv4 address that is not lo's, else 127.0.1.1. 0 or -errno. */
int netif_own_address(char out[static INET_ADDRSTRLEN]);

/* What Docker sets in a container's network: unprivileged users may bind low ports and ping. 0 or
 * -errno with err. */
int netif_sysctls(struct err *err);

/* Whether it can be one word of resolv.conf: no white space, control bytes or comment. */
bool netif_is_word(const char *s);

/* Writes RESOLV_CONF, which containers get. Words are checked: no white space or control bytes. 0
 * or -errno with err. */
int netif_resolv_conf(const char *path, const char *const *servers, size_t n_servers,
	const char *const *search, size_t n_search, struct err *err);

/* sethostname(2) after a check (1-64 bytes of [A-Za-z0-9.-]). 0 or -errno with err. */
int netif_hostname(const char *name, struct err *err);
