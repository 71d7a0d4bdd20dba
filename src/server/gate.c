/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/server.h"

#define BEARER "Bearer "

bool gate_metadata(const struct rpc_call *call, const char *key, char *out, size_t size)
{
	size_t len = 0;
	const void *value = rpc_call_peer_metadata(call, key, 0, &len);

	if (!value || !len || len >= size || memchr(value, 0, len))
		return false;
	memcpy(out, value, len);
	out[len] = 0;
	return true;
}

static int caller(struct server *s, const struct rpc_call *call, struct store_identity *ret_who)
{
	size_t len = 0, skip = strlen(BEARER);
	const char *value = rpc_call_peer_metadata(call, "authorization", 0, &len);

	if (!value || len <= skip || len > skip + LIMIT_TUNNEL_SECRET ||
		strncasecmp(value, BEARER, skip) != 0)
		return -ENOENT;
	return store_find(s->store, value + skip, len - skip, ret_who);
}

static bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Of one sandbox: its own methods, and by its id alone. */
static bool may(const struct store_identity *who, const struct rpc_call *call)
{
	const char *path = rpc_call_path(call);
	char sandbox[STORE_SUBJECT + 1];

	if (who->kind == STORE_USER)
		return true;
	return who->kind == STORE_SANDBOX &&
	       (starts(path, "/micropod.agent.v1.") || starts(path, "/micropod.sandbox.v1.") ||
		       starts(path, "/api.")) &&
	       gate_metadata(call, SANDBOX_METADATA, sandbox, sizeof(sandbox)) &&
	       strcmp(sandbox, who->subject) == 0;
}

bool gate_admit(struct rpc_call *call, struct rpc_conn *conn, void *arg)
{
	const char *path = rpc_call_path(call);
	struct store_identity who;
	struct server *s = arg;
	int r;

	/* Those who join show who they are in their first message. */
	if (starts(path, "/micropod.tunnel.v1.") || starts(path, "/grpc.health.v1."))
		return true;
	r = caller(s, call, &who);
	if (r == 0 && may(&who, call))
		return true;
	s->refused++;
	if (r == 0)
		rpc_call_finish_code(call, RPC_PERMISSION_DENIED,
			"the token of %s '%s' is not for this", store_kind_name(who.kind),
			who.subject);
	else if (r == -ENOENT)
		rpc_call_finish_code(
			call, RPC_UNAUTHENTICATED, "the token is missing, wrong, or was revoked");
	else
		rpc_call_finish_code(
			call, RPC_UNAVAILABLE, "the server's database: %s", strerror(-r));
	return false;
}

void gate_on_call(const struct rpc_call *call, const struct rpc_status *status, int64_t duration_ns,
	void *arg)
{
	const char *path = rpc_call_path(call);
	char host[STORE_SUBJECT + 1] = "", sandbox[STORE_SUBJECT + 1] = "", id[64] = "";
	struct store_identity who = { .subject = "?" };
	struct server *s = arg;

	if (starts(path, "/micropod.tunnel.v1.") || starts(path, "/grpc.health.v1."))
		return;
	s->calls++;
	if (caller(s, call, &who) < 0)
		snprintf(who.subject, sizeof(who.subject), "?");
	gate_metadata(call, HOST_METADATA, host, sizeof(host));
	gate_metadata(call, SANDBOX_METADATA, sandbox, sizeof(sandbox));
	gate_metadata(call, "micropod-request-id", id, sizeof(id));
	log_info("rpc id=%llu request=%s who=%s host=%s sandbox=%s %s status=%s ms=%.1f",
		(unsigned long long)rpc_call_id(call), id, who.subject, host, sandbox, path,
		rpc_code_name(status->code), (double)duration_ns / 1e6);
	store_audit(s->store, who.subject, path, host, sandbox, rpc_code_name(status->code),
		duration_ns);
}
