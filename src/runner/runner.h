/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner: one process of a host that has joined a server. It dials out (tunnel/dialer.h) and
 * answers what comes: Host's methods (host.c, command.c), and for a sandbox' shim and agent by
 * passing them through (route.c).
 */
#pragma once

#include "host.pb-c.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "sandbox/manager.h"

#define RUNNER_SANDBOX_METADATA "micropod-sandbox"

struct runner {
	struct loop *loop;
	struct sandbox_root *root;
	const char *name;
	char *program; /* micropod itself */
	struct rpc_server *server;
	struct list routes;
};

/* host.c */
extern const struct rpc_service runner_host_service;

/* command.c: the method */
void runner_command(struct rpc_call *call, void *runner);

/* route.c */

/* For rpc_server_opts.fallback. */
bool runner_route(struct rpc_call *call, void *runner);
void runner_drop_routes(struct runner *runner);
