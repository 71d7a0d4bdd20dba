/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports of a VM without a network: we listen, and each connection becomes a Forward call
 * to the agent, which connects to the container's loopback. TCP only. Who comes before the
 * container runs waits to be accepted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.desc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "io/addr.h"
#include "net/publish.h"
#include "rpc/pump.h"
#include "shim/vm.h"

struct door {
	struct shim_publish *publish;
	int fd;
	struct loop_fd src;
	unsigned guest;
};

struct shim_publish {
	struct shim *shim;
	struct door *doors;
	size_t n;
	bool open;   /* the container runs */
	bool closed; /* it goes with the last visitor */
	struct list visitors;
	unsigned n_visitors;
};

struct visitor {
	struct list link;
	struct shim_publish *publish;
	struct rpc_call *call; /* a reference */
	int fd;		       /* until it is connected there */
	struct rpc_pump pump;
};

/* ---- one connection ---- */

static void watch_doors(struct shim_publish *p)
{
	for (size_t i = 0; i < p->n; i++)
		loop_fd_set(&p->doors[i].src,
			p->open && p->n_visitors < LIMIT_NET_RELAYS ? EPOLLIN : 0);
}

static void free_if_over(struct shim_publish *p)
{
	if (!p->closed || p->n_visitors)
		return;
	free(p->doors);
	free(p);
}

static void on_read(struct rpc_pump *pump, const void *data, size_t len)
{
	struct visitor *v = container_of(pump, struct visitor, pump);
	Micropod__Agent__V1__ForwardRequest req = MICROPOD__AGENT__V1__FORWARD_REQUEST__INIT;

	if (!len) {
		rpc_call_half_close(v->call);
		return;
	}
	req.kind_case = MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_DATA;
	req.data.data = (uint8_t *)data;
	req.data.len = len;
	if (rpc_call_send(v->call, &req.base) < 0)
		rpc_call_cancel(v->call);
}

static void on_over(struct rpc_pump *pump, int error)
{
	struct visitor *v = container_of(pump, struct visitor, pump);

	/* The listener is told by a reset; otherwise the call ends by itself. */
	if (error)
		rpc_call_cancel(v->call);
}

static const struct rpc_pump_ops pump_ops = { .send = on_read, .over = on_over };

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ForwardEvent *ev =
		(const Micropod__Agent__V1__ForwardEvent *)msg;
	struct visitor *v = arg;

	switch (ev->kind_case) {
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_CONNECTED:
		if (v->fd >= 0 && rpc_pump_init(&v->pump, v->publish->shim->loop, take_fd(&v->fd),
					  call, &pump_ops) < 0)
			rpc_call_cancel(call);
		break;
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_DATA:
		rpc_pump_write(&v->pump, ev->data.data, ev->data.len);
		break;
	case MICROPOD__AGENT__V1__FORWARD_EVENT__KIND_EOF:
		rpc_pump_end(&v->pump);
		break;
	default:
		break; /* of a newer agent */
	}
}

static void on_writable(struct rpc_call *call, void *arg)
{
	struct visitor *v = arg;

	rpc_pump_writable(&v->pump);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct visitor *v = arg;

	if (status->code != RPC_OK)
		rpc_pump_reset(&v->pump);
	rpc_pump_deinit(&v->pump);
	safe_close(v->fd);
	list_remove(&v->link);
	v->publish->n_visitors--;
	watch_doors(v->publish);
	free_if_over(v->publish);
	rpc_call_unref(v->call);
	free(v);
}

static const struct rpc_call_ops forward_ops = {
	.message = on_event, .writable = on_writable, .done = on_done
};

/* fd is taken in every case. */
static void receive(struct shim_publish *p, unsigned port, int fd)
{
	Micropod__Agent__V1__ForwardRequest req = MICROPOD__AGENT__V1__FORWARD_REQUEST__INIT;
	Micropod__Agent__V1__ForwardTarget target = MICROPOD__AGENT__V1__FORWARD_TARGET__INIT;
	const struct rpc_call_opts opts = { .retry = RPC_RETRY_NEVER };
	struct visitor *v = calloc(1, sizeof(*v));
	struct rpc_call *call;

	if (!v || !p->shim->agent ||
		rpc_channel_call(p->shim->agent, "/micropod.agent.v1.Agent/Forward",
			&micropod__agent__v1__forward_event__descriptor, &opts, &forward_ops, v,
			&call) < 0) {
		safe_close(fd);
		free(v);
		return;
	}
	v->publish = p;
	v->call = rpc_call_ref(call);
	v->fd = fd;
	list_add_tail(&p->visitors, &v->link);
	p->n_visitors++;
	watch_doors(p);
	target.container_id = (char *)sandbox_container_id(&p->shim->box.config);
	target.port = port;
	req.kind_case = MICROPOD__AGENT__V1__FORWARD_REQUEST__KIND_TARGET;
	req.target = &target;
	rpc_call_send(call, &req.base);
	rpc_call_start(call);
}

static void on_accept(struct loop_fd *src, uint32_t events)
{
	struct door *d = container_of(src, struct door, src);
	int fd = addr_accept(d->fd);

	if (fd >= 0)
		receive(d->publish, d->guest, fd);
}

/* ---- all of them ---- */

static int bound_port(int fd)
{
	struct sockaddr_storage bound = { 0 };
	socklen_t len = sizeof(bound);

	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
		return -errno;
	return ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
						 : ((struct sockaddr_in *)&bound)->sin_port);
}

/* An empty address: all, by a socket for both families where the host has IPv6. */
static int listen_at(struct net_port *port, struct err *err)
{
	static const char *const everywhere[] = { "::", "0.0.0.0" };
	bool all = !port->host_ip[0];
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < (all ? ARRAY_SIZE(everywhere) : 1); i++) {
		const char *ip = all ? everywhere[i] : port->host_ip;
		struct err why = ERR_INIT;
		struct addr addr;
		char text[80];

		snprintf(text, sizeof(text), strchr(ip, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u", ip,
			port->host);
		fd = addr_parse(text, &addr, &why);
		if (fd == 0)
			fd = addr_listen(&addr, 0, &why);
		if (fd < 0 && why.code != EAFNOSUPPORT && why.code != EADDRNOTAVAIL)
			break;
	}
	return fd < 0 ? publish_error(port, -fd, err) : fd;
}

static int open_door(struct shim_publish *p, struct net_port *port, struct err *err)
{
	struct door *d = &p->doors[p->n];
	int r;

	if (port->udp)
		return err_set(err, ENOTSUP,
			"port %u/udp cannot be published without a network: only TCP goes by the "
			"agent",
			port->guest);
	d->fd = listen_at(port, err);
	if (d->fd < 0)
		return d->fd;
	d->publish = p;
	d->guest = port->guest;
	p->n++;
	r = bound_port(d->fd);
	if (r > 0) {
		port->host = (uint16_t)r;
		r = loop_fd_add(p->shim->loop, &d->src, d->fd, 0, on_accept);
	}
	return r < 0 ? err_errno(err, -r, "cannot publish port %u", port->guest) : 0;
}

int shim_publish(struct shim *shim, struct net_port *ports, size_t n, struct err *err)
{
	struct shim_publish *p = calloc(1, sizeof(*p));
	int r = 0;

	if (p)
		p->doors = calloc(n + 1, sizeof(*p->doors));
	if (!p || !p->doors) {
		free(p);
		return err_errno(err, ENOMEM, "cannot publish ports");
	}
	p->shim = shim;
	list_init(&p->visitors);
	shim->publish = p;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = open_door(p, &ports[i], err);
	return r;
}

void shim_publish_open(struct shim *shim)
{
	if (!shim->publish)
		return;
	shim->publish->open = true;
	watch_doors(shim->publish);
}

void shim_unpublish(struct shim *shim)
{
	struct shim_publish *p = shim->publish;
	struct visitor *v;

	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		loop_fd_remove(&p->doors[i].src);
		safe_close(p->doors[i].fd);
	}
	p->n = 0;
	p->closed = true;
	shim->publish = NULL;
	list_foreach (v, &p->visitors, link)
		rpc_call_cancel(v->call);
	free_if_over(p);
}
