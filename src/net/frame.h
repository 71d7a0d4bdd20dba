/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's `-netdev stream`: each Ethernet frame behind its length as a big-endian u32. What is read
 * comes from QEMU, which its guest may have taken over.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* Frames on their way in. */
struct frame_reader {
	uint8_t buf[4 + LIMIT_NET_FRAME];
	size_t len;
};

/* Where the next bytes are to be put, and how many fit (never 0 after frame_reader_each()). */
void *frame_reader_space(struct frame_reader *r, size_t *ret_size);
void frame_reader_added(struct frame_reader *r, size_t n);

/*
 * Calls fn for each whole frame (borrowed for the call) and drops it. 0, or -EPROTO for a length of
 * nothing or above LIMIT_NET_FRAME: the stream cannot be read on.
 */
int frame_reader_each(
	struct frame_reader *r, void (*fn)(const uint8_t *frame, size_t len, void *arg), void *arg);

/* Frames on their way out. */
struct frame_queue {
	uint8_t *buf; /* LIMIT_NET_QUEUE, allocated once */
	size_t head, len;
};

int frame_queue_init(struct frame_queue *q); /* 0 or -ENOMEM */
void frame_queue_deinit(struct frame_queue *q);

/* Copies the frame. 0, or -ENOBUFS: it does not fit and is dropped. */
int frame_queue_add(struct frame_queue *q, const void *frame, size_t len);

/* The first bytes to write (borrowed), and how many; after writing n of them they are dropped. */
const void *frame_queue_data(const struct frame_queue *q, size_t *ret_len);
void frame_queue_written(struct frame_queue *q, size_t n);
