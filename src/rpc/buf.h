/* SPDX-License-Identifier: Apache-2.0 */
/* A byte queue in one piece of memory: bytes are added behind and taken from the front. Internal to
 * rpc, and what stands on it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rpc_buf {
	uint8_t *mem;
	size_t off; /* of the first byte */
	size_t len;
	size_t cap;
};

/* The first byte, valid until the buffer changes; NULL where there never was one. */
static inline uint8_t *rpc_buf_data(const struct rpc_buf *b)
{
	return b->mem ? b->mem + b->off : NULL;
}

/* Memory for what comes and goes at once, at least size bytes; *ret_cap: how many. NULL: there is
 * none. Given back with that number. */
void *rpc_mem_take(size_t size, size_t *ret_cap);
void rpc_mem_give(void *mem, size_t cap);

void rpc_buf_deinit(struct rpc_buf *b);
/* Room for n more bytes behind the last, or NULL when out of memory. rpc_buf_grow() makes them
 * count. */
uint8_t *rpc_buf_reserve(struct rpc_buf *b, size_t n);
static inline void rpc_buf_grow(struct rpc_buf *b, size_t n)
{
	b->len += n;
}
/* 0 or -ENOMEM. */
int rpc_buf_add(struct rpc_buf *b, const void *data, size_t n);
/* Drops n bytes from the front (n <= len). Large memory goes back when the buffer is empty. */
void rpc_buf_consume(struct rpc_buf *b, size_t n);
