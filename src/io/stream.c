/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

static ssize_t fd_stream_read(struct io_stream *s, void *buf, size_t n)
{
	ssize_t got;

	do
		got = read(s->fd, buf, n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static ssize_t fd_stream_writev(struct io_stream *s, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t put;

	do {
		/* A peer that went away is an error here, never a signal: the agent is PID 1, and
		 * libraries do not set SIGPIPE. */
		put = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put < 0 && errno == ENOTSOCK)
			put = writev(s->fd, iov, n);
	} while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

static void fd_stream_free(struct io_stream *s)
{
	loop_fd_remove(&s->src);
	safe_close(s->fd);
	free(s);
}

static const struct io_stream_ops fd_ops = {
	.read = fd_stream_read,
	.writev = fd_stream_writev,
	.free = fd_stream_free,
};

static void on_fd(struct loop_fd *src, uint32_t events)
{
	struct io_stream *s = container_of(src, struct io_stream, src);

	if (s->on_event)
		s->on_event(s->arg, events);
}

int io_stream_new_fd(struct loop *loop, int fd, struct io_stream **ret_stream)
{
	struct io_stream *s = calloc(1, sizeof(*s));
	int r = s ? fd_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0)
		r = loop_fd_add(loop, &s->src, fd, 0, on_fd);
	if (r < 0) {
		safe_close(fd);
		free(s);
		return r;
	}
	s->ops = &fd_ops;
	s->fd = fd;
	*ret_stream = s;
	return 0;
}

struct io_stream *io_stream_free(struct io_stream *s)
{
	if (s)
		s->ops->free(s);
	return NULL;
}

void io_stream_want(struct io_stream *s, uint32_t events)
{
	if (s->ops->want)
		s->ops->want(s, events);
	else
		loop_fd_set(&s->src, events);
}
