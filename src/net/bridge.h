/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network on a bridge of the host's (for root, or with CAP_NET_ADMIN): the bridge lives as long
 * as the network; a sandbox's end of it, a tap device and its rule for addresses, as long as the
 * process that holds them, however that ends. All block shortly.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define BRIDGE_NAME 16 /* IFNAMSIZ */

/* Makes the bridge, unless it is there, with this address of the host's (host byte order) on it,
 * and has the host pass packets on between it and the world, if routed. 0 or -errno with err. */
int bridge_make(const char *name, uint32_t address, unsigned prefix, bool routed, struct err *err);

/* One that is not there is fine. */
int bridge_remove(const char *name, struct err *err);

/* Whether this host has a route, other than the default, into these addresses. */
bool bridge_is_routed(uint32_t subnet, unsigned prefix);

/*
 * A tap device on the bridge, for who has that address: *ret_tap reads and writes frames, without
 * blocking. masquerade: what it sends beyond the bridge bears the host's address; *ret_rule holds
 * the rule (-1: none). Both go with their descriptors. 0 or -errno with err.
 */
int bridge_join(const char *bridge, uint32_t address, bool masquerade, int *ret_tap, int *ret_rule,
	struct err *err);
