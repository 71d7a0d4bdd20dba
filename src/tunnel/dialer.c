/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: one attempt is one connection with one Register call. While that lives there is a
 * session; its end ends the connection, and with it all streams. The next attempt comes after a
 * random time below a bound that doubles (full jitter), so that many agents do not come back to a
 * restarted server at once. A stream is parked until the server's first byte, and then given to the
 * rpc_server, and another is parked in its place.
 */
#include "tunnel/dialer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/limits.h"
#include "rpc/client.h"
#include "tunnel.pb-c.h"
#include "tunnel/acceptor.h"
#include "tunnel/link.h"

#define SERVICE	      "/micropod.tunnel.v1.Tunnel/"
#define BACKOFF_FIRST (100 * NSEC_PER_MSEC)
#define BACKOFF_MAX   (30 * NSEC_PER_SEC)
#define BACKOFF_NEAR  (1 * NSEC_PER_SEC)  /* the same on this host, where to try costs nothing */
#define HELLO_TIME    (10 * NSEC_PER_SEC) /* for the Welcome */

#if defined(__x86_64__)
#define ARCH "amd64"
#elif defined(__aarch64__)
#define ARCH "arm64"
#else
#define ARCH ""
#endif

struct secret {
	uint8_t data[LIMIT_TUNNEL_SECRET];
	size_t len;
};

struct tunnel_dialer {
	struct loop *loop;
	struct tunnel_dialer_opts opts;
	struct secret token, credential;
	struct rpc_channel *channel; /* of this attempt; NULL between two */
	struct rpc_call *control;    /* a reference */
	bool connected;
	char why[LIMIT_ERR_MESSAGE]; /* this attempt ends, if we have ended it */
	unsigned failures;	     /* in a row */
	struct loop_timer timer; /* the Welcome's deadline, the heartbeat, or the next attempt */
	struct loop_defer again; /* the attempt is over */
	int64_t heard;
	struct list links; /* parked and used */
	unsigned parked, wanted;
	struct loop_timer leave_timer;
	void (*left)(void *arg);
	void *left_arg;
};

struct parked {
	struct tunnel_dialer *dialer;
	struct tunnel_link *link;
};

static void wipe(struct secret *secret)
{
	explicit_bzero(secret, sizeof(*secret));
}

static void attempt(struct tunnel_dialer *d);
static void forget_name(struct tunnel_dialer *d);

/* Streams */

static void park(struct tunnel_dialer *d);

static void on_parked(void *arg, uint32_t events)
{
	struct parked *p = arg;
	struct tunnel_dialer *d = p->dialer;
	struct io_stream *stream = &p->link->stream;
	bool used = p->link->in.len > 0;

	free(p);
	d->parked--;
	io_stream_want(stream, 0);
	stream->on_event = NULL;
	/* What cannot be served is closed; either way another is parked. */
	if (used)
		rpc_server_add_stream(d->opts.server, stream, NULL);
	else
		io_stream_free(stream);
	if (used && d->connected && !d->left)
		park(d);
}

static void park_one(struct tunnel_dialer *d)
{
	struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };
	struct parked *p = calloc(1, sizeof(*p));
	struct rpc_call *call = NULL;

	if (!p || rpc_channel_call(d->channel, SERVICE "Serve",
			  &micropod__tunnel__v1__frame__descriptor, &opts, NULL, NULL, &call) < 0) {
		free(p);
		return;
	}
	rpc_call_add_metadata(
		call, "micropod-credential-bin", d->credential.data, d->credential.len);
	if (tunnel_link_new(d->loop, call, true, &p->link) < 0) {
		free(p);
		rpc_call_cancel(call);
		return;
	}
	p->dialer = d;
	p->link->stream.on_event = on_parked;
	p->link->stream.arg = p;
	list_add_tail(&d->links, &p->link->member);
	d->parked++;
	rpc_call_start(call);
	io_stream_want(&p->link->stream, EPOLLIN);
}

static unsigned count_links(const struct tunnel_dialer *d)
{
	const struct list *l;
	unsigned n = 0;

	for (l = d->links.next; l != &d->links; l = l->next)
		n++;
	return n;
}

/* As many as are wanted, and may be. */
static void park(struct tunnel_dialer *d)
{
	unsigned all = count_links(d);

	for (; d->parked < d->wanted && all < LIMIT_TUNNEL_LINKS; all++)
		park_one(d);
}

/* The session */

static void on_again(struct loop_defer *defer);

/* From any callback: what belongs to the attempt is freed from the loop. */
static void end_attempt(struct tunnel_dialer *d, const char *why)
{
	if (!d->why[0])
		snprintf(d->why, sizeof(d->why), "%s", why);
	loop_defer_queue(d->loop, &d->again, on_again);
}

static void send_event(struct tunnel_dialer *d, const Micropod__Tunnel__V1__AgentEvent *event)
{
	int r = rpc_call_send(d->control, &event->base);

	/* A connection that takes nothing for so long is dead. */
	if (r < 0)
		end_attempt(d, strerror(-r));
}

static void on_heartbeat(struct loop_timer *timer)
{
	struct tunnel_dialer *d = container_of(timer, struct tunnel_dialer, timer);
	Micropod__Tunnel__V1__AgentEvent event = MICROPOD__TUNNEL__V1__AGENT_EVENT__INIT;
	Micropod__Tunnel__V1__Heartbeat beat = MICROPOD__TUNNEL__V1__HEARTBEAT__INIT;

	if (clock_monotonic() - d->heard >= TUNNEL_SILENCE) {
		end_attempt(d, "the server is silent");
		return;
	}
	event.kind_case = MICROPOD__TUNNEL__V1__AGENT_EVENT__KIND_HEARTBEAT;
	event.heartbeat = &beat;
	send_event(d, &event);
	loop_timer_arm(d->loop, timer, deadline_in(TUNNEL_HEARTBEAT), on_heartbeat);
}

static void on_welcome(struct tunnel_dialer *d, const Micropod__Tunnel__V1__Welcome *welcome)
{
	if (d->connected || !welcome->credential.len ||
		welcome->credential.len > LIMIT_TUNNEL_SECRET) {
		end_attempt(d, "the server has sent a Welcome that is none");
		return;
	}
	memcpy(d->credential.data, welcome->credential.data, welcome->credential.len);
	d->credential.len = welcome->credential.len;
	if (!d->opts.keep_token)
		wipe(&d->token);
	d->connected = true;
	d->failures = 0;
	d->wanted = MIN(MAX(welcome->parked_streams, 1U), (unsigned)LIMIT_TUNNEL_LINKS);
	loop_timer_arm(d->loop, &d->timer, deadline_in(TUNNEL_HEARTBEAT), on_heartbeat);
	if (d->opts.changed)
		d->opts.changed(d->opts.arg, NULL);
	park(d);
}

static void on_command(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Tunnel__V1__ServerCommand *command =
		(const Micropod__Tunnel__V1__ServerCommand *)msg;
	struct tunnel_dialer *d = arg;

	d->heard = clock_monotonic();
	if (command->kind_case == MICROPOD__TUNNEL__V1__SERVER_COMMAND__KIND_WELCOME) {
		on_welcome(d, command->welcome);
	} else if (command->kind_case == MICROPOD__TUNNEL__V1__SERVER_COMMAND__KIND_OPEN_STREAMS &&
		   d->connected && !d->left) {
		d->wanted = (unsigned)MIN(
			(uint64_t)d->parked + command->open_streams->count, LIMIT_TUNNEL_LINKS);
		park(d);
	}
}

static void on_control_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct tunnel_dialer *d = arg;

	d->control = rpc_call_unref(d->control);
	end_attempt(
		d, status->code == RPC_OK ? "the server has ended the session" : status->message);
}

static const struct rpc_call_ops control_ops = { .message = on_command, .done = on_control_done };

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	const struct tunnel_dialer *d = arg;
	int fd = addr_connect(&d->opts.url.addr, err), r;

	if (fd < 0)
		return fd;
	r = io_stream_new_fd(loop, fd, ret_stream);
	if (r == 0 && d->opts.wrap)
		r = d->opts.wrap(*ret_stream, ret_stream, d->opts.wrap_arg);
	return r < 0 ? err_errno(err, -r, "cannot use the connection") : 0;
}

static int64_t jitter(const struct tunnel_dialer *d)
{
	int64_t most = d->opts.url.addr.kind == ADDR_UNIX ? BACKOFF_NEAR : BACKOFF_MAX;
	int64_t bound = MIN(BACKOFF_FIRST << MIN(d->failures, 16U), most);
	uint64_t random;

	random_bytes(&random, sizeof(random));
	return (int64_t)(random % (uint64_t)bound);
}

static void on_next(struct loop_timer *timer)
{
	attempt(container_of(timer, struct tunnel_dialer, timer));
}

static void on_left(struct loop_timer *timer)
{
	struct tunnel_dialer *d = container_of(timer, struct tunnel_dialer, leave_timer);
	void (*left)(void *arg) = d->left;

	loop_timer_disarm(&d->leave_timer);
	if (left)
		left(d->left_arg);
}

static void on_again(struct loop_defer *defer)
{
	struct tunnel_dialer *d = container_of(defer, struct tunnel_dialer, again);
	char why[LIMIT_ERR_MESSAGE];

	memcpy(why, d->why, sizeof(why));
	d->connected = false;
	loop_timer_disarm(&d->timer);
	forget_name(d);
	if (d->control) {
		rpc_call_set_ops(d->control, NULL, NULL);
		d->control = rpc_call_unref(d->control);
	}
	/* The streams hear of it here. */
	d->channel = rpc_channel_free(d->channel);
	d->why[0] = 0;
	if (d->left) {
		on_left(&d->leave_timer);
		return;
	}
	if (loop_timer_arm(d->loop, &d->timer, deadline_in(jitter(d)), on_next) == 0)
		d->failures++;
	if (d->opts.changed)
		d->opts.changed(d->opts.arg, why);
}

static void on_no_welcome(struct loop_timer *timer)
{
	end_attempt(container_of(timer, struct tunnel_dialer, timer),
		"the server did not answer in time");
}

static void say_hello(struct tunnel_dialer *d)
{
	Micropod__Tunnel__V1__AgentEvent event = MICROPOD__TUNNEL__V1__AGENT_EVENT__INIT;
	Micropod__Tunnel__V1__Hello hello = MICROPOD__TUNNEL__V1__HELLO__INIT;

	event.kind_case = MICROPOD__TUNNEL__V1__AGENT_EVENT__KIND_HELLO;
	event.hello = &hello;
	if (d->credential.len)
		hello.credential = (ProtobufCBinaryData){ d->credential.len, d->credential.data };
	else
		hello.token = (ProtobufCBinaryData){ d->token.len, d->token.data };
	hello.agent_version = (char *)MICROPOD_VERSION;
	hello.api_generation = d->opts.api_generation;
	hello.arch = (char *)ARCH;
	send_event(d, &event);
}

static void connect_channel(struct tunnel_dialer *d)
{
	struct rpc_channel_opts opts = {
		.dial = dial,
		.arg = d,
		.authority = d->opts.url.authority,
		.no_redial = true,
		.keepalive_interval = TUNNEL_HEARTBEAT,
		.keepalive_timeout = TUNNEL_HEARTBEAT,
		.max_message = TUNNEL_MESSAGE_MAX,
	};
	struct rpc_call_opts call_opts = { .retry = RPC_RETRY_NEVER };
	struct rpc_call *call = NULL;

	d->heard = clock_monotonic();
	if (rpc_channel_new(d->loop, &opts, &d->channel) < 0 ||
		rpc_channel_call(d->channel, SERVICE "Register",
			&micropod__tunnel__v1__server_command__descriptor, &call_opts, &control_ops,
			d, &call) < 0) {
		end_attempt(d, "out of memory");
		return;
	}
	d->control = rpc_call_ref(call);
	loop_timer_arm(d->loop, &d->timer, deadline_in(HELLO_TIME), on_no_welcome);
	say_hello(d);
	rpc_call_start(call);
}

static void on_found(void *arg, int r, const char *address)
{
	struct tunnel_dialer *d = arg;
	struct addr *addr = &d->opts.url.addr;
	char why[LIMIT_ERR_MESSAGE];

	if (r < 0) {
		snprintf(why, sizeof(why), "the name '%s' cannot be looked up: %s",
			d->opts.url.host, strerror(-r));
		end_attempt(d, why);
		return;
	}
	snprintf(addr->host, sizeof(addr->host), "%s", address);
	connect_channel(d);
}

static void on_no_name(struct loop_timer *timer)
{
	end_attempt(container_of(timer, struct tunnel_dialer, timer),
		"the server's name was not found in time");
}

static void attempt(struct tunnel_dialer *d)
{
	const struct tunnel_names *names = &d->opts.names;

	if (!d->opts.url.named) {
		connect_channel(d);
		return;
	}
	loop_timer_arm(d->loop, &d->timer, deadline_in(HELLO_TIME), on_no_name);
	if (names->lookup(names->arg, d->opts.url.host, on_found, d) < 0)
		end_attempt(d, "out of memory");
}

static void forget_name(struct tunnel_dialer *d)
{
	if (d->opts.names.cancel)
		d->opts.names.cancel(d->opts.names.arg);
}

int tunnel_dialer_new(
	struct loop *loop, const struct tunnel_dialer_opts *opts, struct tunnel_dialer **ret_dialer)
{
	struct tunnel_dialer *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->opts = *opts;
	d->token.len = MIN(opts->token_len, (size_t)LIMIT_TUNNEL_SECRET);
	memcpy(d->token.data, opts->token, d->token.len);
	d->opts.token = NULL;
	list_init(&d->links);
	attempt(d);
	*ret_dialer = d;
	return 0;
}

struct tunnel_dialer *tunnel_dialer_free(struct tunnel_dialer *d)
{
	if (!d)
		return NULL;
	loop_defer_cancel(&d->again);
	loop_timer_disarm(&d->timer);
	loop_timer_disarm(&d->leave_timer);
	forget_name(d);
	if (d->control) {
		rpc_call_set_ops(d->control, NULL, NULL);
		d->control = rpc_call_unref(d->control);
	}
	d->channel = rpc_channel_free(d->channel);
	while (!list_empty(&d->links)) {
		struct tunnel_link *link = list_entry(d->links.next, struct tunnel_link, member);

		list_remove(&link->member);
		/* What is used is the server's, which frees it. */
		if (link->stream.on_event == on_parked) {
			free(link->stream.arg);
			io_stream_free(&link->stream);
		}
	}
	wipe(&d->token);
	wipe(&d->credential);
	free(d);
	return NULL;
}

bool tunnel_dialer_connected(const struct tunnel_dialer *d)
{
	return d->connected;
}

void tunnel_dialer_leave(
	struct tunnel_dialer *d, int64_t deadline, void (*done)(void *arg), void *arg)
{
	struct list *l, *next;

	d->left = done;
	d->left_arg = arg;
	loop_timer_disarm(&d->timer);
	loop_timer_arm(
		d->loop, &d->leave_timer, d->connected ? deadline : clock_monotonic(), on_left);
	for (l = d->links.next; l != &d->links; l = next) {
		struct tunnel_link *link = list_entry(l, struct tunnel_link, member);

		next = l->next;
		if (link->stream.on_event == on_parked) {
			free(link->stream.arg);
			io_stream_free(&link->stream);
		}
	}
	/* Behind what the streams have queued. */
	if (d->control)
		rpc_call_half_close(d->control);
}
