/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's end of the tunnel: dials its server, registers, keeps streams parked there, and comes
 * back when that is lost, for as long as it lives. Calls over the streams are answered by an
 * rpc_server. Nothing blocks.
 */
#pragma once

#include "io/loop.h"
#include "rpc/server.h"
#include "tunnel/url.h"

struct tunnel_dialer;

/* Who looks up the name in a URL, before each attempt. */
struct tunnel_names {
	/* found() comes once, from the loop, unless cancel() comes first: r 0 and a numeric
	 * address, or -errno. 0 or -ENOMEM. */
	int (*lookup)(void *arg, const char *name,
		void (*found)(void *found_arg, int r, const char *address), void *found_arg);
	void (*cancel)(void *arg); /* no-op if there is nothing */
	void *arg;
};

struct tunnel_dialer_opts {
	struct tunnel_url url;	   /* copied */
	struct tunnel_names names; /* needed for a url that is "named" */
	const void *token;	   /* copied, and wiped once it was used */
	size_t token_len;	   /* at most LIMIT_TUNNEL_SECRET */
	bool keep_token;	   /* it is good again and again, also when the credential is not */
	struct rpc_server *server; /* borrowed: answers what comes */
	/* What is spoken below HTTP/2, as in rpc/server.h; wrap_arg goes with it. Optional. */
	int (*wrap)(struct io_stream *plain, struct io_stream **ret_stream, void *arg);
	void *wrap_arg;
	uint32_t api_generation;
	/* The session begins (why NULL), or has ended or could not be made: why is one line. Must
	 * not free the dialer. Optional. */
	void (*changed)(void *arg, const char *why);
	void *arg;
};

/* Begins at once. 0 or -ENOMEM. */
int tunnel_dialer_new(struct loop *loop, const struct tunnel_dialer_opts *opts,
	struct tunnel_dialer **ret_dialer);
/* Ends all at once. Before the server is freed. Returns NULL. */
struct tunnel_dialer *tunnel_dialer_free(struct tunnel_dialer *dialer);

/* Whether there is a session just now. */
bool tunnel_dialer_connected(const struct tunnel_dialer *dialer);

/* Says good-bye and sends what is on its way; done (once) when the server has taken note, or the
 * deadline has passed. Then it is to be freed. */
void tunnel_dialer_leave(
	struct tunnel_dialer *dialer, int64_t deadline, void (*done)(void *arg), void *arg);
