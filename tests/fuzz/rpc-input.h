/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream whose peer sends the fuzzer's input and takes whatever is written. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"

struct input_stream {
	struct io_stream s;
	const uint8_t *data;
	size_t left;
};

static inline ssize_t input_read(struct io_stream *s, void *buf, size_t n)
{
	struct input_stream *in = container_of(s, struct input_stream, s);

	/* In pieces, so that every state sees the end of a buffer. */
	n = MIN(MIN(n, in->left), 97);
	memcpy(buf, in->data, n);
	in->data += n;
	in->left -= n;
	return (ssize_t)n;
}

static inline ssize_t input_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	ssize_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += (ssize_t)iov[i].iov_len;
	return sum;
}

static inline void input_free(struct io_stream *s)
{
	free(container_of(s, struct input_stream, s));
}

static const struct io_stream_ops input_ops = {
	.read = input_read, .writev = input_writev, .free = input_free
};

static inline struct input_stream *input_new(const uint8_t *data, size_t size)
{
	struct input_stream *in = calloc(1, sizeof(*in));

	if (!in)
		abort();
	in->s.ops = &input_ops;
	in->data = data;
	in->left = size;
	return in;
}

/* Reads everything, with turns of the loop between; *gone says that the stream has been freed. */
static inline void input_run(struct loop *loop, struct input_stream *in, const bool *gone)
{
	for (int turn = 0; turn < 100000 && !*gone; turn++) {
		in->s.on_event(in->s.arg, EPOLLIN);
		loop_once(loop, 0);
	}
}
