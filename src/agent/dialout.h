/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the environment says to the agent of a container. Of a server to dial: AGENT_SERVER_URL and
 * AGENT_TOKEN; AGENT_INSECURE_PLAINTEXT=1, which lets the token go over a network in plain; with
 * https also AGENT_SERVER_PIN or AGENT_SERVER_CA (the text of a PEM file), whom to trust. Of the
 * sandbox' shim, if that is another: AGENT_SHIM_URL and AGENT_SHIM_TOKEN. And AGENT_WINDOW=
 * ROWSxCOLUMNS, the size of a terminal that does not know it yet.
 */
#pragma once

#include "agent/secure.h"

struct dialout {
	struct tunnel_url url;
	bool wanted;	       /* else there is no server */
	struct secure *secure; /* NULL: a numeric address in plain */
	char token[LIMIT_TUNNEL_SECRET];
	size_t token_len;
};

struct dialout_window {
	uint16_t rows, columns; /* 0: not said */
};

/* Takes them out of the environment, also out of what /proc/PID/environ shows. 0, or -errno with
 * err: they do not fit together. */
int dialout_take(struct dialout *shim, struct dialout *server, struct dialout_window *window,
	struct err *err);

void dialout_deinit(struct dialout *d); /* after the dialer */

/* Begins to dial, and wipes the token. changed, arg: as in tunnel/dialer.h. 0 or -ENOMEM. */
int dialout_start(struct dialout *d, struct loop *loop, struct rpc_server *server,
	void (*changed)(void *arg, const char *why), void *arg, struct tunnel_dialer **ret_dialer);
