/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: O_NONBLOCK is a flag of the open file description, which a shell and its other
 * children share with us, so it is never set on 0, 1 or 2. Terminals and pipes are opened anew
 * through /proc/self/fd and made non-blocking there; sockets have MSG_DONTWAIT; what cannot be
 * opened anew (a terminal of another user, after su) is written at most PIPE_BUF bytes at a time
 * when the kernel says that it takes some. Reading blocks only if somebody else reads the same
 * input.
 */
#include "cli/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define STEP_MAX (256 * KIB)

static ssize_t write_some(struct sink *s, const void *data, size_t len)
{
	ssize_t n;

	len = MIN(len, s->step);
	do
		n = s->socket ? send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
			      : write(s->fd, data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void resume(struct sink *s)
{
	if (!s->paused)
		return;
	rpc_call_resume(s->paused);
	s->paused = rpc_call_unref(s->paused);
}

static void fail(struct sink *s, int error)
{
	if (s->broken)
		return;
	s->broken = true;
	strbuf_reset(&s->pending);
	loop_fd_set(&s->src, 0);
	s->failed(s, error);
	resume(s);
}

static void on_writable(struct loop_fd *src, uint32_t events)
{
	struct sink *s = container_of(src, struct sink, src);
	ssize_t n;

	if (s->broken || !s->pending.len) {
		/* An error of a sink that nothing is written to waits until something is. */
		loop_fd_remove(src);
		s->polled = false;
		return;
	}
	n = write_some(s, s->pending.data, s->pending.len);
	if (n == -EAGAIN)
		return;
	if (n < 0) {
		fail(s, (int)-n);
		return;
	}
	strbuf_consume(&s->pending, (size_t)n);
	if (!s->pending.len) {
		loop_fd_set(src, 0);
		resume(s);
	}
}

/* A description of our own, non-blocking; fd itself where there can be none. */
static int own_description(int fd, bool *ret_owned)
{
	char path[40];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	*ret_owned = own >= 0;
	return own >= 0 ? own : fd;
}

int sink_open(
	struct sink *sink, struct loop *loop, int fd, void (*failed)(struct sink *sink, int error))
{
	struct stat st;
	int r;

	*sink = (struct sink){ .fd = fd, .step = STEP_MAX, .failed = failed };
	if (fstat(fd, &st) < 0)
		return -errno;
	sink->socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		sink->fd = own_description(fd, &sink->owned);
		if (!sink->owned)
			sink->step = PIPE_BUF;
	}
	r = loop_fd_add(loop, &sink->src, sink->fd, 0, on_writable);
	sink->polled = r == 0;
	if (r < 0 && r != -EPERM) {
		if (sink->owned)
			safe_close(sink->fd);
		return r;
	}
	return 0;
}

void sink_write(struct sink *s, const void *data, size_t len, struct rpc_call *call)
{
	ssize_t n = 0;

	/* Without a description of our own a write might block: then only the loop's event allows
	 * it. */
	while (len && !s->broken && !s->pending.len && (s->step == STEP_MAX || !s->polled)) {
		n = write_some(s, data, len);
		if (n == -EAGAIN && s->polled)
			break;
		if (n < 0) {
			fail(s, (int)-n);
			return;
		}
		data = (const char *)data + n;
		len -= (size_t)n;
	}
	if (!len || s->broken)
		return;
	strbuf_add(&s->pending, data, len);
	if (strbuf_error(&s->pending) < 0) {
		fail(s, ENOMEM);
		return;
	}
	loop_fd_set(&s->src, EPOLLOUT);
	if (call && !s->paused) {
		s->paused = rpc_call_ref(call);
		rpc_call_pause(call);
	}
}

void sink_close(struct sink *s)
{
	if (!s->failed)
		return;
	loop_fd_remove(&s->src);
	if (s->pending.len && !s->broken)
		fd_write_full(s->fd, s->pending.data, s->pending.len);
	strbuf_deinit(&s->pending);
	s->paused = s->paused ? rpc_call_unref(s->paused) : NULL;
	if (s->owned)
		safe_close(s->fd);
	s->failed = NULL;
}

/* Reading */

static void on_readable(struct loop_fd *src, uint32_t events)
{
	struct source *s = container_of(src, struct source, src);

	s->ready(s);
}

static void on_turn(struct loop_defer *defer)
{
	struct source *s = container_of(defer, struct source, turn);

	if (!s->wanted)
		return;
	loop_defer_queue(s->loop, &s->turn, on_turn);
	s->ready(s);
}

int source_open(
	struct source *source, struct loop *loop, int fd, void (*ready)(struct source *source))
{
	*source = (struct source){ .loop = loop, .fd = fd, .ready = ready };
	return 0;
}

void source_want(struct source *s, bool wanted)
{
	int r;

	if (!s->ready || s->wanted == wanted)
		return;
	s->wanted = wanted;
	if (!wanted) {
		/* Out of the loop altogether: a pipe whose other end is closed reports EPOLLHUP for
		 * ever. */
		loop_fd_remove(&s->src);
		loop_defer_cancel(&s->turn);
		return;
	}
	r = s->regular ? -EPERM : loop_fd_add(s->loop, &s->src, s->fd, EPOLLIN, on_readable);
	if (r < 0) {
		s->regular = true;
		loop_defer_queue(s->loop, &s->turn, on_turn);
	}
}

void source_close(struct source *s)
{
	source_want(s, false);
	s->ready = NULL;
}
