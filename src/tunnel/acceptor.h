/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's end of the tunnel: the Tunnel service on an rpc_server, and the sessions of the
 * agents that have registered. Whom to believe its owner decides; what an agent says of itself is a
 * hint.
 */
#pragma once

#include "base/err.h"
#include "base/limits.h"
#include "rpc/server.h"
#include "tunnel.pb-c.h"

struct tunnel_acceptor;
struct tunnel_peer; /* one agent's session */

/* For max_message of the server below: no message of the tunnel is larger. */
#define TUNNEL_MESSAGE_MAX     (LIMIT_TUNNEL_FRAME + 64)
#define TUNNEL_CREDENTIAL_SIZE 32
#define TUNNEL_PEER_NAME       64

struct tunnel_acceptor_ops {
	/*
	 * Who says hello, by the token or credential in it (one of them, not empty): its name goes
	 * to name[TUNNEL_PEER_NAME], and the token is used up. 0; -EACCES: refused; -EAGAIN: it is
	 * to try again; with err, whose message the agent gets.
	 */
	int (*enrol)(
		void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err);
	/* The session has begun. credential: what the agent can come back with from now on, instead
	 * of any before; to be kept as a hash. Another session under the same name has ended. */
	void (*begun)(void *arg, struct tunnel_peer *peer, const uint8_t *credential);
	/* A stream to the agent, parked: an rpc_channel may be made of it. Taken over. Until it is
	 * used, its on_event comes when it is dead, and it is to be freed then. */
	void (*stream)(void *arg, struct tunnel_peer *peer, struct io_stream *stream);
	/* The session is over; its streams end next. */
	void (*ended)(void *arg, struct tunnel_peer *peer, const char *why);
};

/* Adds the service to server. parked: streams that each agent keeps open. ops, arg: borrowed. 0 or
 * -errno. */
int tunnel_acceptor_new(struct loop *loop, struct rpc_server *server, unsigned parked,
	const struct tunnel_acceptor_ops *ops, void *arg, struct tunnel_acceptor **ret_acceptor);
/* Behind rpc_server_free(), which ends the sessions. Returns NULL. */
struct tunnel_acceptor *tunnel_acceptor_free(struct tunnel_acceptor *acceptor);

const char *tunnel_peer_name(const struct tunnel_peer *peer);
/* As given; for its owner to find its own. */
void tunnel_peer_set_data(struct tunnel_peer *peer, void *data);
void *tunnel_peer_data(const struct tunnel_peer *peer);
/* Asks for more streams. */
void tunnel_peer_open(struct tunnel_peer *peer, unsigned count);
/* Ends it with UNAUTHENTICATED; `ended` comes from a later turn of the loop. */
void tunnel_peer_refuse(struct tunnel_peer *peer, const char *why);
