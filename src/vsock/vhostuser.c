/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a message is a header of twelve bytes and a payload whose length depends on the
 * request; descriptors come with its first byte. Reading takes exactly one message at a time, so
 * that no descriptor is taken for another message's. A ring runs between SET_VRING_KICK and
 * GET_VRING_BASE, while it is enabled.
 */
#include "vsock/vhostuser.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	RESET_OWNER = 4,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
	REQUEST_MAX
};

#define FLAG_VERSION_MASK 3u
#define FLAG_VERSION	  1u
#define FLAG_REPLY	  (1u << 2)
#define FLAG_NEED_REPLY	  (1u << 3)

#define F_PROTOCOL_FEATURES (UINT64_C(1) << 30)
#define P_REPLY_ACK	    (UINT64_C(1) << 3)
#define P_CONFIG	    (UINT64_C(1) << 9)
#define PROTOCOL_FEATURES   (P_REPLY_ACK | P_CONFIG)

#define VRING_INDEX 0xffu
#define VRING_NO_FD (1u << 8)

struct header {
	uint32_t request, flags, size;
};

struct vring_state {
	uint32_t index, num;
};

struct vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct mem_region {
	uint64_t guest, size, user, offset;
};

struct mem_table {
	uint32_t n, padding;
	struct mem_region regions[LIMIT_VHOST_REGIONS];
};

struct config_space {
	uint32_t offset, size, flags;
	uint8_t data[LIMIT_VHOST_CONFIG];
};

union payload {
	uint64_t u64;
	struct vring_state state;
	struct vring_addr addr;
	struct mem_table table;
	struct config_space config;
};

struct ring {
	struct vhost_user *vu;
	struct virtq q;
	struct loop_fd kick;
	int kick_fd, call_fd;
	unsigned num;
	uint64_t desc, avail, used;
	uint16_t base;
	bool enabled, broken, running; /* running: q is set up */
};

struct vhost_user {
	struct loop *loop;
	struct loop_fd src;
	int fd;
	struct vhost_user_device device;
	uint64_t features, protocol; /* negotiated */
	struct guest_memory memory;
	struct ring rings[LIMIT_VHOST_RINGS];

	struct header header;
	union payload payload;
	size_t have; /* bytes of header and payload */
	int fds[LIMIT_VHOST_REGIONS];
	unsigned n_fds;
};

static void drop_fds(struct vhost_user *vu)
{
	for (unsigned i = 0; i < vu->n_fds; i++)
		safe_close(vu->fds[i]);
	vu->n_fds = 0;
}

static int take_first_fd(struct vhost_user *vu)
{
	int fd = vu->n_fds ? vu->fds[0] : -1;

	vu->fds[0] = -1;
	return fd;
}

/* ---- rings ---- */

static void on_kick(struct loop_fd *src, uint32_t events)
{
	struct ring *ring = container_of(src, struct ring, kick);
	struct vhost_user *vu = ring->vu;
	uint64_t count;

	if (read(ring->kick_fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR) {
		loop_fd_remove(src);
		return;
	}
	if (ring->running)
		vu->device.ops->ring(vu, (unsigned)(ring - vu->rings), vu->device.arg);
}

static int run_ring(struct vhost_user *vu, struct ring *ring)
{
	int r;

	if (ring->running || ring->kick_fd < 0 || !ring->enabled || ring->broken)
		return 0;
	ring->q.event_idx = vu->features & (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
	r = virtq_init(
		&ring->q, &vu->memory, ring->num, ring->desc, ring->avail, ring->used, ring->base);
	if (r < 0)
		return r;
	ring->running = true;
	vu->device.ops->ring(vu, (unsigned)(ring - vu->rings), vu->device.arg);
	return 0;
}

static void rest_ring(struct vhost_user *vu, struct ring *ring)
{
	if (!ring->running)
		return;
	ring->base = ring->q.next;
	ring->running = false;
	vu->device.ops->stopped(vu, (unsigned)(ring - vu->rings), vu->device.arg);
}

static void drop_kick(struct ring *ring)
{
	loop_fd_remove(&ring->kick);
	ring->kick_fd = safe_close(ring->kick_fd);
}

/* The ring that a request is of; NULL: there is none such. */
static struct ring *ring_of(struct vhost_user *vu, uint64_t index)
{
	return index < vu->device.rings ? &vu->rings[index] : NULL;
}

struct virtq *vhost_user_ring(struct vhost_user *vu, unsigned index)
{
	struct ring *ring = ring_of(vu, index);

	return ring && ring->running && !ring->broken ? &ring->q : NULL;
}

void vhost_user_call(struct vhost_user *vu, unsigned index)
{
	struct ring *ring = ring_of(vu, index);
	uint64_t one = 1;

	/* One that is full has been told often enough. */
	if (ring && ring->running && ring->call_fd >= 0 && virtq_wants_call(&ring->q) &&
		write(ring->call_fd, &one, sizeof(one)) < 0)
		return;
}

void vhost_user_break(struct vhost_user *vu, unsigned index)
{
	struct ring *ring = ring_of(vu, index);

	if (!ring)
		return;
	ring->broken = true;
	drop_kick(ring);
}

/* ---- requests: 0, or -errno, which ends the connection ---- */

/* A file that shrinks would end us by SIGBUS; memory files of ours are sealed against it. */
static int map_region(const struct mem_region *in, int fd, struct guest_region *ret_region)
{
	int seals = fcntl(fd, F_GET_SEALS);
	uint64_t len = in->offset + in->size;
	struct stat st;
	void *map;

	if (!in->size || in->offset > SIZE_MAX / 2 || in->size > SIZE_MAX / 2 ||
		in->offset % 4096 || in->guest + in->size < in->guest ||
		in->user + in->size < in->user)
		return -EINVAL;
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
		(uint64_t)st.st_size < len)
		return -EPERM;
	map = mmap(NULL, (size_t)in->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)in->offset);
	if (map == MAP_FAILED)
		return -errno;
	*ret_region = (struct guest_region){ .guest = in->guest,
		.user = in->user,
		.size = in->size,
		.base = map,
		.map = map,
		.map_len = (size_t)in->size };
	return 0;
}

static int set_mem_table(struct vhost_user *vu)
{
	const struct mem_table *t = &vu->payload.table;
	bool ran[LIMIT_VHOST_RINGS];
	int r = 0;

	if (vu->header.size < 8 || t->n > LIMIT_VHOST_REGIONS || t->n != vu->n_fds ||
		vu->header.size < 8 + t->n * sizeof(struct mem_region))
		return -EPROTO;
	for (unsigned i = 0; i < vu->device.rings; i++) {
		struct ring *ring = &vu->rings[i];

		ran[i] = ring->running;
		if (ran[i])
			ring->base = ring->q.next;
		ring->running = false;
	}
	guest_memory_clear(&vu->memory);
	for (unsigned i = 0; i < t->n && r == 0; i++) {
		r = map_region(&t->regions[i], vu->fds[i], &vu->memory.regions[i]);
		vu->memory.n += r == 0;
	}
	for (unsigned i = 0; i < vu->device.rings && r == 0; i++)
		if (ran[i])
			r = run_ring(vu, &vu->rings[i]);
	return r;
}

static int set_features(struct vhost_user *vu)
{
	if (vu->payload.u64 & ~vu->device.features)
		return -EPROTO;
	vu->features = vu->payload.u64;
	/* Without them rings need not be enabled. */
	for (unsigned i = 0; i < vu->device.rings; i++)
		vu->rings[i].enabled |= !(vu->features & F_PROTOCOL_FEATURES);
	return 0;
}

static int set_vring_num(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.state.index);

	if (!ring || vu->payload.state.num > LIMIT_VIRTQ)
		return -EPROTO;
	ring->num = vu->payload.state.num;
	return 0;
}

static int set_vring_addr(struct vhost_user *vu)
{
	const struct vring_addr *a = &vu->payload.addr;
	struct ring *ring = ring_of(vu, a->index);

	if (!ring || a->flags)
		return -EPROTO;
	ring->desc = a->desc;
	ring->avail = a->avail;
	ring->used = a->used;
	return 0;
}

static int set_vring_base(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.state.index);

	if (!ring || vu->payload.state.num > UINT16_MAX)
		return -EPROTO;
	ring->base = (uint16_t)vu->payload.state.num;
	return 0;
}

static int set_vring_kick(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.u64 & VRING_INDEX);
	int r;

	if (!ring || (vu->payload.u64 & VRING_NO_FD) || vu->n_fds != 1)
		return -EPROTO;
	drop_kick(ring);
	ring->kick_fd = take_first_fd(vu);
	ring->broken = false;
	r = fd_set_nonblock(ring->kick_fd, true);
	if (r == 0)
		r = loop_fd_add(vu->loop, &ring->kick, ring->kick_fd, EPOLLIN, on_kick);
	return r < 0 ? r : run_ring(vu, ring);
}

static int set_vring_call(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.u64 & VRING_INDEX);

	if (!ring || vu->n_fds != !(vu->payload.u64 & VRING_NO_FD))
		return -EPROTO;
	safe_close(ring->call_fd);
	ring->call_fd = take_first_fd(vu);
	return ring->call_fd < 0 ? 0 : fd_set_nonblock(ring->call_fd, true);
}

static int set_vring_enable(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.state.index);

	if (!ring || vu->payload.state.num > 1)
		return -EPROTO;
	ring->enabled = vu->payload.state.num;
	if (ring->enabled)
		return run_ring(vu, ring);
	rest_ring(vu, ring);
	return 0;
}

static int send_reply(struct vhost_user *vu, const void *data, uint32_t size)
{
	struct header h = { vu->header.request, FLAG_VERSION | FLAG_REPLY, size };
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)data, size } };
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = sendmsg(vu->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	/* The VMM waits for each answer, so there is room unless it is none. */
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(h) + size ? 0 : -EPROTO;
}

static int reply_u64(struct vhost_user *vu, uint64_t value)
{
	return send_reply(vu, &value, sizeof(value));
}

static int get_vring_base(struct vhost_user *vu)
{
	struct ring *ring = ring_of(vu, vu->payload.state.index);
	struct vring_state state;

	if (!ring)
		return -EPROTO;
	rest_ring(vu, ring);
	drop_kick(ring);
	state = (struct vring_state){ vu->payload.state.index, ring->base };
	return send_reply(vu, &state, sizeof(state));
}

static int get_config(struct vhost_user *vu)
{
	struct config_space *c = &vu->payload.config;
	uint32_t have = vu->device.config_len;

	if (vu->header.size < 12 || c->size > LIMIT_VHOST_CONFIG || c->offset > have ||
		c->size > have - c->offset || vu->header.size != 12 + c->size)
		return -EPROTO;
	memcpy(c->data, (const uint8_t *)vu->device.config + c->offset, c->size);
	return send_reply(vu, c, 12 + c->size);
}

static int handle(struct vhost_user *vu)
{
	switch ((enum request)vu->header.request) {
	case GET_FEATURES:
		return reply_u64(vu, vu->device.features);
	case SET_FEATURES:
		return set_features(vu);
	case SET_OWNER:
	case RESET_OWNER:
	case SET_VRING_ERR:
		return 0;
	case SET_MEM_TABLE:
		return set_mem_table(vu);
	case SET_VRING_NUM:
		return set_vring_num(vu);
	case SET_VRING_ADDR:
		return set_vring_addr(vu);
	case SET_VRING_BASE:
		return set_vring_base(vu);
	case GET_VRING_BASE:
		return get_vring_base(vu);
	case SET_VRING_KICK:
		return set_vring_kick(vu);
	case SET_VRING_CALL:
		return set_vring_call(vu);
	case GET_PROTOCOL_FEATURES:
		return reply_u64(vu, PROTOCOL_FEATURES);
	case SET_PROTOCOL_FEATURES:
		vu->protocol = vu->payload.u64;
		return vu->protocol & ~PROTOCOL_FEATURES ? -EPROTO : 0;
	case SET_VRING_ENABLE:
		return set_vring_enable(vu);
	case GET_CONFIG:
		return get_config(vu);
	case REQUEST_MAX:
		break;
	}
	return -EPROTO;
}

/* Bytes that a request's payload has; a table and a configuration space look for themselves. */
static size_t payload_size(uint32_t request)
{
	switch (request) {
	case GET_FEATURES:
	case SET_OWNER:
	case RESET_OWNER:
	case GET_PROTOCOL_FEATURES:
		return 0;
	case SET_VRING_ADDR:
		return sizeof(struct vring_addr);
	case SET_MEM_TABLE:
	case GET_CONFIG:
		return SIZE_MAX;
	default:
		return 8;
	}
}

static bool has_reply(uint32_t request)
{
	return request == GET_FEATURES || request == GET_PROTOCOL_FEATURES ||
	       request == GET_VRING_BASE || request == GET_CONFIG;
}

static void closed(struct vhost_user *vu, const char *why)
{
	loop_fd_remove(&vu->src);
	vu->device.ops->closed(vu, why, vu->device.arg);
}

/* ---- reading ---- */

static void keep_fds(struct vhost_user *vu, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (vu->n_fds < LIMIT_VHOST_REGIONS)
				vu->fds[vu->n_fds++] = fd;
			else
				safe_close(fd);
		}
	}
}

/* Bytes read, 0 at the end, -errno. */
static ssize_t receive(struct vhost_user *vu, void *at, size_t len)
{
	char control[CMSG_SPACE(sizeof(int) * LIMIT_VHOST_REGIONS)];
	struct iovec iov = { at, len };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(vu->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	keep_fds(vu, &msg);
	return n;
}

/* A whole message has come. */
static int take_message(struct vhost_user *vu)
{
	bool need_reply = (vu->header.flags & FLAG_NEED_REPLY) && (vu->protocol & P_REPLY_ACK) &&
			  !has_reply(vu->header.request);
	size_t wanted = payload_size(vu->header.request);
	int r = wanted == SIZE_MAX || wanted == vu->header.size ? handle(vu) : -EPROTO;

	drop_fds(vu);
	vu->have = 0;
	if (r == 0 && need_reply)
		r = reply_u64(vu, 0);
	return r;
}

static int read_some(struct vhost_user *vu)
{
	size_t want = sizeof(vu->header);
	uint8_t *at = (uint8_t *)&vu->header + vu->have;
	ssize_t n;

	if (vu->have >= sizeof(vu->header)) {
		at = (uint8_t *)&vu->payload + (vu->have - sizeof(vu->header));
		want += vu->header.size;
	}
	n = receive(vu, at, want - vu->have);
	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;
	vu->have += (size_t)n;
	if (vu->have < sizeof(vu->header))
		return 0;
	if ((vu->header.flags & FLAG_VERSION_MASK) != FLAG_VERSION ||
		(vu->header.flags & FLAG_REPLY) || vu->header.size > sizeof(vu->payload))
		return -EPROTO;
	if (vu->have < sizeof(vu->header) + vu->header.size)
		return 0;
	return take_message(vu);
}

static void on_message(struct loop_fd *src, uint32_t events)
{
	struct vhost_user *vu = container_of(src, struct vhost_user, src);
	uint32_t request;
	char why[128];
	int r;

	do {
		request = vu->have >= sizeof(vu->header) ? vu->header.request : 0;
		r = read_some(vu);
	} while (r == 0);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r == -EPIPE || r == -ECONNRESET)
		snprintf(why, sizeof(why), "the VMM has closed its device");
	else
		snprintf(why, sizeof(why), "the VMM made a wrong vhost-user request (%u): %s",
			request ? request : vu->header.request, strerror(-r));
	closed(vu, why);
}

int vhost_user_new(struct loop *loop, int fd, const struct vhost_user_device *device,
	struct vhost_user **ret_vu)
{
	struct vhost_user *vu = calloc(1, sizeof(*vu));
	int r = vu ? fd_set_nonblock(fd, true) : -ENOMEM;

	if (r < 0) {
		safe_close(fd);
		free(vu);
		return r;
	}
	vu->loop = loop;
	vu->fd = fd;
	vu->device = *device;
	vu->device.features |= (UINT64_C(1) << VIRTIO_F_VERSION_1) |
			       (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX) | F_PROTOCOL_FEATURES;
	for (unsigned i = 0; i < LIMIT_VHOST_RINGS; i++) {
		vu->rings[i].vu = vu;
		vu->rings[i].kick_fd = vu->rings[i].call_fd = -1;
	}
	r = loop_fd_add(loop, &vu->src, fd, EPOLLIN, on_message);
	if (r < 0) {
		vhost_user_free(vu);
		return r;
	}
	*ret_vu = vu;
	return 0;
}

struct vhost_user *vhost_user_free(struct vhost_user *vu)
{
	if (!vu)
		return NULL;
	loop_fd_remove(&vu->src);
	safe_close(vu->fd);
	drop_fds(vu);
	for (unsigned i = 0; i < LIMIT_VHOST_RINGS; i++) {
		drop_kick(&vu->rings[i]);
		safe_close(vu->rings[i].call_fd);
	}
	guest_memory_clear(&vu->memory);
	free(vu);
	return NULL;
}
