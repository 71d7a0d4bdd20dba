/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: hosts and agents dial it (remotes.c), programs and command lines call it; who may is
 * decided for each call (gate.c), and then it is answered here (hosts.c) or passed on (route.c). It
 * keeps no list of sandboxes: their hosts are asked, so there is none to go wrong.
 */
#pragma once

#include "rpc/client.h"
#include "rpc/rate.h"
#include "rpc/server.h"
#include "server.pb-c.h"
#include "server/store.h"
#include "tunnel/acceptor.h"

#define HOST_METADATA	 "micropod-host"
#define SANDBOX_METADATA "micropod-sandbox"

struct server {
	struct loop *loop;
	struct store *store;
	struct tls *tls; /* NULL: plain */
	struct rpc_server *rpc;
	struct tunnel_acceptor *acceptor;
	struct list remotes;
	uint64_t sandbox_rate;	 /* bytes a second to and from each; 0: no limit */
	struct list rates;	 /* struct rpc_rate, of those that are used just now */
	struct loop_timer look;	 /* for tokens that were revoked */
	uint64_t calls, refused; /* counted for /metrics */
};

/* remotes.c: hosts and agents that are here */

struct remote {
	struct list link;
	struct server *server;
	struct store_identity who;
	int64_t since_ns; /* CLOCK_REALTIME */
	struct tunnel_peer *peer;
	struct rpc_channel *channel;
	struct io_stream *parked;
	struct loop_timer ask; /* a host, how it is */
	bool asked;
	Micropod__Host__V1__InfoResponse *info; /* of a host, the last; NULL: none yet */
	char id[33];				/* of an agent, as a sandbox' */
};

extern const struct tunnel_acceptor_ops remotes_ops;
struct remote *remotes_find_host(struct server *server, const char *name);
/* By name or id. */
struct remote *remotes_find_agent(struct server *server, const char *word);
/* The host with most free memory; NULL: there is none. */
struct remote *remotes_best_host(struct server *server);
/* Ends the sessions of tokens that are good no more. */
void remotes_check(struct server *server);

/* gate.c */

/* For rpc_server_opts: who may call what, and the audit. */
bool gate_admit(struct rpc_call *call, struct rpc_conn *conn, void *server);
void gate_on_call(const struct rpc_call *call, const struct rpc_status *status, int64_t duration_ns,
	void *server);
/* A value of the call's metadata as a string to out; false: it is not there, or too long. */
bool gate_metadata(const struct rpc_call *call, const char *key, char *out, size_t size);

/* hosts.c */

extern const struct rpc_service hosts_service;

/* Asks all hosts which sandboxes that word names (empty: all), and calls done once with the answers
 * put together, borrowed. call: cancelled, nothing is told any more; paused meanwhile. */
void hosts_gather(struct server *server, struct rpc_call *call, const char *word,
	void (*done)(struct server *server, struct rpc_call *call,
		const Micropod__Host__V1__ListResponse *all, const char *why));

/* route.c: for rpc_server_opts.fallback */
bool route_call(struct rpc_call *call, void *server);

/* metrics.c */

struct metrics;
/* Answers GET /metrics and /healthz at address. 0 or -errno with err. */
int metrics_listen(
	struct server *server, const char *address, struct metrics **ret_metrics, struct err *err);
struct metrics *metrics_free(struct metrics *metrics);
