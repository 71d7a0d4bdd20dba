/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the port is never closed, because closing it would lose what is on its way. Without
 * a session what arrives goes through the greeting's matcher until a frame is complete; it is
 * echoed, and a session begins: a stream on top of the port.
 *
 * A host that begins anew without having closed sends zeros, which end the old session by an HTTP/2
 * error, and then its frame. One read may bring both, and whoever serves the session would swallow
 * the frame with the zeros. So a read of the session ends in front of what looks like a frame, and
 * gives the bytes of such a frame one by one: should they be the session's own after all, nothing
 * is lost; if the session ends before them, they are still here. The matcher sees all that a
 * session got, so that also a frame whose head was already handed over is found.
 *
 * While the host has closed its end the kernel reports EPOLLHUP for ever: then the descriptor is
 * watched edge-triggered, and the next change (the host opens) wakes us once.
 */
#include "agent/serial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/uevent.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "io/greeting.h"

#define BUFFER (32 * KIB) /* what virtio-console takes in one write */

struct session {
	struct io_stream stream;
	struct serial *serial;
	uint32_t want;
};

struct serial {
	struct loop *loop;
	int fd;
	struct loop_fd src;
	struct loop_defer defer;
	struct serial_ops ops;
	struct greeting greeting;
	struct session *session; /* NULL: waiting for a greeting */
	bool hung_up;
	unsigned one_by_one; /* bytes of what may be a frame that are still to be given singly */
	size_t echo_left;
	uint8_t echo[GREETING_LEN];
	size_t at, len; /* of in: what is read and not yet taken */
	uint8_t in[BUFFER];
	uint8_t out[BUFFER];
};

static void update(struct serial *s);

/* Output */

/* Sends what is left of the echo. 0, -EAGAIN or -errno. */
static int flush_echo(struct serial *s)
{
	while (s->echo_left) {
		ssize_t n = write(s->fd, s->echo + GREETING_LEN - s->echo_left, s->echo_left);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			s->echo_left -= (size_t)n;
	}
	return 0;
}

static ssize_t session_writev(struct io_stream *stream, const struct iovec *iov, int n)
{
	struct session *session = container_of(stream, struct session, stream);
	struct serial *s = session->serial;
	size_t len = 0;
	ssize_t put;
	int r = s ? flush_echo(s) : -EPIPE;

	if (r < 0)
		return r;
	/* The port makes one request to the host of each part of a writev: they are put together
	 * first. */
	for (int i = 0; i < n && len < sizeof(s->out); i++) {
		size_t part = MIN(iov[i].iov_len, sizeof(s->out) - len);

		memcpy(s->out + len, iov[i].iov_base, part);
		len += part;
	}
	do
		put = write(s->fd, s->out, len);
	while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

/* Input */

/* Reads more if there is none. 1: bytes are there; 0: the host has closed; -EAGAIN or -errno. */
static int fill(struct serial *s)
{
	ssize_t n;

	if (s->at < s->len)
		return 1;
	do
		n = read(s->fd, s->in, sizeof(s->in));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	s->at = 0;
	s->len = (size_t)n;
	return 1;
}

/* How many of the bytes at hand may go to the session in one piece. */
static size_t cut(struct serial *s, size_t max)
{
	const uint8_t *from = s->in + s->at, *found;
	size_t have = s->len - s->at;

	if (s->one_by_one) {
		s->one_by_one--;
		return 1;
	}
	found = memmem(from, have, GREETING_MAGIC, GREETING_MAGIC_LEN);
	if (found == from) {
		s->one_by_one = GREETING_LEN - 1;
		return 1;
	}
	return MIN(max, found ? (size_t)(found - from) : have);
}

static ssize_t session_read(struct io_stream *stream, void *buf, size_t n)
{
	struct session *session = container_of(stream, struct session, stream);
	struct serial *s = session->serial;
	size_t give, fed = 0;
	bool done;
	int r = s ? fill(s) : -EPIPE;

	if (r <= 0)
		return r;
	give = cut(s, n);
	memcpy(buf, s->in + s->at, give);
	while (fed < give)
		fed += greeting_feed(&s->greeting, s->in + s->at + fed, give - fed, &done);
	s->at += give;
	return (ssize_t)give;
}

/* Sessions */

static void session_want(struct io_stream *stream, uint32_t events)
{
	struct session *session = container_of(stream, struct session, stream);

	session->want = events & (EPOLLIN | EPOLLOUT);
	if (session->serial)
		update(session->serial);
}

static void session_free(struct io_stream *stream)
{
	struct session *session = container_of(stream, struct session, stream);
	struct serial *s = session->serial;

	if (s) {
		s->session = NULL;
		s->one_by_one = 0;
		update(s);
	}
	free(session);
}

static const struct io_stream_ops session_ops = {
	.read = session_read,
	.writev = session_writev,
	.free = session_free,
	.want = session_want,
};

static void begin(struct serial *s)
{
	struct session *session = calloc(1, sizeof(*session));

	/* Without memory the peer gets no echo and tries again. */
	if (!session)
		return;
	memcpy(s->echo, s->greeting.frame, GREETING_LEN);
	s->echo_left = GREETING_LEN;
	greeting_answer(&s->greeting);
	session->stream.ops = &session_ops;
	session->stream.fd = -1;
	session->serial = s;
	s->session = session;
	s->one_by_one = 0;
	s->hung_up = false;
	flush_echo(s);
	update(s);
	if (s->ops.begin(s->ops.arg, &session->stream) < 0 && s->session == session)
		io_stream_free(&session->stream);
}

static void end(struct serial *s)
{
	struct session *session = s->session;

	if (!session)
		return;
	s->ops.end(s->ops.arg);
	/* An owner that kept it has a stream that only fails. */
	if (s->session == session)
		session->serial = NULL;
	s->session = NULL;
}

/* Waiting for a greeting: takes all that is there. */
static void seek(struct serial *s)
{
	bool done = false;
	int r;

	while (!s->session && (r = fill(s)) > 0) {
		s->at += greeting_feed(&s->greeting, s->in + s->at, s->len - s->at, &done);
		if (done)
			begin(s);
	}
	if (!s->session && r != -EAGAIN)
		s->hung_up = true;
}

static void on_fd(struct loop_fd *src, uint32_t events)
{
	struct serial *s = container_of(src, struct serial, src);

	if (s->session && (events & (EPOLLHUP | EPOLLERR))) {
		end(s);
		s->hung_up = true;
	} else if (!(events & (EPOLLHUP | EPOLLERR))) {
		s->hung_up = false;
	}
	if (s->echo_left && s->session)
		flush_echo(s);
	if (!s->session)
		seek(s);
	else if (s->session->want && s->session->stream.on_event)
		s->session->stream.on_event(s->session->stream.arg, events);
	update(s);
}

/* Bytes are at hand that the descriptor will not tell of again. */
static void on_defer(struct loop_defer *defer)
{
	struct serial *s = container_of(defer, struct serial, defer);

	if (!s->session)
		seek(s);
	else if ((s->session->want & EPOLLIN) && s->session->stream.on_event)
		s->session->stream.on_event(s->session->stream.arg, EPOLLIN);
	update(s);
}

static void update(struct serial *s)
{
	uint32_t events = EPOLLIN;

	if (s->session)
		events = s->session->want | (s->echo_left ? EPOLLOUT : 0);
	else if (s->hung_up)
		events = EPOLLIN | EPOLLET;
	loop_fd_set(&s->src, events);
	if (s->at < s->len && (!s->session || (s->session->want & EPOLLIN)))
		loop_defer_queue(s->loop, &s->defer, on_defer);
}

int serial_new(struct loop *loop, int fd, const struct serial_ops *ops, struct serial **ret_serial)
{
	struct serial *s = calloc(1, sizeof(*s));
	int r = s ? fd_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0)
		r = loop_fd_add(loop, &s->src, fd, EPOLLIN, on_fd);
	if (r < 0) {
		safe_close(fd);
		free(s);
		return r;
	}
	s->loop = loop;
	s->fd = fd;
	s->ops = *ops;
	greeting_answer(&s->greeting);
	*ret_serial = s;
	return 0;
}

struct serial *serial_free(struct serial *s)
{
	if (s) {
		end(s);
		loop_defer_cancel(&s->defer);
		loop_fd_remove(&s->src);
		safe_close(s->fd);
		free(s);
	}
	return NULL;
}

/* The port */

/* 0 with the device's name, or -ENOENT. */
static int scan_ports(const char *class_dir, const char *name, char device[static 32])
{
	auto_closedir DIR *dir = opendir(class_dir);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		auto_free char *text = NULL;
		char path[300];
		size_t len;

		if (de->d_name[0] == '.' || strlen(de->d_name) > 24)
			continue;
		snprintf(path, sizeof(path), "%s/name", de->d_name);
		if (fs_read_file(dirfd(dir), path, 256, &text, &len) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(text, name) == 0) {
			snprintf(device, 32, "/dev/%.24s", de->d_name);
			return 0;
		}
	}
	return -ENOENT;
}

int serial_open_port(const char *class_dir, const char *name, int64_t deadline, struct err *err)
{
	auto_close int events = -1;
	char device[32];
	int fd, r = scan_ports(class_dir, name, device);

	if (r < 0) {
		events = uevent_open();
		if (events < 0)
			return err_errno(err, -events, "cannot listen for devices");
	}
	/* The kernel tells of a port before it has asked the host for its name, and then of a
	 * change. */
	while ((r = scan_ports(class_dir, name, device)) == -ENOENT) {
		r = uevent_wait(events, "virtio-ports", deadline);
		if (r == -ETIMEDOUT)
			return err_set(
				err, ENODEV, "there is no virtio-serial port called '%s'", name);
		if (r < 0)
			return err_errno(err, -r, "cannot wait for the serial port");
	}
	fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? err_errno(err, errno, "cannot open %s", device) : fd;
}
