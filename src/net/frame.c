/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *frame_reader_space(struct frame_reader *r, size_t *ret_size)
{
	*ret_size = sizeof(r->buf) - r->len;
	return r->buf + r->len;
}

void frame_reader_added(struct frame_reader *r, size_t n)
{
	r->len += n;
}

int frame_reader_each(
	struct frame_reader *r, void (*fn)(const uint8_t *frame, size_t len, void *arg), void *arg)
{
	size_t done = 0;

	while (r->len - done >= 4) {
		uint32_t size;

		memcpy(&size, r->buf + done, 4);
		size = ntohl(size);
		if (size == 0 || size > LIMIT_NET_FRAME)
			return -EPROTO;
		if (r->len - done - 4 < size)
			break;
		fn(r->buf + done + 4, size, arg);
		done += 4 + size;
	}
	r->len -= done;
	memmove(r->buf, r->buf + done, r->len);
	return 0;
}

int frame_queue_init(struct frame_queue *q)
{
	*q = (struct frame_queue){ .buf = malloc(LIMIT_NET_QUEUE) };
	return q->buf ? 0 : -ENOMEM;
}

void frame_queue_deinit(struct frame_queue *q)
{
	free(q->buf);
	q->buf = NULL;
}

int frame_queue_add(struct frame_queue *q, const void *frame, size_t len)
{
	uint32_t size = htonl((uint32_t)len);

	if (len > LIMIT_NET_FRAME || q->len + 4 + len > LIMIT_NET_QUEUE)
		return -ENOBUFS;
	if (q->head + q->len + 4 + len > LIMIT_NET_QUEUE) {
		memmove(q->buf, q->buf + q->head, q->len);
		q->head = 0;
	}
	memcpy(q->buf + q->head + q->len, &size, 4);
	memcpy(q->buf + q->head + q->len + 4, frame, len);
	q->len += 4 + len;
	return 0;
}

const void *frame_queue_data(const struct frame_queue *q, size_t *ret_len)
{
	*ret_len = q->len;
	return q->buf + q->head;
}

void frame_queue_written(struct frame_queue *q, size_t n)
{
	q->head += n;
	q->len -= n;
	if (!q->len)
		q->head = 0;
}
