/* SPDX-License-Identifier: Apache-2.0 */
/* What server.c, health.c and reflection.c share. */
#pragma once

#include "rpc/internal.h"

struct rpc_service_entry {
	struct list link;
	const char *name; /* borrowed, as the table is */
	const struct rpc_service *service;
	void *arg;
};

struct rpc_health_entry {
	struct list link;
	bool serving;
	char name[];
};

struct rpc_descriptor_set {
	struct list link;
	struct rpc_descriptors set;
};

struct rpc_server {
	struct loop *loop;
	struct rpc_server_opts opts;
	struct list services, listeners, conns, calls;
	struct list health, health_watchers;
	struct list descriptors;
	unsigned n_conns;
	bool draining;
	void (*drained)(void *arg);
	void *drained_arg;
	struct loop_defer drained_defer;
};

/* The services that every server has; service_arg is the server. */
extern const struct rpc_service rpc_health_service, rpc_reflection_service,
	rpc_reflection_alpha_service;

void rpc_health_deinit(struct rpc_server *server);
/* Tells those who watch that a service has come. */
void rpc_health_changed(struct rpc_server *server, const char *name);
int rpc_reflection_init(struct rpc_server *server);
void rpc_reflection_deinit(struct rpc_server *server);
bool rpc_server_has_service(const struct rpc_server *server, const char *name);
