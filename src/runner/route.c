/* SPDX-License-Identifier: Apache-2.0 */
/* One channel for each shim that has been asked for; it goes when its socket has. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "rpc/proxy.h"
#include "runner/runner.h"

struct route {
	struct list link;
	char id[ID_LEN + 1];
	char *path;
	struct rpc_channel *channel;
};

static void drop(struct route *route)
{
	list_remove(&route->link);
	rpc_channel_free(route->channel);
	free(route->path);
	free(route);
}

void runner_drop_routes(struct runner *r)
{
	while (!list_empty(&r->routes))
		drop(list_entry(r->routes.next, struct route, link));
}

static struct route *make_route(struct runner *r, const char *id, struct err *err)
{
	struct route *route = calloc(1, sizeof(*route));
	auto_free char *address = NULL;

	if (!route)
		return NULL;
	list_init(&route->link);
	memcpy(route->id, id, sizeof(route->id));
	route->path = sandbox_socket(r->root, id);
	if (!route->path || asprintf(&address, "unix:%s", route->path) < 0) {
		address = NULL;
		drop(route);
		return NULL;
	}
	if (rpc_channel_new_addr(r->loop, address, &route->channel, err) < 0) {
		drop(route);
		return NULL;
	}
	list_add_tail(&r->routes, &route->link);
	return route;
}

static struct route *find_route(struct runner *r, const char *id, struct err *err)
{
	struct route *route, *next, *found = NULL;

	list_foreach_safe (route, next, &r->routes, link) {
		if (access(route->path, F_OK) < 0)
			drop(route);
		else if (strcmp(route->id, id) == 0)
			found = route;
	}
	return found ? found : make_route(r, id, err);
}

bool runner_route(struct rpc_call *call, void *arg)
{
	const char *path = rpc_call_path(call);
	struct runner *r = arg;
	struct err err = ERR_INIT;
	struct route *route;
	char word[LIMIT_ID + 1], id[ID_LEN + 1];
	size_t len = 0;
	const void *value = rpc_call_peer_metadata(call, RUNNER_SANDBOX_METADATA, 0, &len);

	if (strncmp(path, "/micropod.agent.v1.Agent/", 25) != 0 &&
		strncmp(path, "/micropod.sandbox.v1.Sandbox/", 29) != 0 &&
		strncmp(path, "/api.Agent/", 11) != 0)
		return false;
	if (!value || !len || len >= sizeof(word)) {
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT,
			"metadata '" RUNNER_SANDBOX_METADATA "' is missing: it names the sandbox");
		return true;
	}
	memcpy(word, value, len);
	word[len] = 0;
	if (sandbox_find(r->root, word, id, &err) < 0) {
		rpc_call_finish_code(call, RPC_NOT_FOUND, "%s", err.msg);
		return true;
	}
	route = find_route(r, id, &err);
	if (!route)
		rpc_call_finish_code(
			call, RPC_UNAVAILABLE, "sandbox '%s' cannot be reached: %s", word, err.msg);
	else if (access(route->path, F_OK) < 0)
		rpc_call_finish_code(
			call, RPC_FAILED_PRECONDITION, "sandbox '%s' is not running", word);
	else
		return rpc_proxy_call(call, route->channel);
	return true;
}
