/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macro.h"

#define KEEP (16 * KIB) /* an empty buffer above this is given back */

/*
 * Large memory that was given back, for whoever wants some next. To the C library of the static
 * agent each large block is a mapping of its own, which made a busy stream spend most of its time
 * in munmap(2) and page faults: 16 MB/s went through the tunnel instead of 180. Bounded, and
 * nothing as long as there was no traffic.
 */
#define SPARES	   8
#define SPARE_MAX  (512 * KIB)
#define SPARES_SUM (1536 * KIB)

static struct {
	void *mem;
	size_t cap;
} spares[SPARES];
static size_t spares_sum;

void *rpc_mem_take(size_t size, size_t *ret_cap)
{
	size_t best = SPARES;

	*ret_cap = size;
	if (size <= KEEP)
		return malloc(size);
	for (size_t i = 0; i < SPARES; i++)
		if (spares[i].mem && spares[i].cap >= size &&
			(best == SPARES || spares[i].cap < spares[best].cap))
			best = i;
	if (best == SPARES)
		return malloc(size);
	*ret_cap = spares[best].cap;
	spares_sum -= spares[best].cap;
	return take_ptr(spares[best].mem);
}

void rpc_mem_give(void *mem, size_t cap)
{
	bool fits = cap > KEEP && cap <= SPARE_MAX && cap <= SPARES_SUM - spares_sum;

	for (size_t i = 0; fits && i < SPARES; i++) {
		if (!spares[i].mem) {
			spares[i].mem = mem;
			spares[i].cap = cap;
			spares_sum += cap;
			return;
		}
	}
	free(mem);
}

void rpc_buf_deinit(struct rpc_buf *b)
{
	rpc_mem_give(b->mem, b->cap);
	*b = (struct rpc_buf){ 0 };
}

uint8_t *rpc_buf_reserve(struct rpc_buf *b, size_t n)
{
	size_t need, cap;
	uint8_t *mem;

	if (b->mem && b->cap - b->off - b->len >= n)
		return b->mem + b->off + b->len;
	if (__builtin_add_overflow(b->len, n, &need))
		return NULL;
	/* Moving the bytes to the front must stay cheaper than what has been taken from there. */
	if (need <= b->cap && b->off >= b->len) {
		memmove(b->mem, b->mem + b->off, b->len);
		b->off = 0;
		return b->mem + b->len;
	}
	cap = MAX(b->cap, 256);
	/* A large one is on its way to what it is made for: growing is copying. */
	while (cap < need)
		cap = cap > SIZE_MAX / 4 ? need : cap * (cap < KEEP ? 2 : 4);
	if (b->off && b->cap == cap)
		cap *= 2;
	mem = rpc_mem_take(cap, &cap);
	if (!mem)
		return NULL;
	if (b->len)
		memcpy(mem, b->mem + b->off, b->len);
	rpc_mem_give(b->mem, b->cap);
	*b = (struct rpc_buf){ .mem = mem, .len = b->len, .cap = cap };
	return mem + b->len;
}

int rpc_buf_add(struct rpc_buf *b, const void *data, size_t n)
{
	uint8_t *tail;

	if (!n)
		return 0;
	tail = rpc_buf_reserve(b, n);
	if (!tail)
		return -ENOMEM;
	memcpy(tail, data, n);
	b->len += n;
	return 0;
}

void rpc_buf_consume(struct rpc_buf *b, size_t n)
{
	b->off += n;
	b->len -= n;
	if (b->len)
		return;
	b->off = 0;
	if (b->cap > KEEP)
		rpc_buf_deinit(b);
}
