/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "server/server.h"

#define ASK_EVERY (15 * NSEC_PER_SEC)
#define ASK_TIME  (10 * NSEC_PER_SEC)

static bool joins(enum store_kind kind)
{
	return kind == STORE_HOST || store_is_agent(kind);
}

static int on_enrol(
	void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err)
{
	struct server *s = arg;
	struct store_identity who;
	bool back = hello->credential.len > 0;
	int r = back ? store_find_credential(
			       s->store, hello->credential.data, hello->credential.len, &who)
		     : store_find(s->store, hello->token.data, hello->token.len, &who);

	if (r == 0 && !joins(who.kind))
		r = -ENOENT;
	if (r == 0 && !back && who.kind == STORE_AGENT)
		r = store_use(s->store, who.id);
	if (r == -EEXIST)
		log_warning("audit: the token of %s '%s' was used a second time: refused",
			store_kind_name(who.kind), who.subject);
	if (r < 0) {
		store_audit(s->store, r == -EEXIST ? who.subject : "?", "join", "", "",
			"UNAUTHENTICATED", 0);
		return r == -ENOENT || r == -EEXIST
			       ? err_set(err, EACCES, "the %s is not good, or was used",
					 back ? "credential" : "token")
			       : err_set(err, EAGAIN, "not now");
	}
	/* A session is found by its token's id. */
	snprintf(name, TUNNEL_PEER_NAME, "%s", who.id);
	store_audit(s->store, who.subject, "join", "", "", "OK", 0);
	return 0;
}

/* How it is */

static void ask(struct remote *r);

static void on_ask(struct loop_timer *timer)
{
	ask(container_of(timer, struct remote, ask));
}

static void on_info(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct remote *r = arg;
	Micropod__Host__V1__InfoResponse *info =
		micropod__host__v1__info_response__unpack(NULL, len, raw);

	if (!info)
		return;
	if (r->info)
		micropod__host__v1__info_response__free_unpacked(r->info, NULL);
	r->info = info;
}

static void on_info_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct remote *r = arg;

	if (status->code != RPC_OK)
		log_warning(
			"host '%s' does not say how it is: %s", r->who.subject, status->message);
	loop_timer_arm(r->server->loop, &r->ask, deadline_in(ASK_EVERY), on_ask);
}

static const struct rpc_call_ops info_ops = { .message = on_info, .done = on_info_done };

static void ask(struct remote *r)
{
	struct rpc_call_opts opts = { .deadline = deadline_in(ASK_TIME) };
	struct rpc_call *call;

	if (r->who.kind != STORE_HOST || rpc_channel_call(r->channel, "/micropod.host.v1.Host/Info",
						 NULL, &opts, &info_ops, r, &call) < 0)
		return;
	r->asked = true;
	rpc_call_send_raw(call, "", 0);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

/* Sessions */

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct remote *r = arg;

	if (!r->parked)
		return err_set(err, EAGAIN, "no stream is parked");
	*ret_stream = take_ptr(r->parked);
	(*ret_stream)->on_event = NULL;
	return 0;
}

static void on_begun(void *arg, struct tunnel_peer *peer, const uint8_t *credential)
{
	struct server *s = arg;
	struct remote *r = calloc(1, sizeof(*r));
	struct rpc_channel_opts opts = { .dial = dial, .arg = r };
	struct store_identity who;
	struct err err = ERR_INIT;
	uint8_t half[16] = { 0 };

	if (!r ||
		store_keep_credential(s->store, tunnel_peer_name(peer), credential,
			TUNNEL_CREDENTIAL_SIZE, &err) < 0 ||
		store_find_credential(s->store, credential, TUNNEL_CREDENTIAL_SIZE, &who) < 0 ||
		rpc_channel_new(s->loop, &opts, &r->channel) < 0) {
		log_error("a session cannot be kept: %s", err.msg);
		free(r);
		tunnel_peer_refuse(peer, "not now");
		return;
	}
	r->server = s;
	r->who = who;
	r->peer = peer;
	r->since_ns = clock_realtime();
	/* As a sandbox' id: the same at each return. */
	memcpy(half, who.id, sizeof(who.id) - 1);
	hex_encode(half, sizeof(half), r->id);
	list_add_tail(&s->remotes, &r->link);
	tunnel_peer_set_data(peer, r);
	log_info("%s '%s' has joined", store_kind_name(who.kind), who.subject);
}

static void on_parked_event(void *arg, uint32_t events)
{
	struct remote *r = arg;
	char byte;

	if (io_stream_read(r->parked, &byte, 1) != -EAGAIN)
		r->parked = io_stream_free(r->parked);
}

static void on_stream(void *arg, struct tunnel_peer *peer, struct io_stream *stream)
{
	struct remote *r = tunnel_peer_data(peer);

	if (!r) {
		io_stream_free(stream);
		return;
	}
	io_stream_free(r->parked);
	r->parked = stream;
	stream->on_event = on_parked_event;
	stream->arg = r;
	if (!r->asked)
		ask(r);
}

static void on_ended(void *arg, struct tunnel_peer *peer, const char *why)
{
	struct remote *r = tunnel_peer_data(peer);

	if (!r)
		return;
	log_info("%s '%s' is gone: %s", store_kind_name(r->who.kind), r->who.subject, why);
	list_remove(&r->link);
	rpc_channel_free(r->channel);
	loop_timer_disarm(&r->ask);
	io_stream_free(r->parked);
	if (r->info)
		micropod__host__v1__info_response__free_unpacked(r->info, NULL);
	free(r);
}

const struct tunnel_acceptor_ops remotes_ops = {
	.enrol = on_enrol, .begun = on_begun, .stream = on_stream, .ended = on_ended
};

struct remote *remotes_find_host(struct server *s, const char *name)
{
	struct remote *r;

	list_foreach (r, &s->remotes, link)
		if (r->who.kind == STORE_HOST && strcmp(r->who.subject, name) == 0)
			return r;
	return NULL;
}

struct remote *remotes_find_agent(struct server *s, const char *word)
{
	struct remote *r;

	list_foreach (r, &s->remotes, link)
		if (store_is_agent(r->who.kind) &&
			(strcmp(r->who.subject, word) == 0 || strcmp(r->id, word) == 0))
			return r;
	return NULL;
}

struct remote *remotes_best_host(struct server *s)
{
	struct remote *r, *best = NULL;

	list_foreach (r, &s->remotes, link) {
		if (r->who.kind != STORE_HOST)
			continue;
		if (!best || (r->info && (!best->info || r->info->memory_free_bytes >
								 best->info->memory_free_bytes)))
			best = r;
	}
	return best;
}

void remotes_check(struct server *s)
{
	struct remote *r;

	list_foreach (r, &s->remotes, link)
		if (!store_valid(s->store, r->who.id))
			tunnel_peer_refuse(r->peer, "the token has been revoked");
}
