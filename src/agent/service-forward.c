/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward: a connection to what listens on the loopback of the sandbox. A container has the
 * agent's network, so the agent itself connects.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "io/addr.h"
#include "rpc/pump.h"

struct forward {
	struct rpc_call *call; /* a reference */
	struct agent *agent;
	uint16_t port; /* 0: not told yet */
	int family;    /* of the attempt */
	int fd;	       /* while it connects; -1 otherwise */
	struct loop_fd src;
	struct rpc_pump pump; /* once it is connected */
	bool connected, over;
};

static void send_event(struct forward *f, API(ForwardEvent) * event)
{
	struct err err = ERR_INIT;
	int r = rpc_call_send(f->call, &event->base);

	if (r < 0 && r != -EPIPE) {
		err_errno(&err, -r, "cannot send what the connection gave");
		rpc_call_finish_err(f->call, &err);
	}
}

static void on_read(struct rpc_pump *pump, const void *data, size_t len)
{
	struct forward *f = container_of(pump, struct forward, pump);
	API(ForwardEvent) event = MICROPOD__AGENT__V1__FORWARD_EVENT__INIT;

	if (len) {
		event.kind_case = MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_DATA;
		event.data = (ProtobufCBinaryData){ len, (uint8_t *)data };
	} else {
		event.kind_case = MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_EOF;
		event.eof = true;
	}
	send_event(f, &event);
}

static void on_over(struct rpc_pump *pump, int error)
{
	struct forward *f = container_of(pump, struct forward, pump);

	f->over = true;
	if (error)
		rpc_call_finish_code(f->call, RPC_ABORTED, "the connection to port %u broke: %s",
			f->port, strerror(error));
	else
		rpc_call_finish_code(f->call, RPC_OK, "%s", "");
}

static const struct rpc_pump_ops pump_ops = { .send = on_read, .over = on_over };

static void refuse(struct forward *f, int error)
{
	bool nobody = error == ECONNREFUSED;

	f->over = true;
	reply_error(f->call, nobody ? FAILURE_NOT_FOUND : FAILURE_UNKNOWN, error, "port", "",
		"cannot connect to port %u: %s", f->port,
		nobody ? "nothing listens there" : strerror(error));
}

static void connected(struct forward *f)
{
	API(ForwardEvent) event = MICROPOD__AGENT__V1__FORWARD_EVENT__INIT;
	API(Connected) nothing = MICROPOD__AGENT__V1__CONNECTED__INIT;
	int r;

	event.kind_case = MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_CONNECTED;
	event.connected = &nothing;
	send_event(f, &event);
	f->connected = true;
	r = rpc_pump_init(&f->pump, f->agent->loop, take_fd(&f->fd), f->call, &pump_ops);
	rpc_call_resume(f->call);
	if (r < 0)
		refuse(f, -r);
}

static void attempt(struct forward *f, int family);

static void attempt_failed(struct forward *f, int error)
{
	loop_fd_remove(&f->src);
	f->fd = safe_close(f->fd);
	/* Many listen on one of the two only. Where neither answers, the IPv4 one has refused: an
	 * error of the other may only say that there is no IPv6. */
	if (f->family == AF_INET && error == ECONNREFUSED) {
		attempt(f, AF_INET6);
		return;
	}
	rpc_call_resume(f->call);
	refuse(f, f->family == AF_INET6 ? ECONNREFUSED : error);
}

static void on_connect(struct loop_fd *src, uint32_t events)
{
	struct forward *f = container_of(src, struct forward, src);
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		attempt_failed(f, error);
		return;
	}
	loop_fd_remove(&f->src);
	connected(f);
}

static void attempt(struct forward *f, int family)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons(f->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_port = htons(f->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	bool v4 = family == AF_INET;
	int r = 0;

	f->family = family;
	f->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (f->fd >= 0)
		addr_send_at_once(f->fd);
	if (f->fd < 0 || connect(f->fd, v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
				 v4 ? sizeof(in) : sizeof(in6)) < 0)
		r = -errno;
	if (r == 0)
		connected(f);
	else if (r == -EINPROGRESS &&
		 (r = loop_fd_add(f->agent->loop, &f->src, f->fd, EPOLLOUT, on_connect)) == 0)
		return;
	else
		attempt_failed(f, -r);
}

static void take_target(struct forward *f, const API(ForwardTarget) * target)
{
	if (!container_find(f->agent, target->container_id)) {
		f->over = true;
		reply_error(f->call, FAILURE_NOT_FOUND, ENOENT, "container_id",
			target->container_id, "no container '%s'", target->container_id);
		return;
	}
	if (target->port < 1 || target->port > 65535) {
		f->over = true;
		reply_error(f->call, FAILURE_INVALID, EINVAL, "port", "",
			"a port is a number from 1 to 65535, not %u", target->port);
		return;
	}
	f->port = (uint16_t)target->port;
	/* Until it is connected: what comes already has nowhere to go. */
	rpc_call_pause(f->call);
	attempt(f, AF_INET);
}

static void on_message(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const API(ForwardRequest) *req = (const void *)msg;
	struct forward *f = arg;

	if (f->over)
		return;
	if (req->kind_case == MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_TARGET && !f->port) {
		take_target(f, req->target);
	} else if (req->kind_case == MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_DATA && f->port) {
		rpc_pump_write(&f->pump, req->data.data, req->data.len);
	} else {
		f->over = true;
		rpc_pump_deinit(&f->pump);
		reply_error(call, FAILURE_INVALID, EINVAL, "kind", "",
			"the first message says where to, those behind it are data");
	}
}

static void on_end(struct rpc_call *call, void *arg)
{
	struct forward *f = arg;

	if (f->over)
		return;
	if (f->port) {
		rpc_pump_end(&f->pump);
		return;
	}
	f->over = true;
	reply_error(call, FAILURE_INVALID, EINVAL, "target", "", "no message says where to");
}

static void on_writable(struct rpc_call *call, void *arg)
{
	struct forward *f = arg;

	if (f->connected)
		rpc_pump_writable(&f->pump);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct forward *f = arg;

	loop_fd_remove(&f->src);
	safe_close(f->fd);
	/* A caller that has gone away says so to the listener. */
	if (f->connected && status->code != RPC_OK)
		rpc_pump_reset(&f->pump);
	rpc_pump_deinit(&f->pump);
	rpc_call_unref(f->call);
	free(f);
}

static const struct rpc_call_ops forward_ops = {
	.message = on_message, .end = on_end, .writable = on_writable, .done = on_done
};

void service_forward(struct rpc_call *call, void *agent)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (!f) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return;
	}
	f->call = rpc_call_ref(call);
	f->agent = agent;
	f->fd = -1;
	rpc_call_set_ops(call, &forward_ops, f);
}
