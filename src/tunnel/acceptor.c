/* SPDX-License-Identifier: Apache-2.0 */
#include "tunnel/acceptor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/limits.h"
#include "tunnel/link.h"

#define HELLO_TIME (10 * NSEC_PER_SEC)

struct tunnel_acceptor {
	struct loop *loop;
	unsigned parked;
	const struct tunnel_acceptor_ops *ops;
	void *arg;
	struct list peers;
	unsigned n_peers;
};

struct tunnel_peer {
	struct tunnel_acceptor *acceptor;
	struct list link;
	struct rpc_call *call; /* Register, a reference */
	struct loop_timer timer;
	int64_t heard;
	bool begun; /* its Hello was good */
	char name[TUNNEL_PEER_NAME];
	uint8_t credential[TUNNEL_CREDENTIAL_SIZE];
	struct list links;
	void *data;
};

/* Sessions */

static void end_peer(struct tunnel_peer *p, const char *why)
{
	struct tunnel_acceptor *a = p->acceptor;

	list_remove(&p->link);
	a->n_peers--;
	if (p->begun)
		a->ops->ended(a->arg, p, why);
	while (!list_empty(&p->links)) {
		struct tunnel_link *link = list_entry(p->links.next, struct tunnel_link, member);

		list_remove(&link->member);
		tunnel_link_cut(link, ECONNRESET);
	}
	loop_timer_disarm(&p->timer);
	rpc_call_unref(p->call);
	explicit_bzero(p->credential, sizeof(p->credential));
	free(p);
}

static void send_command(struct tunnel_peer *p, const Micropod__Tunnel__V1__ServerCommand *command)
{
	/* One that takes nothing for so long is silent too, and dies of that. */
	(void)rpc_call_send(p->call, &command->base);
}

static void refuse(struct tunnel_peer *p, enum rpc_code code, const char *why)
{
	rpc_call_finish_code(p->call, code, "%s", why);
}

static void on_heartbeat(struct loop_timer *timer)
{
	struct tunnel_peer *p = container_of(timer, struct tunnel_peer, timer);
	Micropod__Tunnel__V1__ServerCommand command = MICROPOD__TUNNEL__V1__SERVER_COMMAND__INIT;
	Micropod__Tunnel__V1__Heartbeat beat = MICROPOD__TUNNEL__V1__HEARTBEAT__INIT;

	if (clock_monotonic() - p->heard >= TUNNEL_SILENCE) {
		/* Its connection may be dead, so that no end of the call would come. */
		rpc_call_cancel(p->call);
		return;
	}
	command.kind_case = MICROPOD__TUNNEL__V1__SERVER_COMMAND__KIND_HEARTBEAT;
	command.heartbeat = &beat;
	send_command(p, &command);
	if (loop_timer_arm(p->acceptor->loop, timer, deadline_in(TUNNEL_HEARTBEAT), on_heartbeat) <
		0)
		rpc_call_cancel(p->call);
}

static void on_no_hello(struct loop_timer *timer)
{
	refuse(container_of(timer, struct tunnel_peer, timer), RPC_DEADLINE_EXCEEDED,
		"no Hello came");
}

/* One agent has one session: the old one may be half-open and not know it. */
static void end_namesake(struct tunnel_peer *p)
{
	struct tunnel_peer *other, *next;

	list_foreach_safe (other, next, &p->acceptor->peers, link) {
		if (other == p || !other->begun || strcmp(other->name, p->name) != 0)
			continue;
		rpc_call_set_ops(other->call, NULL, NULL);
		refuse(other, RPC_ABORTED, "the agent has come back");
		end_peer(other, "the agent has come back");
	}
}

static void begin(struct tunnel_peer *p)
{
	Micropod__Tunnel__V1__ServerCommand command = MICROPOD__TUNNEL__V1__SERVER_COMMAND__INIT;
	Micropod__Tunnel__V1__Welcome welcome = MICROPOD__TUNNEL__V1__WELCOME__INIT;
	struct tunnel_acceptor *a = p->acceptor;

	end_namesake(p);
	random_bytes(p->credential, sizeof(p->credential));
	p->begun = true;
	welcome.credential = (ProtobufCBinaryData){ sizeof(p->credential), p->credential };
	welcome.parked_streams = a->parked;
	command.kind_case = MICROPOD__TUNNEL__V1__SERVER_COMMAND__KIND_WELCOME;
	command.welcome = &welcome;
	send_command(p, &command);
	loop_timer_arm(a->loop, &p->timer, deadline_in(TUNNEL_HEARTBEAT), on_heartbeat);
	a->ops->begun(a->arg, p, p->credential);
}

static void on_hello(struct tunnel_peer *p, const Micropod__Tunnel__V1__Hello *hello)
{
	struct err err = ERR_INIT;
	int r;

	if (p->begun || !hello->token.len == !hello->credential.len ||
		hello->token.len > LIMIT_TUNNEL_SECRET ||
		hello->credential.len > LIMIT_TUNNEL_SECRET) {
		refuse(p, RPC_INVALID_ARGUMENT, "this is no Hello");
		return;
	}
	r = p->acceptor->ops->enrol(p->acceptor->arg, hello, p->name, &err);
	if (r < 0)
		refuse(p, r == -EAGAIN ? RPC_UNAVAILABLE : RPC_UNAUTHENTICATED, err.msg);
	else
		begin(p);
}

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Tunnel__V1__AgentEvent *event =
		(const Micropod__Tunnel__V1__AgentEvent *)msg;
	struct tunnel_peer *p = arg;

	p->heard = clock_monotonic();
	if (event->kind_case == MICROPOD__TUNNEL__V1__AGENT_EVENT__KIND_HELLO)
		on_hello(p, event->hello);
	else if (!p->begun)
		refuse(p, RPC_INVALID_ARGUMENT, "the first event is a Hello");
}

static void on_end(struct rpc_call *call, void *arg)
{
	rpc_call_finish_code(call, RPC_OK, "%s", "");
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct tunnel_peer *p = arg;

	end_peer(p, status->code == RPC_OK	    ? "the agent has left"
		    : status->code == RPC_CANCELLED ? "the agent is silent"
						    : status->message);
}

static const struct rpc_call_ops register_ops = {
	.message = on_event, .end = on_end, .done = on_done
};

static void open_register(struct rpc_call *call, void *arg)
{
	struct tunnel_acceptor *a = arg;
	struct tunnel_peer *p = a->n_peers < LIMIT_TUNNEL_PEERS ? calloc(1, sizeof(*p)) : NULL;

	if (!p || loop_timer_arm(a->loop, &p->timer, deadline_in(HELLO_TIME), on_no_hello) < 0) {
		free(p);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "too many agents");
		return;
	}
	p->acceptor = a;
	p->call = rpc_call_ref(call);
	p->heard = clock_monotonic();
	list_init(&p->links);
	list_add_tail(&a->peers, &p->link);
	a->n_peers++;
	rpc_call_set_ops(call, &register_ops, p);
}

/* Streams */

static struct tunnel_peer *find_peer(
	const struct tunnel_acceptor *a, const void *credential, size_t len)
{
	struct tunnel_peer *p;

	if (len != TUNNEL_CREDENTIAL_SIZE)
		return NULL;
	list_foreach (p, &a->peers, link)
		if (p->begun && secret_equal(p->credential, credential, len))
			return p;
	return NULL;
}

static bool has_room(const struct tunnel_peer *p)
{
	const struct list *l;
	unsigned n = 0;

	for (l = p->links.next; l != &p->links; l = l->next)
		n++;
	return n < LIMIT_TUNNEL_LINKS;
}

static void open_serve(struct rpc_call *call, void *arg)
{
	struct tunnel_acceptor *a = arg;
	size_t len = 0;
	const void *credential = rpc_call_peer_metadata(call, "micropod-credential-bin", 0, &len);
	struct tunnel_peer *p = credential ? find_peer(a, credential, len) : NULL;
	struct tunnel_link *link;

	if (!p) {
		rpc_call_finish_code(call, RPC_UNAUTHENTICATED,
			"the credential is missing, wrong, or of a session that has ended");
		return;
	}
	if (!has_room(p) || tunnel_link_new(a->loop, call, false, &link) < 0) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "too many streams");
		return;
	}
	list_add_tail(&p->links, &link->member);
	rpc_call_send_headers(call);
	a->ops->stream(a->arg, p, &link->stream);
}

static const struct rpc_method methods[] = {
	{ .name = "Register",
		.in = &micropod__tunnel__v1__agent_event__descriptor,
		.out = &micropod__tunnel__v1__server_command__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = open_register },
	{ .name = "Serve",
		.in = &micropod__tunnel__v1__frame__descriptor,
		.out = &micropod__tunnel__v1__frame__descriptor,
		.client_streams = true,
		.server_streams = true,
		.open = open_serve },
};

static const struct rpc_service service = {
	.name = "micropod.tunnel.v1.Tunnel", .methods = methods, .n_methods = ARRAY_SIZE(methods)
};

int tunnel_acceptor_new(struct loop *loop, struct rpc_server *server, unsigned parked,
	const struct tunnel_acceptor_ops *ops, void *arg, struct tunnel_acceptor **ret_acceptor)
{
	struct tunnel_acceptor *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	*a = (struct tunnel_acceptor){ .loop = loop, .parked = parked, .ops = ops, .arg = arg };
	list_init(&a->peers);
	r = rpc_server_add_service(server, &service, NULL, a);
	if (r < 0) {
		free(a);
		return r;
	}
	*ret_acceptor = a;
	return 0;
}

struct tunnel_acceptor *tunnel_acceptor_free(struct tunnel_acceptor *a)
{
	free(a);
	return NULL;
}

const char *tunnel_peer_name(const struct tunnel_peer *peer)
{
	return peer->name;
}

void tunnel_peer_set_data(struct tunnel_peer *peer, void *data)
{
	peer->data = data;
}

void *tunnel_peer_data(const struct tunnel_peer *peer)
{
	return peer->data;
}

void tunnel_peer_open(struct tunnel_peer *peer, unsigned count)
{
	Micropod__Tunnel__V1__ServerCommand command = MICROPOD__TUNNEL__V1__SERVER_COMMAND__INIT;
	Micropod__Tunnel__V1__OpenStreams open = MICROPOD__TUNNEL__V1__OPEN_STREAMS__INIT;

	open.count = count;
	command.kind_case = MICROPOD__TUNNEL__V1__SERVER_COMMAND__KIND_OPEN_STREAMS;
	command.open_streams = &open;
	send_command(peer, &command);
}

void tunnel_peer_refuse(struct tunnel_peer *peer, const char *why)
{
	refuse(peer, RPC_UNAUTHENTICATED, why);
}
