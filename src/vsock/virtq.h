/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7) in memory that belongs to a guest, which
 * may write anything there at any time: every value is read once and checked before it is used.
 * Does not block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/limits.h"

/* One piece of the guest's memory. */
struct guest_region {
	uint64_t guest; /* its address there */
	uint64_t user;	/* its address in the VMM, by which rings are named */
	uint64_t size;
	uint8_t *base; /* where it lies here */
	void *map;     /* munmap(2) */
	size_t map_len;
};

struct guest_memory {
	struct guest_region regions[LIMIT_VHOST_REGIONS];
	unsigned n;
};

/* Where len bytes at a guest's, or a VMM's, address lie here; NULL: not wholly in one region. */
void *guest_memory_at(const struct guest_memory *m, uint64_t address, uint64_t len);
void *guest_memory_of_user(const struct guest_memory *m, uint64_t address, uint64_t len);

/* Unmaps all. */
void guest_memory_clear(struct guest_memory *m);

struct virtq {
	const struct guest_memory *memory;
	unsigned num; /* entries, a power of two; 0: not there */
	const void *desc;
	uint8_t *avail, *used;
	uint16_t next;	/* the available entry that is taken next */
	uint16_t done;	/* used entries written so far */
	uint16_t told;	/* `done` at the last look whether the driver wants to know */
	bool event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
};

/*
 * One buffer of the driver's: first what the device reads, then what it writes, in the order of
 * iov.
 */
struct virtq_chain {
	uint16_t head;
	struct iovec iov[LIMIT_VIRTQ_CHAIN];
	unsigned n_out, n_in; /* iov[0 .. n_out-1] are read, the n_in behind them written */
	size_t out, in;	      /* bytes */
};

/*
 * Sets the ring up from addresses of the VMM's; it goes on at `next`. memory is borrowed, and must
 * not change while the ring is used. 0, or -EINVAL: no power of two up to LIMIT_VIRTQ, misaligned,
 * or outside the memory.
 */
int virtq_init(struct virtq *q, const struct guest_memory *memory, unsigned num, uint64_t desc,
	uint64_t avail, uint64_t used, uint16_t next);

/* 1: a chain was taken; 0: there is none; -EPROTO: the ring is broken, and not to be used again. */
int virtq_pop(struct virtq *q, struct virtq_chain *ret_chain);

/* Gives the chain taken last back untaken. */
void virtq_unpop(struct virtq *q);

/* The chain has been used, len bytes of it written. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t len);

/* Whether the driver wants to hear of what was pushed since the last call. */
bool virtq_wants_call(struct virtq *q);

/* Nothing was there: asks to be told of what comes. True: something has come meanwhile. */
bool virtq_sleep(struct virtq *q);
