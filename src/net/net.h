/* SPDX-License-Identifier: Apache-2.0 */
/* Starting micropod-net, the user-mode network of one sandbox and its end of one that it shares
 * with others, from its shim. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"

/* What the guest is told; the network is 10.0.2.0/24 for everyone who is alone, as libslirp has it.
 */
#define NET_GUEST_ADDRESS "10.0.2.15"
#define NET_GUEST_PREFIX  24
#define NET_GATEWAY	  "10.0.2.2"
#define NET_DNS		  "10.0.2.3"

/* Its IPv6, the same everywhere: each stack is a translator of its own (RFC 4193 for the prefix).
 */
#define NET_PREFIX6	   "fd3c:9e1b:7a40::"
#define NET_GUEST_ADDRESS6 "fd3c:9e1b:7a40::15"
#define NET_GUEST_PREFIX6  64
#define NET_GATEWAY6	   "fd3c:9e1b:7a40::2"
#define NET_DNS6	   "fd3c:9e1b:7a40::3"

struct net_port {
	char host_ip[46]; /* numeric; empty: all addresses, IPv4 and IPv6 */
	uint16_t host;	  /* 0: any free one; filled in with the one chosen */
	uint16_t guest;
	bool udp;
};

struct net_config {
	const char *program; /* path of micropod-net */
	struct net_port *ports;
	size_t n_ports;
	bool host_access;  /* the guest may reach the host's loopback as its gateway */
	const char *reach; /* "private", "internet", "nowhere"; NULL: all */
	/* On a network with others: its address there, ADDRESS/PREFIX, NULL if it is alone; the
	 * folder where they meet; by which names the others know it */
	const char *address, *folder;
	const char *bridge; /* of the host's, on which that network is; NULL: on none */
	const uint8_t *mac;
	const struct strv *names;
	int log_fd;	  /* its stderr; borrowed */
	int64_t deadline; /* CLOCK_MONOTONIC ns, until it is ready */
};

/*
 * Starts it. It dies with the calling process. Returns 0 with its pid, a pidfd, the descriptor that
 * the VMM's network device talks to, which may be used at once, and one for net_await() (all the
 * caller's), or -errno with err.
 */
int net_start(struct net_config *config, pid_t *ret_pid, int *ret_pidfd, int *ret_vmm_fd,
	int *ret_ready_fd, struct err *err);

/*
 * Blocks until all ports are bound; config is the one it was started with. 0, or -errno with err,
 * and then it ends by itself: -EADDRINUSE says which port and, where it can be told, who holds it.
 */
int net_await(const struct net_config *config, int ready_fd, struct err *err);
