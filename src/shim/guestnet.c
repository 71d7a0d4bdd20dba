/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/guestnet.h"

void guestnet_init(struct guestnet *n, const struct sandbox_config *config)
{
	*n = (struct guestnet){
		.req = MICROPOD__AGENT__V1__CONFIGURE_NETWORK_REQUEST__INIT,
		.iface = MICROPOD__AGENT__V1__INTERFACE__INIT,
		.address = MICROPOD__AGENT__V1__ADDRESS__INIT,
		.route = MICROPOD__AGENT__V1__ROUTE__INIT,
		.ifaces = { &n->iface },
		.addresses = { &n->address },
		.routes = { &n->route },
		.dns = { n->plan.dns },
	};
	if (config->no_network)
		return;
	network_plan(config, &n->plan);
	n->address.address = n->plan.address;
	n->address.prefix = n->plan.prefix;
	n->iface.name = (char *)"eth0";
	n->iface.addresses = n->addresses;
	n->iface.n_addresses = 1;
	n->route.gateway = n->plan.gateway;
	n->req.interfaces = n->ifaces;
	n->req.n_interfaces = 1;
	n->req.routes = n->routes;
	n->req.n_routes = 1;
	n->req.dns_servers = n->dns;
	n->req.n_dns_servers = 1;
}
