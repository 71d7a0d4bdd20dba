/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: what the guest sends is written to the connection's socket straight from its
 * memory; what the socket does not take is kept, within the room that the guest was told of. What
 * is for the guest has its turn in a queue of connections: one packet each, into the buffers that
 * the guest has laid out, read from the socket straight into them, as much as the guest has said
 * it has room for. A connection that can go neither way is in no epoll set, so nothing spins.
 */
#include "vsock/device.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "io/addr.h"
#include "vsock/packet.h"
#include "vsock/vhostuser.h"

enum { RING_RECEIVE, RING_SEND, RINGS }; /* as the guest calls them */

#define BUCKETS	      64
#define TX_BURST      64 /* packets of the guest's in a turn */
#define FIRST_PORT    (1u << 30)
#define GREETING_TIME (10 * NSEC_PER_SEC)
#define GREETING_MAX  32 /* "CONNECT 4294967295\n" */

enum conn_state {
	CONN_GREETING, /* its CONNECT has not come yet */
	CONN_ASKED,    /* the guest has not answered yet */
	CONN_OPEN,
	CONN_DEAD, /* only the guest must be told yet */
};

struct conn {
	struct vsock_device *dev;
	struct list link; /* in a bucket, or among the greeting ones */
	struct list turn;
	bool in_turn;
	enum conn_state state;
	uint32_t host_port, guest_port;
	int fd;
	struct loop_fd src;
	struct loop_timer timer; /* until the greeting */
	char line[GREETING_MAX];
	size_t line_len;
	unsigned owed; /* packets for the guest: bit per enum vsock_op */
	/* To the guest */
	uint32_t peer_alloc, peer_taken, sent;
	bool readable; /* the socket may have something */
	bool ended;    /* it has ended, or the guest wants no more of it */
	/* From the guest */
	uint32_t received, taken, told; /* told: the last `taken` that it was told of */
	uint8_t *buf;
	size_t at, len; /* of what waits in buf */
	bool last;	/* nothing comes behind that */
};

/* The answer to a packet that belongs to no connection. */
struct reset {
	uint32_t host_port, guest_port;
};

struct vsock_device {
	struct loop *loop;
	struct vhost_user *vu;
	struct vsock_device_events events;
	uint64_t cid;
	uint8_t config[8];
	char *path;
	int listen_fd;
	struct loop_fd listen_src;
	struct loop_defer more; /* of the guest's packets */
	struct list buckets[BUCKETS], greeting, turns;
	unsigned n_conns;
	uint32_t next_port;
	struct reset resets[LIMIT_VSOCK_RESETS];
	unsigned n_resets;
};

static void pump(struct vsock_device *dev);
static void on_socket(struct loop_fd *src, uint32_t events);

static struct list *bucket(struct vsock_device *dev, uint32_t host_port, uint32_t guest_port)
{
	return &dev->buckets[(host_port * 31 + guest_port) % BUCKETS];
}

static struct conn *find(struct vsock_device *dev, uint32_t host_port, uint32_t guest_port)
{
	struct conn *c;

	list_foreach (c, bucket(dev, host_port, guest_port), link)
		if (c->host_port == host_port && c->guest_port == guest_port)
			return c;
	return NULL;
}

/* ---- connections ---- */

static void drop_socket(struct conn *c)
{
	loop_fd_remove(&c->src);
	loop_timer_disarm(&c->timer);
	c->fd = safe_close(c->fd);
	free(c->buf);
	c->buf = NULL;
	c->len = 0;
}

static void conn_free(struct conn *c)
{
	drop_socket(c);
	list_remove(&c->link);
	if (c->in_turn)
		list_remove(&c->turn);
	c->dev->n_conns--;
	free(c);
}

/* fd is taken in every case. */
static struct conn *conn_new(struct vsock_device *dev, int fd)
{
	struct conn *c = dev->n_conns < LIMIT_VSOCK_CONNECTIONS ? calloc(1, sizeof(*c)) : NULL;

	if (!c || fd_set_nonblock(fd, true) < 0) {
		safe_close(fd);
		free(c);
		return NULL;
	}
	c->dev = dev;
	c->fd = fd;
	dev->n_conns++;
	return c;
}

static uint32_t credit(const struct conn *c)
{
	uint32_t under_way = c->sent - c->peer_taken;

	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

static bool has_data(const struct conn *c)
{
	return c->state == CONN_OPEN && c->readable && !c->ended && credit(c);
}

static void watch(struct conn *c)
{
	uint32_t events = 0;

	if (c->state == CONN_GREETING)
		events = EPOLLIN;
	else if (c->state == CONN_ASKED)
		events = EPOLLRDHUP;
	else if (c->state == CONN_OPEN)
		events = (!c->readable && !c->ended ? EPOLLIN : 0) | (c->len ? EPOLLOUT : 0);
	if (!events) {
		loop_fd_remove(&c->src);
	} else if (c->src.loop) {
		loop_fd_set(&c->src, events);
	} else if (loop_fd_add(c->dev->loop, &c->src, c->fd, events, on_socket) < 0) {
		c->state = CONN_DEAD;
		c->owed = 1u << VSOCK_RST;
	}
}

/* After every change: what is waited for, and whether the guest is to get something. */
static void update(struct conn *c)
{
	bool wants = false;

	watch(c);
	wants = c->owed || has_data(c);
	if (wants && !c->in_turn)
		list_add_tail(&c->dev->turns, &c->turn);
	else if (!wants && c->in_turn)
		list_remove(&c->turn);
	c->in_turn = wants;
}

static void reset(struct conn *c)
{
	drop_socket(c);
	c->state = CONN_DEAD;
	c->owed = 1u << VSOCK_RST;
	update(c);
}

/* Both sides have said all. */
static bool is_over(const struct conn *c)
{
	return c->last && !c->len && c->ended && !(c->owed & (1u << VSOCK_SHUTDOWN));
}

/* ---- from the guest ---- */

static void took(struct conn *c, size_t n)
{
	c->taken += (uint32_t)n;
	if (c->taken - c->told >= LIMIT_VSOCK_BUFFER / 2)
		c->owed |= 1u << VSOCK_CREDIT_UPDATE;
}

static void end_of_input(struct conn *c)
{
	if (c->last && !c->len)
		shutdown(c->fd, SHUT_WR);
}

/* What was kept goes on. False: the socket takes nothing any more. */
static bool flush(struct conn *c)
{
	while (c->len) {
		ssize_t n = send(c->fd, c->buf + c->at, c->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->at += (size_t)n;
		c->len -= (size_t)n;
		took(c, (size_t)n);
	}
	c->at = 0;
	end_of_input(c);
	return true;
}

static size_t iov_skip(struct iovec **iov, unsigned *n, size_t skip)
{
	while (*n && skip >= (*iov)->iov_len) {
		skip -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + skip;
		(*iov)->iov_len -= skip;
		skip = 0;
	}
	return skip;
}

static size_t iov_read(const struct iovec *iov, unsigned n, void *to, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t piece = MIN(iov[i].iov_len, len - done);

		memcpy((uint8_t *)to + done, iov[i].iov_base, piece);
		done += piece;
	}
	return done;
}

static bool keep(struct conn *c, const struct iovec *iov, unsigned n, size_t len)
{
	if (!c->buf)
		c->buf = malloc(LIMIT_VSOCK_BUFFER);
	if (!c->buf)
		return false;
	if (c->at + c->len + len > LIMIT_VSOCK_BUFFER) {
		memmove(c->buf, c->buf + c->at, c->len);
		c->at = 0;
	}
	c->len += iov_read(iov, n, c->buf + c->at + c->len, len);
	return true;
}

/* len bytes of a packet lie in iov. */
static void take_data(struct conn *c, struct iovec *iov, unsigned n, size_t len)
{
	ssize_t sent = 0;

	/* It was told how much room there is. */
	if (c->last || len > LIMIT_VSOCK_BUFFER - (c->received - c->taken)) {
		reset(c);
		return;
	}
	c->received += (uint32_t)len;
	if (!c->len) {
		const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };

		sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			reset(c);
			return;
		}
		sent = MAX(sent, 0);
		took(c, (size_t)sent);
		iov_skip(&iov, &n, (size_t)sent);
	}
	if (len > (size_t)sent && !keep(c, iov, n, len - (size_t)sent))
		reset(c);
	else
		update(c);
}

static void answer_with_reset(struct vsock_device *dev, const struct vsock_packet *p)
{
	/* A guest that provokes more than it reads does without. */
	if (p->op != VSOCK_RST && dev->n_resets < LIMIT_VSOCK_RESETS)
		dev->resets[dev->n_resets++] = (struct reset){ p->dst_port, p->src_port };
}

/* A socket that is connected to who serves that port of the host, or -errno. */
static int dial_host(struct vsock_device *dev, uint32_t port)
{
	struct addr addr = { .kind = ADDR_UNIX };
	struct err err = ERR_INIT;

	if (snprintf(addr.path, sizeof(addr.path), "%s_%u", dev->path, port) >=
		(int)sizeof(addr.path))
		return -ENAMETOOLONG;
	snprintf(addr.text, sizeof(addr.text), "unix:%.240s", addr.path);
	return addr_connect(&addr, &err);
}

static void on_request(struct vsock_device *dev, const struct vsock_packet *p)
{
	int fd = dial_host(dev, p->dst_port);
	struct conn *c = fd < 0 ? NULL : conn_new(dev, fd);

	if (!c) {
		answer_with_reset(dev, p);
		return;
	}
	c->host_port = p->dst_port;
	c->guest_port = p->src_port;
	list_add_tail(bucket(dev, c->host_port, c->guest_port), &c->link);
	c->state = CONN_OPEN;
	c->peer_alloc = p->buf_alloc;
	c->peer_taken = p->fwd_cnt;
	c->owed = 1u << VSOCK_RESPONSE;
	update(c);
}

static void on_response(struct conn *c)
{
	char line[GREETING_MAX];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	loop_fd_remove(&c->src);
	c->state = CONN_OPEN;
	/* The first bytes into an empty socket. */
	if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		reset(c);
	else
		update(c);
}

static void on_shutdown(struct conn *c, uint32_t flags)
{
	if (flags & VSOCK_NO_RECEIVE) {
		c->ended = true;
		c->owed &= ~(1u << VSOCK_SHUTDOWN);
	}
	if ((flags & VSOCK_NO_SEND) && !c->last) {
		c->last = true;
		end_of_input(c);
	}
	if (is_over(c))
		reset(c);
	else
		update(c);
}

static void on_packet(
	struct vsock_device *dev, const struct vsock_packet *p, struct iovec *iov, unsigned n)
{
	struct conn *c = find(dev, p->dst_port, p->src_port);

	if (p->src_cid != dev->cid || p->dst_cid != VSOCK_CID_HOST)
		return;
	if (p->type != VSOCK_TYPE_STREAM || (p->op == VSOCK_REQUEST) == (c != NULL)) {
		answer_with_reset(dev, p);
		return;
	}
	if (!c) {
		on_request(dev, p);
		return;
	}
	if (c->state == CONN_DEAD) {
		if (p->op == VSOCK_RST)
			conn_free(c);
		return;
	}
	c->peer_alloc = p->buf_alloc;
	c->peer_taken = p->fwd_cnt;
	if (p->op == VSOCK_RST)
		conn_free(c);
	else if (p->op == VSOCK_RESPONSE && c->state == CONN_ASKED)
		on_response(c);
	else if (c->state != CONN_OPEN || p->op == VSOCK_RESPONSE)
		reset(c);
	else if (p->op == VSOCK_RW)
		take_data(c, iov, n, p->len);
	else if (p->op == VSOCK_SHUTDOWN)
		on_shutdown(c, p->flags);
	else if (p->op == VSOCK_CREDIT_UPDATE)
		update(c);
	else if (p->op == VSOCK_CREDIT_REQUEST) {
		c->owed |= 1u << VSOCK_CREDIT_UPDATE;
		update(c);
	} else {
		reset(c);
	}
}

static void on_chain(struct vsock_device *dev, struct virtq_chain *chain)
{
	uint8_t header[VSOCK_HEADER];
	struct iovec *iov = chain->iov;
	unsigned n = chain->n_out;
	struct vsock_packet p;

	if (iov_read(iov, n, header, sizeof(header)) < sizeof(header))
		return;
	vsock_packet_read(header, &p);
	iov_skip(&iov, &n, VSOCK_HEADER);
	if (p.len != chain->out - VSOCK_HEADER || p.len > LIMIT_VSOCK_PACKET)
		return;
	on_packet(dev, &p, iov, n);
}

static void on_more(struct loop_defer *defer);

/* What the guest has sent. */
static void drain(struct vsock_device *dev)
{
	struct virtq *q = vhost_user_ring(dev->vu, RING_SEND);
	struct virtq_chain chain;
	int r = 0;

	if (!q)
		return;
	for (unsigned i = 0; i < TX_BURST; i++) {
		while ((r = virtq_pop(q, &chain)) == 0 && virtq_sleep(q))
			;
		if (r <= 0)
			break;
		on_chain(dev, &chain);
		virtq_push(q, chain.head, 0);
	}
	vhost_user_call(dev->vu, RING_SEND);
	if (r < 0)
		vhost_user_break(dev->vu, RING_SEND);
	else if (r > 0)
		loop_defer_queue(dev->loop, &dev->more, on_more);
	pump(dev);
}

static void on_more(struct loop_defer *defer)
{
	drain(container_of(defer, struct vsock_device, more));
}

/* ---- to the guest ---- */

static void write_header(struct virtq_chain *chain, const struct vsock_packet *p)
{
	uint8_t header[VSOCK_HEADER];
	size_t done = 0;

	vsock_packet_write(p, header);
	for (unsigned i = 0; i < chain->n_in && done < sizeof(header); i++) {
		const struct iovec *piece = &chain->iov[chain->n_out + i];
		size_t n = MIN(piece->iov_len, sizeof(header) - done);

		memcpy(piece->iov_base, header + done, n);
		done += n;
	}
}

static struct vsock_packet packet_to(
	const struct vsock_device *dev, uint32_t host_port, uint32_t guest_port, enum vsock_op op)
{
	return (struct vsock_packet){ .src_cid = VSOCK_CID_HOST,
		.dst_cid = dev->cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op };
}

/* Reads into the chain. Bytes, 0: the packet says something else, -EAGAIN: there is nothing. */
static ssize_t read_data(struct conn *c, struct virtq_chain *chain)
{
	struct iovec copy[LIMIT_VIRTQ_CHAIN], *iov = copy;
	unsigned n = chain->n_in;
	size_t room = MIN(credit(c), MIN(chain->in - VSOCK_HEADER, LIMIT_VSOCK_PACKET));
	struct msghdr msg = { 0 };
	size_t sum = 0;
	ssize_t r;

	memcpy(copy, chain->iov + chain->n_out, n * sizeof(*iov));
	iov_skip(&iov, &n, VSOCK_HEADER);
	for (unsigned i = 0; i < n; i++) {
		iov[i].iov_len = MIN(iov[i].iov_len, room - sum);
		sum += iov[i].iov_len;
	}
	msg.msg_iov = iov;
	msg.msg_iovlen = n;
	r = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
		c->readable = false;
		return -EAGAIN;
	}
	if (r > 0)
		return r;
	/* One that was cut ends like one that was closed. */
	c->ended = true;
	c->owed |= 1u << VSOCK_SHUTDOWN;
	return 0;
}

static enum vsock_op first_owed(const struct conn *c)
{
	static const enum vsock_op order[] = { VSOCK_REQUEST, VSOCK_RESPONSE, VSOCK_RST };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (c->owed & (1u << order[i]))
			return order[i];
	return VSOCK_INVALID;
}

/* One packet of c's. Bytes of the chain that are used, or -EAGAIN: it has nothing after all. It
 * may be gone then. */
static ssize_t send_one(struct conn *c, struct virtq_chain *chain)
{
	enum vsock_op op = first_owed(c);
	struct vsock_packet p;
	ssize_t n = 0;

	if (op == VSOCK_INVALID && has_data(c)) {
		n = read_data(c, chain);
		if (n < 0)
			return n;
		op = n ? VSOCK_RW : VSOCK_INVALID;
	}
	/* Data says it as well; an end comes behind the data. */
	if (op == VSOCK_INVALID && (c->owed & (1u << VSOCK_CREDIT_UPDATE)))
		op = VSOCK_CREDIT_UPDATE;
	if (op == VSOCK_INVALID && (c->owed & (1u << VSOCK_SHUTDOWN)))
		op = VSOCK_SHUTDOWN;
	if (op == VSOCK_INVALID)
		return -EAGAIN;
	c->owed &= ~(1u << op);
	c->sent += (uint32_t)n;
	c->owed &= ~(1u << VSOCK_CREDIT_UPDATE);
	c->told = c->taken;
	p = packet_to(c->dev, c->host_port, c->guest_port, op);
	p.len = (uint32_t)n;
	p.buf_alloc = LIMIT_VSOCK_BUFFER;
	p.fwd_cnt = c->taken;
	p.flags = op == VSOCK_SHUTDOWN ? VSOCK_NO_SEND : 0;
	write_header(chain, &p);
	return VSOCK_HEADER + n;
}

/* The next in turn. As send_one(). */
static ssize_t next_packet(struct vsock_device *dev, struct virtq_chain *chain)
{
	struct conn *c;
	ssize_t n;

	if (dev->n_resets) {
		struct reset *r = &dev->resets[--dev->n_resets];
		struct vsock_packet p = packet_to(dev, r->host_port, r->guest_port, VSOCK_RST);

		write_header(chain, &p);
		return VSOCK_HEADER;
	}
	c = list_entry(dev->turns.next, struct conn, turn);
	list_remove(&c->turn);
	c->in_turn = false;
	n = send_one(c, chain);
	if (c->state == CONN_DEAD && !c->owed)
		conn_free(c);
	else if (is_over(c))
		reset(c);
	else
		update(c);
	return n;
}

/* Fills the guest's buffers, as long as there are some and something for them. */
static void pump(struct vsock_device *dev)
{
	struct virtq *q = vhost_user_ring(dev->vu, RING_RECEIVE);
	struct virtq_chain chain;
	int r = 1;

	while (q && (dev->n_resets || !list_empty(&dev->turns))) {
		ssize_t n;

		while ((r = virtq_pop(q, &chain)) == 0 && virtq_sleep(q))
			;
		if (r <= 0)
			break;
		if (chain.in < VSOCK_HEADER) {
			r = -EPROTO;
			break;
		}
		n = next_packet(dev, &chain);
		if (n < 0)
			virtq_unpop(q);
		else
			virtq_push(q, chain.head, (uint32_t)n);
	}
	if (q)
		vhost_user_call(dev->vu, RING_RECEIVE);
	if (r < 0)
		vhost_user_break(dev->vu, RING_RECEIVE);
}

/* ---- from the host ---- */

static uint32_t choose_port(struct vsock_device *dev, uint32_t guest_port)
{
	do
		dev->next_port = MAX(dev->next_port + 1, FIRST_PORT);
	while (find(dev, dev->next_port, guest_port));
	return dev->next_port;
}

/* "CONNECT <port>"; what follows the newline is the guest's. 0, -EAGAIN, or -EPROTO. */
static int read_greeting(struct conn *c)
{
	static const char word[] = "CONNECT ";
	uint64_t port;

	/* Byte by byte, to leave what follows where it is. */
	while (c->line_len == 0 || c->line[c->line_len - 1] != '\n') {
		ssize_t n = recv(c->fd, c->line + c->line_len, 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return -EAGAIN;
		if (n <= 0 || c->line_len + 1 == sizeof(c->line))
			return -EPROTO;
		c->line_len++;
	}
	c->line[c->line_len - 1] = 0;
	if (strncmp(c->line, word, strlen(word)) != 0 ||
		parse_u64(c->line + strlen(word), 0, UINT32_MAX, &port) < 0)
		return -EPROTO;
	c->guest_port = (uint32_t)port;
	return 0;
}

static void on_greeting(struct conn *c)
{
	int r = read_greeting(c);

	if (r < 0) {
		if (r != -EAGAIN)
			conn_free(c);
		return;
	}
	loop_timer_disarm(&c->timer);
	loop_fd_remove(&c->src);
	list_remove(&c->link);
	c->host_port = choose_port(c->dev, c->guest_port);
	list_add_tail(bucket(c->dev, c->host_port, c->guest_port), &c->link);
	c->state = CONN_ASKED;
	c->owed = 1u << VSOCK_REQUEST;
	update(c);
	pump(c->dev);
}

static void on_socket(struct loop_fd *src, uint32_t events)
{
	struct conn *c = container_of(src, struct conn, src);
	struct vsock_device *dev = c->dev;

	switch (c->state) {
	case CONN_GREETING:
		on_greeting(c);
		return;
	case CONN_ASKED:
		reset(c); /* it waits no longer */
		break;
	case CONN_OPEN:
		if ((events & (EPOLLOUT | EPOLLERR)) && !flush(c)) {
			reset(c);
			break;
		}
		c->readable |= (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
		if (is_over(c))
			reset(c);
		else
			update(c);
		break;
	case CONN_DEAD:
		break;
	}
	pump(dev);
}

static void on_silent(struct loop_timer *timer)
{
	conn_free(container_of(timer, struct conn, timer));
}

static void on_connection(struct loop_fd *src, uint32_t events)
{
	struct vsock_device *dev = container_of(src, struct vsock_device, listen_src);
	int fd = addr_accept(src->fd);
	struct conn *c = fd < 0 ? NULL : conn_new(dev, fd);

	if (!c)
		return;
	list_add_tail(&dev->greeting, &c->link);
	if (loop_timer_arm(dev->loop, &c->timer, deadline_in(GREETING_TIME), on_silent) < 0)
		conn_free(c);
	else
		update(c);
}

/* ---- the device ---- */

static void end_connections(struct vsock_device *dev)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		while (!list_empty(&dev->buckets[i]))
			conn_free(list_entry(dev->buckets[i].next, struct conn, link));
	dev->n_resets = 0;
}

static void on_ring(struct vhost_user *vu, unsigned index, void *arg)
{
	if (index == RING_SEND)
		drain(arg);
	else
		pump(arg);
}

/* The driver begins anew, and knows of no connection. */
static void on_stopped(struct vhost_user *vu, unsigned index, void *arg)
{
	end_connections(arg);
}

static void on_closed(struct vhost_user *vu, const char *why, void *arg)
{
	struct vsock_device *dev = arg;

	end_connections(dev);
	dev->events.failed(dev, why, dev->events.arg);
}

static const struct vhost_user_ops ops = { on_ring, on_stopped, on_closed };

static int listen_on(struct vsock_device *dev, struct err *err)
{
	struct addr addr;
	auto_free char *text = NULL;
	int r;

	if (asprintf(&text, "unix:%s", dev->path) < 0)
		return err_errno(err, ENOMEM, "cannot serve the vsock device");
	r = addr_parse(text, &addr, err);
	if (r < 0)
		return r;
	dev->listen_fd = addr_listen(&addr, 0600, err);
	if (dev->listen_fd < 0)
		return dev->listen_fd;
	r = loop_fd_add(dev->loop, &dev->listen_src, dev->listen_fd, EPOLLIN, on_connection);
	return r < 0 ? err_errno(err, -r, "cannot serve the vsock device") : 0;
}

int vsock_device_new(struct loop *loop, int fd, const char *path, uint64_t cid,
	const struct vsock_device_events *events, struct vsock_device **ret_dev, struct err *err)
{
	struct vsock_device *dev = calloc(1, sizeof(*dev));
	struct vhost_user_device device = { .rings = RINGS, .ops = &ops, .arg = dev };
	uint64_t config = htole64(cid);
	int r;

	if (!dev) {
		safe_close(fd);
		return err_errno(err, ENOMEM, "cannot serve the vsock device");
	}
	dev->loop = loop;
	dev->cid = cid;
	dev->events = *events;
	dev->listen_fd = -1;
	memcpy(dev->config, &config, sizeof(config));
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&dev->buckets[i]);
	list_init(&dev->greeting);
	list_init(&dev->turns);
	device.config = dev->config;
	device.config_len = sizeof(dev->config);
	r = vhost_user_new(loop, fd, &device, &dev->vu);
	if (r == 0 && !(dev->path = strdup(path)))
		r = -ENOMEM;
	r = r < 0 ? err_errno(err, -r, "cannot serve the vsock device") : listen_on(dev, err);
	if (r < 0)
		vsock_device_free(dev);
	else
		*ret_dev = dev;
	return r;
}

struct vsock_device *vsock_device_free(struct vsock_device *dev)
{
	if (!dev)
		return NULL;
	loop_fd_remove(&dev->listen_src);
	loop_defer_cancel(&dev->more);
	if (dev->listen_fd >= 0)
		unlink(dev->path);
	safe_close(dev->listen_fd);
	end_connections(dev);
	while (!list_empty(&dev->greeting))
		conn_free(list_entry(dev->greeting.next, struct conn, link));
	vhost_user_free(dev->vu);
	free(dev->path);
	free(dev);
	return NULL;
}
