/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1 (gRPC doc/health-checking.md). A service that is registered and has no state set
 * is SERVING. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "rpc/server-internal.h"

typedef Grpc__Health__V1__HealthCheckRequest Request;
typedef Grpc__Health__V1__HealthCheckResponse Response;

struct watcher {
	struct list link;
	struct rpc_server *server;
	struct rpc_call *call;
	int sent; /* the state told last, -1 before the first */
	char name[];
};

static int state_of(struct rpc_server *server, const char *name)
{
	const struct rpc_health_entry *e;

	list_foreach (e, &server->health, link)
		if (strcmp(e->name, name) == 0)
			return e->serving
				       ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
				       : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
	if (!*name || rpc_server_has_service(server, name))
		return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
}

static void check(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Request *req = (const Request *)msg;
	Response answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	answer.status = state_of(arg, req->service);
	if (answer.status ==
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN)
		rpc_call_finish_code(call, RPC_NOT_FOUND, "no service '%s'", req->service);
	else
		rpc_call_reply(call, &answer.base);
}

static void tell(struct watcher *w)
{
	Response answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	answer.status = state_of(w->server, w->name);
	/* One that does not read gets the newest state when it does. */
	if ((int)answer.status == w->sent || !rpc_call_writable(w->call))
		return;
	if (rpc_call_send(w->call, &answer.base) == 0)
		w->sent = answer.status;
}

static void watch_writable(struct rpc_call *call, void *arg)
{
	tell(arg);
}

static void watch_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct watcher *w = arg;

	list_remove(&w->link);
	free(w);
}

static const struct rpc_call_ops watch_ops = { .writable = watch_writable, .done = watch_done };

static void watch(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const Request *req = (const Request *)msg;
	size_t len = strlen(req->service) + 1;
	struct watcher *w = calloc(1, sizeof(*w) + len);

	if (!w) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	memcpy(w->name, req->service, len);
	w->server = arg;
	w->call = call;
	w->sent = -1;
	list_add_tail(&w->server->health_watchers, &w->link);
	rpc_call_set_ops(call, &watch_ops, w);
	tell(w);
}

static const struct rpc_method methods[] = {
	{
		.name = "Check",
		.in = &grpc__health__v1__health_check_request__descriptor,
		.out = &grpc__health__v1__health_check_response__descriptor,
		.request = check,
	},
	{
		.name = "Watch",
		.in = &grpc__health__v1__health_check_request__descriptor,
		.out = &grpc__health__v1__health_check_response__descriptor,
		.server_streams = true,
		.request = watch,
	},
};

const struct rpc_service rpc_health_service = { "grpc.health.v1.Health", methods,
	ARRAY_SIZE(methods) };

void rpc_health_changed(struct rpc_server *server, const char *name)
{
	struct watcher *w;

	list_foreach (w, &server->health_watchers, link)
		if (strcmp(w->name, name) == 0)
			tell(w);
}

int rpc_server_set_health(struct rpc_server *server, const char *service, bool serving)
{
	size_t len = strlen(service) + 1;
	struct rpc_health_entry *e;

	list_foreach (e, &server->health, link)
		if (strcmp(e->name, service) == 0)
			break;
	if (&e->link == &server->health) {
		e = calloc(1, sizeof(*e) + len);
		if (!e)
			return -ENOMEM;
		memcpy(e->name, service, len);
		list_add_tail(&server->health, &e->link);
	}
	e->serving = serving;
	rpc_health_changed(server, service);
	return 0;
}

void rpc_health_deinit(struct rpc_server *server)
{
	while (!list_empty(&server->health)) {
		struct rpc_health_entry *e =
			list_entry(server->health.next, struct rpc_health_entry, link);

		list_remove(&e->link);
		free(e);
	}
}
