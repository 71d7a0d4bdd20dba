/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/pump.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#define CHUNK 65536 /* read at once, and so the largest message */

static bool live(const struct rpc_pump *p)
{
	return p->ops && p->fd >= 0;
}

static void finish(struct rpc_pump *p, int error)
{
	rpc_pump_deinit(p);
	p->ops->over(p, error);
}

static void on_socket(struct loop_fd *src, uint32_t events);

/*
 * A source that waits for nothing is taken out: epoll tells a hang-up whether one wants it or not,
 * and level-triggered it would be told for as long as the call cannot send.
 */
static int watch(struct rpc_pump *p)
{
	uint32_t events = 0;

	if (!p->read_ended && rpc_call_writable(p->call))
		events |= EPOLLIN;
	if (p->queue.len)
		events |= EPOLLOUT;
	if (!events) {
		loop_fd_remove(&p->src);
		return 0;
	}
	if (p->src.loop) {
		loop_fd_set(&p->src, events);
		return 0;
	}
	return loop_fd_add(p->loop, &p->src, p->fd, events, on_socket);
}

static void go_on(struct rpc_pump *p)
{
	int r;

	if (p->read_ended && p->write_ended) {
		finish(p, 0);
		return;
	}
	r = watch(p);
	if (r < 0)
		finish(p, -r);
}

/* Bytes that the socket took of data, or -errno. */
static ssize_t put(struct rpc_pump *p, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(p->fd, data + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)done;
}

/* Writes what waits, and lets the call go on once it is written. 0, or a positive errno value. */
static int flush(struct rpc_pump *p)
{
	ssize_t n;

	if (!p->queue.len)
		return 0;
	n = put(p, p->queue.data + p->written, p->queue.len - p->written);
	if (n < 0)
		return (int)-n;
	p->written += (size_t)n;
	if (p->written < p->queue.len)
		return 0;
	/* Not kept: most connections are idle most of the time. */
	strbuf_deinit(&p->queue);
	p->written = 0;
	p->held = false;
	rpc_call_resume(p->call);
	return 0;
}

/* 0, or a positive errno value. One chunk a turn: others have their turn too. */
static int fill(struct rpc_pump *p)
{
	char buf[CHUNK];
	ssize_t n;

	if (p->read_ended || !rpc_call_writable(p->call))
		return 0;
	n = recv(p->fd, buf, sizeof(buf), 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : errno;
	p->read_ended = n == 0;
	p->ops->send(p, buf, (size_t)n);
	return 0;
}

static void on_socket(struct loop_fd *src, uint32_t events)
{
	struct rpc_pump *p = container_of(src, struct rpc_pump, src);
	int error = 0;

	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		error = flush(p);
	if (!error && events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		error = fill(p);
	if (error)
		finish(p, error);
	else
		go_on(p);
}

int rpc_pump_init(struct rpc_pump *p, struct loop *loop, int fd, struct rpc_call *call,
	const struct rpc_pump_ops *ops)
{
	int r;

	*p = (struct rpc_pump){ .loop = loop, .fd = fd, .call = call, .ops = ops };
	r = watch(p);
	if (r < 0)
		rpc_pump_deinit(p);
	return r;
}

void rpc_pump_deinit(struct rpc_pump *p)
{
	if (!live(p))
		return;
	loop_fd_remove(&p->src);
	p->fd = safe_close(p->fd);
	strbuf_deinit(&p->queue);
	/* What its peer still sends is dropped, and does not stand in the way of its end. */
	if (p->held)
		rpc_call_resume(p->call);
	p->held = false;
}

void rpc_pump_reset(struct rpc_pump *p)
{
	struct linger now = { .l_onoff = 1 };

	/* socket(7): a close then discards what is queued and sends RST. */
	if (live(p))
		setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	rpc_pump_deinit(p);
}

void rpc_pump_write(struct rpc_pump *p, const void *data, size_t len)
{
	ssize_t n;

	if (!live(p) || p->write_ended)
		return;
	/* A paused call hands nothing over, its end included. */
	assert(!p->queue.len);
	n = put(p, data, len);
	if (n >= 0 && (size_t)n < len) {
		strbuf_add(&p->queue, (const char *)data + n, len - (size_t)n);
		if (strbuf_error(&p->queue) < 0)
			n = -ENOMEM;
		p->held = true;
		rpc_call_pause(p->call);
	}
	if (n < 0)
		finish(p, (int)-n);
	else
		go_on(p);
}

void rpc_pump_end(struct rpc_pump *p)
{
	if (!live(p) || p->write_ended)
		return;
	assert(!p->queue.len);
	p->write_ended = true;
	/* ENOTCONN: it has left already, which reading tells. */
	if (shutdown(p->fd, SHUT_WR) < 0 && errno != ENOTCONN)
		finish(p, errno);
	else
		go_on(p);
}

void rpc_pump_writable(struct rpc_pump *p)
{
	if (live(p))
		go_on(p);
}
