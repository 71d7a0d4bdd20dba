/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a descriptor is in the loop only while it can get on: one whose ring has no room is
 * taken out, since the loop reports a hang-up whether asked or not and would spin; so is stdin with
 * an empty queue. A terminal is read through one descriptor and written through a duplicate, since
 * the loop knows a source by its descriptor.
 *
 * After the process has ended, what FIONREAD counts in each pipe includes everything it wrote
 * itself; once that many bytes are read its output is complete, whoever else still holds the pipe.
 * A terminal is complete when a read finds nothing, since reading flushes what the line discipline
 * holds back (tty_buffer_flush_work()).
 */
#include "agent/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"

#define PTMX_MAJOR \
	5 /* Documentation/admin-guide/devices.txt: 5:2 is /dev/ptmx, whatever its path */
#define PTMX_MINOR 2

static void out_close(struct streams_out *o)
{
	loop_fd_remove(&o->src);
	o->fd = safe_close(o->fd);
	o->left = 0;
	ring_trim(&o->ring);
}

static void on_output(struct loop_fd *src, uint32_t events)
{
	struct streams_out *o = container_of(src, struct streams_out, src);
	struct streams *s = o->streams;
	char buf[LIMIT_OUTPUT_CHUNK];
	size_t room = MIN(ring_space(&o->ring), sizeof(buf));
	ssize_t n;

	if (!room) {
		loop_fd_remove(&o->src);
		return;
	}
	n = read(o->fd, buf, room);
	if (n < 0 && errno == EINTR)
		return;
	if (n < 0 && errno == EAGAIN) {
		if (!s->ended || !o->left)
			return;
		o->left = 0;
	} else if (n <= 0 || ring_write(&o->ring, buf, (size_t)n, clock_realtime()) < 0) {
		/* End of file; EIO is a terminal's. Without memory for its output a process loses
		 * its reader. */
		out_close(o);
	} else {
		o->left -= MIN(o->left, (size_t)n);
	}
	s->changed(s->arg);
}

static int out_start(struct streams_out *o)
{
	if (o->fd < 0 || o->src.loop || !ring_space(&o->ring))
		return 0;
	return loop_fd_add(o->streams->loop, &o->src, o->fd, EPOLLIN, on_output);
}

static int make_pipe(int *ret_ours, int *ret_theirs, bool input)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret_ours = fds[input];
	*ret_theirs = fds[!input];
	r = fd_set_nonblock(*ret_ours, true);
	return r;
}

static int make_pipes(struct streams *s, bool open_stdin)
{
	int r = 0;

	if (open_stdin)
		r = make_pipe(&s->in_fd, &s->child[0], true);
	else if ((s->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	for (int i = 0; r == 0 && i < STREAMS_MAX; i++) {
		r = make_pipe(&s->out[i].fd, &s->child[i + 1], false);
		if (r == 0)
			r = out_start(&s->out[i]);
	}
	return r;
}

int streams_init(struct streams *s, struct loop *loop, const struct streams_opts *opts)
{
	*s = (struct streams){ .loop = loop,
		.tty = opts->tty,
		.in_fd = -1,
		.child = { -1, -1, -1 },
		.changed = opts->changed,
		.arg = opts->arg };
	for (int i = 0; i < STREAMS_MAX; i++) {
		s->out[i].streams = s;
		s->out[i].fd = -1;
		ring_init(&s->out[i].ring, opts->policy);
	}
	s->in_close = !opts->tty && !opts->open_stdin;
	return s->tty ? 0 : make_pipes(s, opts->open_stdin);
}

void streams_close_child(struct streams *s)
{
	for (int i = 0; i < 3; i++)
		s->child[i] = safe_close(s->child[i]);
}

static void in_shut(struct streams *s)
{
	loop_fd_remove(&s->in_src);
	s->in_fd = safe_close(s->in_fd);
	strbuf_deinit(&s->queue);
	s->queue = STRBUF_INIT;
	s->queue_at = 0;
}

void streams_deinit(struct streams *s)
{
	in_shut(s);
	streams_close_child(s);
	for (int i = 0; i < STREAMS_MAX; i++) {
		out_close(&s->out[i]);
		ring_deinit(&s->out[i].ring);
	}
}

static bool is_ptmx(int fd)
{
	struct stat st;
	int number;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(PTMX_MAJOR, PTMX_MINOR) && ioctl(fd, TIOCGPTN, &number) == 0;
}

int streams_set_master(struct streams *s, int fd)
{
	auto_close int owner = fd;
	int r;

	if (!is_ptmx(fd))
		return -ENOTTY;
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return r;
	s->in_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (s->in_fd < 0)
		return -errno;
	s->out[STREAMS_OUT].fd = take_fd(&owner);
	return out_start(&s->out[STREAMS_OUT]);
}

int streams_resize(struct streams *s, unsigned rows, unsigned columns)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (!s->tty)
		return -ENOTTY;
	if (!rows || !columns || rows > UINT16_MAX || columns > UINT16_MAX)
		return -EINVAL;
	if (s->out[STREAMS_OUT].fd < 0)
		return -EPIPE;
	return ioctl(s->out[STREAMS_OUT].fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

/* Input */

/* A terminal has no end of file of its own: the line discipline makes one of VEOF. */
static void end_terminal_input(struct streams *s)
{
	struct termios t;

	s->in_close = false;
	if (tcgetattr(s->in_fd, &t) == 0 && (t.c_lflag & ICANON) && t.c_cc[VEOF])
		strbuf_addc(&s->queue, (char)t.c_cc[VEOF]);
}

static void in_flush(struct streams *s);

static void on_input(struct loop_fd *src, uint32_t events)
{
	struct streams *s = container_of(src, struct streams, in_src);

	in_flush(s);
	s->changed(s->arg);
}

static void in_flush(struct streams *s)
{
	while (s->queue_at < s->queue.len) {
		ssize_t n =
			write(s->in_fd, s->queue.data + s->queue_at, s->queue.len - s->queue_at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* Nobody reads: what is queued is lost, as in any pipe. */
			in_shut(s);
			return;
		}
		s->queue_at += (size_t)n;
	}
	if (s->queue_at < s->queue.len) {
		if (!s->in_src.loop &&
			loop_fd_add(s->loop, &s->in_src, s->in_fd, EPOLLOUT, on_input) < 0)
			in_shut(s);
		return;
	}
	loop_fd_remove(&s->in_src);
	if (s->in_close) {
		in_shut(s);
		return;
	}
	s->queue_at = 0;
	if (s->queue.cap > LIMIT_OUTPUT_CHUNK) {
		strbuf_deinit(&s->queue);
		s->queue = STRBUF_INIT;
	} else {
		strbuf_reset(&s->queue);
	}
}

int streams_input(struct streams *s, const void *data, size_t len)
{
	if (s->in_close)
		return -EPIPE;
	s->taken += len;
	if (s->in_fd < 0)
		return 0;
	strbuf_add(&s->queue, data, len);
	if (strbuf_error(&s->queue) < 0) {
		in_shut(s);
		return -ENOMEM;
	}
	in_flush(s);
	return 0;
}

bool streams_input_full(const struct streams *s)
{
	return s->queue.len - s->queue_at >= LIMIT_STDIN_QUEUE;
}

void streams_input_close(struct streams *s)
{
	if (s->in_close)
		return;
	if (s->tty && s->in_fd >= 0)
		end_terminal_input(s);
	else
		s->in_close = true;
	if (s->in_fd >= 0)
		in_flush(s);
}

/* Output */

void streams_output_room(struct streams *s)
{
	for (int i = 0; i < STREAMS_MAX; i++)
		if (out_start(&s->out[i]) < 0)
			out_close(&s->out[i]);
}

void streams_process_ended(struct streams *s)
{
	s->ended = true;
	in_shut(s);
	for (int i = 0; i < STREAMS_MAX; i++) {
		struct streams_out *o = &s->out[i];
		int n = 0;

		if (o->fd < 0)
			continue;
		if (s->tty)
			o->left = SIZE_MAX;
		else if (ioctl(o->fd, FIONREAD, &n) == 0 && n > 0)
			o->left = (size_t)n;
		if (o->left && o->src.loop)
			on_output(&o->src, EPOLLIN);
	}
}

bool streams_drained(const struct streams *s)
{
	return !s->out[STREAMS_OUT].left && !s->out[STREAMS_ERR].left;
}

bool streams_output_ended(const struct streams *s)
{
	return s->out[STREAMS_OUT].fd < 0 && s->out[STREAMS_ERR].fd < 0;
}

void streams_detach(struct streams *s)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		s->out[i].ring.policy = RING_DROP;
		ring_trim(&s->out[i].ring);
	}
	streams_output_room(s);
}
