/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/virtq.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>

#include "base/macro.h"

static void *find(const struct guest_memory *m, bool by_user, uint64_t address, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct guest_region *r = &m->regions[i];
		uint64_t at = address - (by_user ? r->user : r->guest);

		/* An address below the region has become a large one. */
		if (at < r->size && len <= r->size - at)
			return r->base + at;
	}
	return NULL;
}

void *guest_memory_at(const struct guest_memory *m, uint64_t address, uint64_t len)
{
	return find(m, false, address, len);
}

void *guest_memory_of_user(const struct guest_memory *m, uint64_t address, uint64_t len)
{
	return find(m, true, address, len);
}

void guest_memory_clear(struct guest_memory *m)
{
	for (unsigned i = 0; i < m->n; i++)
		munmap(m->regions[i].map, m->regions[i].map_len);
	m->n = 0;
}

/* Fields of the rings: 16 bits, little-endian, written and read by both sides at once. */

static uint16_t load16(const void *at, int order)
{
	return le16toh(order == __ATOMIC_ACQUIRE
			       ? __atomic_load_n((const uint16_t *)at, __ATOMIC_ACQUIRE)
			       : __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED));
}

static void store16(void *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)at, htole16(value), __ATOMIC_RELEASE);
}

#define AVAIL_IDX(q)	    ((q)->avail + 2)
#define AVAIL_RING(q, i)    ((q)->avail + 4 + 2 * ((i) & ((q)->num - 1)))
#define AVAIL_USED_EVENT(q) ((q)->avail + 4 + 2 * (q)->num)
#define USED_FLAGS(q)	    ((q)->used)
#define USED_IDX(q)	    ((q)->used + 2)
#define USED_RING(q, i)	    ((q)->used + 4 + 8 * ((i) & ((q)->num - 1)))
#define USED_AVAIL_EVENT(q) ((q)->used + 4 + 8 * (q)->num)

int virtq_init(struct virtq *q, const struct guest_memory *memory, unsigned num, uint64_t desc,
	uint64_t avail, uint64_t used, uint16_t next)
{
	bool event_idx = q->event_idx;

	*q = (struct virtq){ .memory = memory, .event_idx = event_idx };
	if (!num || num > LIMIT_VIRTQ || (num & (num - 1)) || desc % 16 || avail % 2 || used % 4)
		return -EINVAL;
	q->desc = guest_memory_of_user(memory, desc, 16 * (uint64_t)num);
	q->avail = guest_memory_of_user(memory, avail, 6 + 2 * (uint64_t)num);
	q->used = guest_memory_of_user(memory, used, 6 + 8 * (uint64_t)num);
	if (!q->desc || !q->avail || !q->used)
		return -EINVAL;
	/* Their alignment there need not be the one here. */
	if ((uintptr_t)q->avail % 2 || (uintptr_t)q->used % 4)
		return -EINVAL;
	q->num = num;
	q->next = next;
	q->done = q->told = load16(USED_IDX(q), __ATOMIC_RELAXED);
	return 0;
}

static int add_piece(struct virtq *q, struct virtq_chain *c, const struct vring_desc *d)
{
	uint32_t len = le32toh(d->len);
	bool in = le16toh(d->flags) & VRING_DESC_F_WRITE;
	void *at = guest_memory_at(q->memory, le64toh(d->addr), len);

	if (!at || c->n_out + c->n_in == LIMIT_VIRTQ_CHAIN || (!in && c->n_in))
		return -EPROTO;
	c->iov[c->n_out + c->n_in] = (struct iovec){ at, len };
	if (in) {
		c->n_in++;
		c->in += len;
	} else {
		c->n_out++;
		c->out += len;
	}
	return 0;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	uint16_t waiting = load16(AVAIL_IDX(q), __ATOMIC_ACQUIRE) - q->next;
	struct vring_desc d;
	unsigned i;
	int r = 0;

	if (waiting > q->num)
		return -EPROTO;
	if (!waiting)
		return 0;
	c->n_out = c->n_in = 0;
	c->out = c->in = 0;
	i = c->head = load16(AVAIL_RING(q, q->next), __ATOMIC_RELAXED);
	/* add_piece() ends one that bites its tail. */
	do {
		if (i >= q->num)
			return -EPROTO;
		memcpy(&d, (const uint8_t *)q->desc + 16 * (size_t)i, sizeof(d));
		if (le16toh(d.flags) & VRING_DESC_F_INDIRECT)
			return -EPROTO; /* not negotiated */
		r = add_piece(q, c, &d);
		i = le16toh(d.next);
	} while (r == 0 && (le16toh(d.flags) & VRING_DESC_F_NEXT));
	if (r < 0)
		return r;
	q->next++;
	return 1;
}

void virtq_unpop(struct virtq *q)
{
	q->next--;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t len)
{
	struct vring_used_elem e = { htole32(head), htole32(len) };

	memcpy(USED_RING(q, q->done), &e, sizeof(e));
	q->done++;
	store16(USED_IDX(q), q->done);
}

bool virtq_wants_call(struct virtq *q)
{
	uint16_t before = q->told;

	if (before == q->done)
		return false;
	q->told = q->done;
	/* What the driver wants is read after it can see what there is. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx)
		return vring_need_event(
			load16(AVAIL_USED_EVENT(q), __ATOMIC_RELAXED), q->done, before);
	return !(load16(q->avail, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool virtq_sleep(struct virtq *q)
{
	if (q->event_idx)
		store16(USED_AVAIL_EVENT(q), q->next);
	else
		store16(USED_FLAGS(q), 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(AVAIL_IDX(q), __ATOMIC_ACQUIRE) != q->next;
}
