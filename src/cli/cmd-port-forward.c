/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: each connection that is accepted here becomes a Forward call, which the shim passes
 * to the agent; the agent connects to the sandbox's loopback. Also a sandbox without a network
 * device is reached so, and what listens on its loopback only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "cli/boxes.h"
#include "cli/client.h"
#include "cli/ports.h"
#include "io/addr.h"
#include "rpc/pump.h"

#define CONNECTIONS_MAX 500 /* at once; further ones wait to be accepted */

struct forward {
	struct forwarder *forwarder;
	char ip[INET6_ADDRSTRLEN];
	unsigned local, port;
	const char *box; /* borrowed from the spec's copy */
	int fd;
	struct loop_fd src;
};

struct forwarder {
	bool hostless; /* of an agent that dials a server by itself */
	struct client *client;
	struct forward *v;
	size_t n;
	unsigned connections;
	struct loop_signals signals;
	struct err ended;
};

struct connection {
	struct forwarder *forwarder;
	struct rpc_call *call; /* a reference */
	int fd;		       /* until it is connected there */
	struct rpc_pump pump;
};

/* [[IP:]LOCAL:]SANDBOX:PORT */
static int parse(char *s, struct forward *f)
{
	char *colon = strrchr(s, ':');

	if (!colon || parse_uint(colon + 1, 1, 65535, &f->port) < 0)
		return -EINVAL;
	*colon = 0;
	if (ports_take_ip(&s, f->ip) < 0)
		return -EINVAL;
	if (!*f->ip)
		snprintf(f->ip, sizeof(f->ip), "127.0.0.1");
	f->local = f->port;
	colon = strchr(s, ':');
	if (colon) {
		*colon = 0;
		if (parse_uint(s, 0, 65535, &f->local) < 0)
			return -EINVAL;
		s = colon + 1;
	}
	f->box = s;
	return *s ? 0 : -EINVAL;
}

/* One connection */

static void watch_listeners(struct forwarder *fw)
{
	for (size_t i = 0; i < fw->n; i++)
		loop_fd_set(&fw->v[i].src, fw->connections < CONNECTIONS_MAX ? EPOLLIN : 0);
}

static void on_read(struct rpc_pump *pump, const void *data, size_t len)
{
	struct connection *c = container_of(pump, struct connection, pump);
	Micropod__Agent__V1__ForwardRequest req = MICROPOD__AGENT__V1__FORWARD_REQUEST__INIT;

	if (!len) {
		rpc_call_half_close(c->call);
		return;
	}
	req.kind_case = MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_DATA;
	req.data.data = (uint8_t *)data;
	req.data.len = len;
	if (rpc_call_send(c->call, &req.base) < 0)
		rpc_call_cancel(c->call);
}

static void on_over(struct rpc_pump *pump, int error)
{
	struct connection *c = container_of(pump, struct connection, pump);

	/* The listener is told by a reset; otherwise the call ends by itself. */
	if (error)
		rpc_call_cancel(c->call);
}

static const struct rpc_pump_ops pump_ops = { .send = on_read, .over = on_over };

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ForwardEvent *ev =
		(const Micropod__Agent__V1__ForwardEvent *)msg;
	struct connection *c = arg;

	switch (ev->kind_case) {
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_CONNECTED:
		if (c->fd >= 0 && rpc_pump_init(&c->pump, c->forwarder->client->loop,
					  take_fd(&c->fd), call, &pump_ops) < 0)
			rpc_call_cancel(call);
		break;
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_DATA:
		rpc_pump_write(&c->pump, ev->data.data, ev->data.len);
		break;
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_EOF:
		rpc_pump_end(&c->pump);
		break;
	default:
		break; /* of a newer agent */
	}
}

static void on_writable(struct rpc_call *call, void *arg)
{
	struct connection *c = arg;

	rpc_pump_writable(&c->pump);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct connection *c = arg;
	struct err err = ERR_INIT;

	if (status->code != RPC_OK && status->code != RPC_CANCELLED &&
		status->code != RPC_UNAVAILABLE) {
		client_failure(status, c->forwarder->client->name, &err);
		cli_complain(&err);
	}
	if (status->code != RPC_OK)
		rpc_pump_reset(&c->pump);
	rpc_pump_deinit(&c->pump);
	safe_close(c->fd);
	c->forwarder->connections--;
	watch_listeners(c->forwarder);
	rpc_call_unref(c->call);
	free(c);
}

static const struct rpc_call_ops forward_ops = {
	.message = on_event, .writable = on_writable, .done = on_done
};

static int connect_to(struct forwarder *fw, unsigned port, int fd)
{
	Micropod__Agent__V1__ForwardRequest req = MICROPOD__AGENT__V1__FORWARD_REQUEST__INIT;
	Micropod__Agent__V1__ForwardTarget target = MICROPOD__AGENT__V1__FORWARD_TARGET__INIT;
	struct rpc_call_opts opts = { .retry = RPC_RETRY_UNSENT };
	struct connection *c = calloc(1, sizeof(*c));
	struct rpc_call *call;

	if (!c || rpc_channel_call(fw->client->channel, AGENT_METHOD("Forward"),
			  &micropod__agent__v1__forward_event__descriptor, &opts, &forward_ops, c,
			  &call) < 0) {
		free(c);
		return -ENOMEM;
	}
	c->forwarder = fw;
	c->call = rpc_call_ref(call);
	c->fd = fd;
	fw->connections++;
	watch_listeners(fw);
	target.container_id = fw->client->container;
	target.port = port;
	req.kind_case = MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_TARGET;
	req.target = &target;
	rpc_call_send(call, &req.base);
	rpc_call_start(call);
	return 0;
}

static void on_accept(struct loop_fd *src, uint32_t events)
{
	struct forward *f = container_of(src, struct forward, src);
	int fd = addr_accept(f->fd), r = 0;

	/* EAGAIN: it has gone again. */
	if (fd < 0 && fd != -EAGAIN && fd != -ECONNABORTED)
		r = fd;
	if (fd >= 0)
		r = connect_to(f->forwarder, f->port, fd);
	if (r < 0) {
		if (fd >= 0)
			safe_close(fd);
		err_errno(&f->forwarder->ended, -r, "cannot take a connection to %s:%u", f->ip,
			f->local);
		loop_stop(f->forwarder->client->loop, EXIT_MICROPOD);
	}
}

/* All of them */

static void on_sandbox_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct forwarder *fw = arg;

	if (status->code == RPC_OK)
		err_set(&fw->ended, ESRCH, "sandbox '%s' has ended", fw->client->name);
	else
		client_failure(status, fw->client->name, &fw->ended);
	loop_stop(fw->client->loop, EXIT_MICROPOD);
}

static void on_sandbox_exit(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	/* Whatever its code: done says the rest. */
}

/* There is nothing to forward to any more once it is answered. An agent without a host has no shim
 * that knows: its own program's end is the sandbox'. */
static int await_end(struct forwarder *fw)
{
	static const struct rpc_call_ops ops = { .message = on_sandbox_exit,
		.done = on_sandbox_done };
	Micropod__Sandbox__V1__WaitRequest req = MICROPOD__SANDBOX__V1__WAIT_REQUEST__INIT;
	Micropod__Agent__V1__WaitRequest agent_req = MICROPOD__AGENT__V1__WAIT_REQUEST__INIT;
	struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };
	struct rpc_call *call;
	int r = rpc_channel_call(fw->client->channel,
		fw->hostless ? AGENT_METHOD("Wait") : SANDBOX_METHOD("Wait"),
		fw->hostless ? &micropod__agent__v1__wait_response__descriptor
			     : &micropod__sandbox__v1__wait_response__descriptor,
		&opts, &ops, fw, &call);

	if (r < 0)
		return r;
	agent_req.container_id = fw->client->container;
	rpc_call_send(call, fw->hostless ? &agent_req.base : &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
	return 0;
}

static int listen_at(struct forward *f, struct err *err)
{
	bool v6 = strchr(f->ip, ':');
	struct sockaddr_storage bound = { 0 };
	socklen_t len = sizeof(bound);
	struct addr addr;
	char text[128];
	int r;

	snprintf(text, sizeof(text), v6 ? "tcp:[%s]:%u" : "tcp:%s:%u", f->ip, f->local);
	r = addr_parse(text, &addr, err);
	if (r == 0) {
		f->fd = addr_listen(&addr, 0, err);
		r = f->fd < 0 ? f->fd : 0;
	}
	if (r < 0)
		return r;
	if (getsockname(f->fd, (struct sockaddr *)&bound, &len) == 0)
		f->local = ntohs(v6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
				    : ((struct sockaddr_in *)&bound)->sin_port);
	r = loop_fd_add(f->forwarder->client->loop, &f->src, f->fd, EPOLLIN, on_accept);
	if (r < 0)
		return err_errno(err, -r, "cannot wait for connections to %s", text);
	printf(v6 ? "[%s]:%u -> %s:%u\n" : "%s:%u -> %s:%u\n", f->ip, f->local,
		f->forwarder->client->name, f->port);
	return 0;
}

static void on_signal(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	struct forwarder *fw = container_of(sigs, struct forwarder, signals);

	loop_stop(fw->client->loop, 128 + (int)info->ssi_signo);
}

static int forward(struct forwarder *fw, struct err *err)
{
	sigset_t mask;
	int r = 0;

	for (size_t i = 0; i < fw->n && r == 0; i++)
		r = listen_at(&fw->v[i], err);
	if (r < 0)
		return r;
	fflush(stdout);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	r = loop_signals_add(fw->client->loop, &fw->signals, &mask, on_signal);
	if (r == 0)
		r = await_end(fw);
	if (r < 0)
		return err_errno(err, -r, "cannot forward ports of '%s'", fw->client->name);
	r = loop_run(fw->client->loop);
	if (fw->ended.code)
		*err = fw->ended;
	return r;
}

/* Words to forwards of one sandbox, which is loaded. specs keeps the words apart. */
static int take(struct cli *cli, const char **words, struct forwarder *fw, struct strv *specs,
	struct sandbox *box, struct err *err)
{
	char id[ID_LEN + 1], other[ID_LEN + 1];
	int r = 0;

	for (size_t i = 0; i < fw->n; i++)
		if (strv_add(specs, words[i]) < 0)
			return err_errno(err, ENOMEM, "cannot keep the ports");
	for (size_t i = 0; i < fw->n && r == 0; i++) {
		struct forward *f = &fw->v[i];

		if (parse(specs->v[i], f) < 0)
			return err_set(err, EINVAL,
				"'%s' is no port to forward: give [[IP:]LOCAL:]SANDBOX:PORT, such "
				"as 8080:web:80",
				words[i]);
		r = boxes_find(cli, f->box, i ? other : id, err);
		if (r == 0 && i && strcmp(id, other) != 0)
			r = err_set(err, EINVAL,
				"'%s' and '%s' are two sandboxes: forward ports of one at a time",
				fw->v[0].box, f->box);
	}
	return r < 0 ? r : target_load(cli, fw->v[0].box, box, err);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	auto_strv struct strv specs = STRV_INIT;
	auto_free struct forward *v = calloc(n, sizeof(*v));
	auto_client struct client client = { 0 };
	struct forwarder fw = { .client = &client, .v = v, .n = n };
	int r;

	if (!v)
		return err_errno(err, ENOMEM, "cannot keep the ports");
	for (size_t i = 0; i < n; i++) {
		v[i].forwarder = &fw;
		v[i].fd = -1;
	}
	r = take(cli, words, &fw, &specs, &box, err);
	fw.hostless = cli->remote && r == 0 && !*remote_host(cli->remote, box.config.id);
	if (r == 0)
		r = client_open(cli, &box, &client, err);
	if (r == 0)
		r = forward(&fw, err);
	/* Connections end before what they came from. */
	client.channel = rpc_channel_free(client.channel);
	for (size_t i = 0; i < n; i++) {
		loop_fd_remove(&v[i].src);
		safe_close(v[i].fd);
	}
	loop_signals_remove(&fw.signals);
	return r;
}

const struct verb verb_port_forward = {
	.name = "port-forward",
	.remote = VERB_HERE,
	.usage = "[[IP:]LOCAL:]SANDBOX:PORT...",
	.summary = "Reach ports of a running sandbox by ports here",
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
