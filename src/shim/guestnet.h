/* SPDX-License-Identifier: Apache-2.0 */
/* The network that every guest is set up with: the same for all but for name, MAC and clock. */
#pragma once

#include <stdbool.h>

#include "agent.pb-c.h"
#include "sandbox/network.h"

/* The request with all that it points to; not to be moved. */
struct guestnet {
	Micropod__Agent__V1__ConfigureNetworkRequest req;
	Micropod__Agent__V1__Interface iface, *ifaces[1];
	Micropod__Agent__V1__Address address, address6, *addresses[2];
	Micropod__Agent__V1__Route route, route6, *routes[2];
	char *dns[1];
	struct network_plan plan;
};

/* config NULL: that of a template; without a network the guest has none. */
void guestnet_init(struct guestnet *net, const struct sandbox_config *config);
