/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server instead of this host's own root: --server, MICROPOD_SERVER. Sandboxes are looked up at
 * the server; calls to them go through it with metadata that says which sandbox on which host; and
 * what a host has to do itself (create, start, rm, images ...) is a command that its runner runs.
 */
#pragma once

#include "cli/cli.h"
#include "rpc/client.h"

struct remote;

/* context: of a server, borrowed; what it leaves open the environment says. on: the host to use
 * where there is a choice, or NULL. Does not connect yet. 0 or -errno with err. */
int remote_open(
	const struct context *context, const char *on, struct remote **ret_remote, struct err *err);
struct remote *remote_close(struct remote *remote);

int remote_find(
	struct remote *remote, const char *word, char out[static ID_LEN + 1], struct err *err);
int remote_list(struct remote *remote, struct strv *ids, struct err *err);
int remote_load(struct remote *remote, const char *id, struct sandbox *ret_box, struct err *err);
/* Who has it: the host's name, "" for an agent without one; borrowed. NULL: it was never looked up.
 */
const char *remote_host(const struct remote *remote, const char *id);

#define REMOTE_HEADERS 4

/* What a channel to one sandbox needs, for rpc_channel_opts. Borrowed from remote. */
struct remote_route {
	struct rpc_header headers[REMOTE_HEADERS];
	size_t n_headers;
	char sandbox[ID_LEN + 1];
};
void remote_route(const struct remote *remote, const char *id, struct remote_route *ret_route);
/* A connection to the server: a dial function of rpc_channel_opts. */
int remote_dial(struct loop *loop, struct io_stream **ret_stream, const struct remote *remote,
	struct err *err);
const char *remote_authority(const struct remote *remote);

/*
 * Runs a command of micropod's on a host (NULL: the one asked for, or the best), with its output to
 * ours as it comes; stdout to out instead, if not NULL. Returns its exit code, or -errno with err.
 */
int remote_command(struct remote *remote, const char *host, const struct strv *args,
	struct strbuf *out, struct err *err);

/* The same on every host at once (--on: on that one), until it has ended on each; lines stay whole.
 * The exit code, or -errno with err. */
int remote_everywhere(
	struct remote *remote, const char *verb, char *const *args, size_t n, struct err *err);

/* A whole verb that the hosts do themselves: args as given, of which words (pointers into them)
 * name sandboxes, if by_sandbox, each of which goes to the host that has it. The exit code, or
 * -errno. */
int remote_verb(struct remote *remote, const char *verb, bool by_sandbox, char *const *args,
	size_t n, const char **words, size_t n_words, struct err *err);
