/* SPDX-License-Identifier: Apache-2.0 */
#include "image/blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"

#define BUFFER_BLOCKS  256
#define EXTENT_LEN_MAX 32768 /* of an initialised extent */

int blocks_init(struct blocks *b, int fd)
{
	*b = (struct blocks){
		.fd = fd, .next = BLOCKS_FIRST, .buf = malloc(BUFFER_BLOCKS * BLOCK_SIZE)
	};
	return b->buf ? 0 : -ENOMEM;
}

void blocks_deinit(struct blocks *b)
{
	free(b->buf);
	free(b->freed.v);
	*b = (struct blocks){ .fd = -1 };
}

static int extents_add(struct extents *list, uint32_t logical, uint64_t physical, uint32_t len)
{
	struct extent *last = list->n ? &list->v[list->n - 1] : NULL;

	if (last && last->logical + last->len == logical &&
		last->physical + last->len == physical && last->len + len <= EXTENT_LEN_MAX) {
		last->len += len;
		return 0;
	}
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 1;
		struct extent *v = reallocarray(list->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->cap = cap;
	}
	list->v[list->n++] = (struct extent){ logical, len, physical };
	return 0;
}

int blocks_flush(struct blocks *b)
{
	const uint8_t *p = b->buf;
	off_t at = (off_t)((b->next - b->fill) * BLOCK_SIZE);
	size_t left = b->fill * BLOCK_SIZE;

	while (left) {
		ssize_t n = pwrite(b->fd, p, left, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		at += n;
		left -= (size_t)n;
	}
	b->fill = 0;
	return 0;
}

int blocks_append(
	struct blocks *b, const void *data, uint32_t logical, size_t n, struct extents *list)
{
	const uint8_t *p = data;
	int r;

	if (b->next + n > DISK_VIRTUAL_SIZE / BLOCK_SIZE)
		return -EFBIG;
	while (n) {
		size_t k = MIN(n, BUFFER_BLOCKS - b->fill);

		memcpy(b->buf + b->fill * BLOCK_SIZE, p, k * BLOCK_SIZE);
		r = extents_add(list, logical, b->next, (uint32_t)k);
		if (r < 0)
			return r;
		b->fill += k;
		b->next += k;
		p += k * BLOCK_SIZE;
		logical += (uint32_t)k;
		n -= k;
		if (b->fill == BUFFER_BLOCKS && (r = blocks_flush(b)) < 0)
			return r;
	}
	return 0;
}

int blocks_free(struct blocks *b, struct extents *list)
{
	int r = 0;

	/* Neighbours join: logical runs with physical. */
	for (size_t i = 0; i < list->n && r == 0; i++)
		r = extents_add(&b->freed, (uint32_t)list->v[i].physical, list->v[i].physical,
			list->v[i].len);
	free(list->v);
	*list = (struct extents){ 0 };
	return r;
}

uint64_t extents_blocks(const struct extents *list)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < list->n; i++)
		sum += list->v[i].len;
	return sum;
}
