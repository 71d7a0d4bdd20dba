/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream: what HTTP/2 runs on. Over a descriptor here; filters (TLS, say) put another table
 * on the same struct. Never blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "io/loop.h"

struct io_stream;

struct io_stream_ops {
	/* As read(2) and writev(2): bytes, 0 for end of file, -EAGAIN to wait for the event,
	 * -errno. */
	ssize_t (*read)(struct io_stream *s, void *buf, size_t n);
	ssize_t (*writev)(struct io_stream *s, const struct iovec *iov, int n);
	void (*free)(struct io_stream *s);
	/* As io_stream_want(); NULL: src is in the loop and does it. */
	void (*want)(struct io_stream *s, uint32_t events);
};

struct io_stream {
	const struct io_stream_ops *ops;
	struct loop_fd src;
	int fd; /* owned */
	/* Called when what was wanted may be possible, or on error: the next read or write tells.
	 */
	void (*on_event)(void *arg, uint32_t events);
	void *arg;
};

/* Takes over fd, which it makes non-blocking: a socket, pipe end, pty or character device. 0 or
 * -errno (fd closed then too). */
int io_stream_new_fd(struct loop *loop, int fd, struct io_stream **ret_stream);

/* Closes and frees. Returns NULL. */
struct io_stream *io_stream_free(struct io_stream *s);

/* Which events on_event should come for (EPOLLIN | EPOLLOUT); none at first. */
void io_stream_want(struct io_stream *s, uint32_t events);

static inline ssize_t io_stream_read(struct io_stream *s, void *buf, size_t n)
{
	return s->ops->read(s, buf, n);
}

static inline ssize_t io_stream_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	return s->ops->writev(s, iov, n);
}
