/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define KEEP (16 * KIB) /* an empty buffer above this is freed */

void rpc_buf_deinit(struct rpc_buf *b)
{
	free(b->mem);
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
	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;
	if (b->off && b->cap == cap)
		cap *= 2;
	mem = malloc(cap);
	if (!mem)
		return NULL;
	if (b->len)
		memcpy(mem, b->mem + b->off, b->len);
	free(b->mem);
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
