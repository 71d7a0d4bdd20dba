/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/guestnet.h"

#include "base/macro.h"
#include "net/net.h"

void guestnet_init(struct guestnet *n, const struct sandbox_config *config)
{
	*n = (struct guestnet){
		.req = MICROPOD__AGENT__V1__CONFIGURE_NETWORK_REQUEST__INIT,
		.iface = MICROPOD__AGENT__V1__INTERFACE__INIT,
		.address = MICROPOD__AGENT__V1__ADDRESS__INIT,
		.route = MICROPOD__AGENT__V1__ROUTE__INIT,
		.ifaces = { &n->iface },
		.address6 = MICROPOD__AGENT__V1__ADDRESS__INIT,
		.route6 = MICROPOD__AGENT__V1__ROUTE__INIT,
		.addresses = { &n->address, &n->address6 },
		.routes = { &n->route, &n->route6 },
		.dns = { n->plan.dns },
	};
	if (config->no_network)
		return;
	network_plan(config, &n->plan);
	n->address.address = n->plan.address;
	n->address.prefix = n->plan.prefix;
	n->address6.address = (char *)NET_GUEST_ADDRESS6;
	n->address6.prefix = NET_GUEST_PREFIX6;
	n->route6.gateway = (char *)NET_GATEWAY6;
	n->iface.name = (char *)"eth0";
	n->iface.addresses = n->addresses;
	n->iface.n_addresses = ARRAY_SIZE(n->addresses);
	n->route.gateway = n->plan.gateway;
	n->req.interfaces = n->ifaces;
	n->req.n_interfaces = 1;
	n->req.routes = n->routes;
	n->req.n_routes = ARRAY_SIZE(n->routes);
	n->req.dns_servers = n->dns;
	n->req.n_dns_servers = 1;
}
