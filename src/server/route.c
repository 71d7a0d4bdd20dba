/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "rpc/proxy.h"
#include "server/server.h"

static bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Of the sandbox that the call is for. NULL: there is none, or no limit, or no memory. */
static struct rpc_rate *rate_of(const struct rpc_call *call, struct remote *r)
{
	struct server *s = r->server;
	char sandbox[STORE_SUBJECT + 1], key[sizeof(((struct rpc_rate *)0)->key)];
	struct rpc_rate *rate;

	if (!s->sandbox_rate || !gate_metadata(call, SANDBOX_METADATA, sandbox, sizeof(sandbox)))
		return NULL;
	/* An agent's name and id are both its token's. */
	snprintf(key, sizeof(key), "%s/%s", r->who.id, store_is_agent(r->who.kind) ? "" : sandbox);
	list_foreach (rate, &s->rates, link)
		if (strcmp(rate->key, key) == 0)
			return rate;
	rate = rpc_rate_new(s->loop, s->sandbox_rate, key);
	if (rate)
		list_add_tail(&s->rates, &rate->link);
	return rate;
}

static void pass_on(struct rpc_call *call, struct remote *r)
{
	rpc_proxy_call_at(call, r->channel, rate_of(call, r));
}

static void to_host(struct server *s, struct rpc_call *call, const char *name)
{
	struct remote *r = remotes_find_host(s, name);

	if (r)
		pass_on(call, r);
	else
		rpc_call_finish_code(call, RPC_UNAVAILABLE, "host '%s' is not here just now", name);
}

/* Who has it is known now. */
static void on_found(struct server *s, struct rpc_call *call,
	const Micropod__Host__V1__ListResponse *all, const char *why)
{
	rpc_call_set_ops(call, NULL, NULL);
	if (why)
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "%s", why);
	else if (all->n_sandboxes == 0 && all->n_silent)
		rpc_call_finish_code(call, RPC_UNAVAILABLE,
			"no host that answers has the sandbox, and '%s' does not", all->silent[0]);
	else if (all->n_sandboxes == 0)
		rpc_call_finish_code(call, RPC_NOT_FOUND, "no host has the sandbox");
	else if (all->n_sandboxes > 1)
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT,
			"hosts '%s' and '%s' both have one of that name: give its id",
			all->sandboxes[0]->host, all->sandboxes[1]->host);
	else
		to_host(s, call, all->sandboxes[0]->host);
}

static void to_sandbox(struct server *s, struct rpc_call *call)
{
	char sandbox[STORE_SUBJECT + 1], host[STORE_SUBJECT + 1];
	struct remote *agent;

	if (!gate_metadata(call, SANDBOX_METADATA, sandbox, sizeof(sandbox))) {
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT,
			"metadata '" SANDBOX_METADATA "' is missing: it names the sandbox");
		return;
	}
	if (gate_metadata(call, HOST_METADATA, host, sizeof(host))) {
		to_host(s, call, host);
		return;
	}
	agent = remotes_find_agent(s, sandbox);
	if (agent)
		pass_on(call, agent);
	else
		hosts_gather(s, call, sandbox, on_found);
}

bool route_call(struct rpc_call *call, void *arg)
{
	const char *path = rpc_call_path(call);
	struct server *s = arg;
	char host[STORE_SUBJECT + 1];
	struct remote *best;

	if (starts(path, "/micropod.agent.v1.Agent/") || starts(path, "/api.Agent/") ||
		starts(path, "/micropod.sandbox.v1.Sandbox/")) {
		to_sandbox(s, call);
		return true;
	}
	if (!starts(path, "/micropod.host.v1.Host/"))
		return false;
	best = remotes_best_host(s);
	if (gate_metadata(call, HOST_METADATA, host, sizeof(host)))
		to_host(s, call, host);
	else if (best)
		pass_on(call, best);
	else
		rpc_call_finish_code(call, RPC_UNAVAILABLE,
			"no host has joined: start 'micropod runner' on one");
	return true;
}
