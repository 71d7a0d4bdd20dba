/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a greeting writes its bytes as the socket takes them and looks at what comes with
 * MSG_PEEK, so that it removes exactly the bytes up to the echo's end and the stream starts clean
 * behind it.
 */
#include "driver/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/id.h"
#include "io/addr.h"
#include "io/greeting.h"

#define END_GRACE	(2 * NSEC_PER_SEC)
#define REDIAL_INTERVAL (50 * NSEC_PER_MSEC)
#define CID_TRIES	64

struct session {
	struct loop *loop;
	struct loop_fd src;
	struct loop_timer timer, redial;
	int fd;
	session_done done;
	void *arg;
	struct greeting greeting;
	size_t flush, sent; /* bytes of zeros, and of zeros and frame that have been written */
	unsigned cid, port;
	struct addr path; /* of a dial by a unix socket */
	char line[32];	  /* its answer so far */
	size_t line_len;
	int64_t deadline;
};

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	loop_fd_remove(&s->src);
	loop_timer_disarm(&s->timer);
	loop_timer_disarm(&s->redial);
	safe_close(s->fd);
	free(s);
	return NULL;
}

void session_fail(struct session *s, const struct err *err)
{
	session_done done;
	void *arg;

	if (!s)
		return;
	done = s->done;
	arg = s->arg;
	session_free(s);
	done(NULL, err, arg);
}

static void fail_errno(struct session *s, int code, const char *what)
{
	struct err err = ERR_INIT;

	err_errno(&err, code, "%s", what);
	session_fail(s, &err);
}

static void succeed(struct session *s)
{
	session_done done = s->done;
	struct io_stream *stream;
	struct loop *loop = s->loop;
	void *arg = s->arg;
	int fd = s->fd, r;

	/* Out of the loop before the stream enters the same descriptor. */
	loop_fd_remove(&s->src);
	s->fd = -1;
	r = io_stream_new_fd(loop, fd, &stream);
	if (r < 0) {
		fail_errno(s, -r, "cannot use the connection to the agent");
		return;
	}
	session_free(s);
	done(stream, NULL, arg);
}

static void on_deadline(struct loop_timer *timer)
{
	struct session *s = container_of(timer, struct session, timer);
	struct err err = ERR_INIT;

	if (s->cid)
		err_set(&err, ETIMEDOUT, "the agent did not answer in time on vsock %u:%u", s->cid,
			s->port);
	else if (s->port)
		err_set(&err, ETIMEDOUT, "the agent did not answer in time on port %u of %s",
			s->port, s->path.text);
	else
		err_set(&err, ETIMEDOUT,
			"the agent did not answer the greeting on its serial port in time");
	session_fail(s, &err);
}

static struct session *new_session(
	struct loop *loop, int64_t deadline, session_done done, void *arg)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct session){
		.loop = loop, .fd = -1, .done = done, .arg = arg, .deadline = deadline
	};
	if (loop_timer_arm(loop, &s->timer, deadline, on_deadline) < 0)
		return session_free(s);
	return s;
}

/* 0, -EAGAIN when the socket is full, -errno. */
static int send_greeting(struct session *s)
{
	static const char zeros[4096];

	while (s->sent < s->flush + GREETING_LEN) {
		bool flushing = s->sent < s->flush;
		const void *data =
			flushing ? (const void *)zeros : s->greeting.frame + (s->sent - s->flush);
		size_t len = flushing ? MIN(sizeof(zeros), s->flush - s->sent)
				      : s->flush + GREETING_LEN - s->sent;
		ssize_t n = send(s->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			s->sent += (size_t)n;
	}
	return 0;
}

static void on_closed(struct loop_timer *timer)
{
	fail_errno(container_of(timer, struct session, timer), EPIPE,
		"the VM closed the agent's port");
}

/* Most likely the VMM is ending, and whoever watches it can say why: session_fail() comes within
 * moments then. */
static void wait_for_end(struct session *s)
{
	loop_fd_remove(&s->src);
	if (loop_timer_arm(
		    s->loop, &s->timer, MIN(s->deadline, deadline_in(END_GRACE)), on_closed) < 0)
		fail_errno(s, ENOMEM, "the VM closed the agent's port");
}

static void receive_echo(struct session *s)
{
	char buf[4096];
	ssize_t n = recv(s->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
	bool done = false;
	size_t used;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		wait_for_end(s);
		return;
	}
	used = greeting_feed(&s->greeting, buf, (size_t)n, &done);
	/* What was peeked is there, so this takes exactly it. */
	n = recv(s->fd, buf, used, MSG_DONTWAIT);
	if (n != (ssize_t)used)
		fail_errno(s, n < 0 ? errno : EIO, "cannot read from the agent's port");
	else if (done)
		succeed(s);
}

static void on_port(struct loop_fd *src, uint32_t events)
{
	struct session *s = container_of(src, struct session, src);
	int r = send_greeting(s);

	if (r < 0 && r != -EAGAIN) {
		wait_for_end(s);
		return;
	}
	loop_fd_set(&s->src, EPOLLIN | (r == -EAGAIN ? EPOLLOUT : 0));
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive_echo(s);
}

int session_greet(struct loop *loop, int fd, bool flush, int64_t deadline, session_done done,
	void *arg, struct session **ret_session)
{
	struct session *s = new_session(loop, deadline, done, arg);
	int r = s ? fd_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0)
		r = loop_fd_add(loop, &s->src, fd, EPOLLIN | EPOLLOUT, on_port);
	if (r < 0) {
		safe_close(fd);
		session_free(s);
		return r;
	}
	s->fd = fd;
	s->flush = flush ? GREETING_FLUSH : 0;
	greeting_offer(&s->greeting);
	*ret_session = s;
	return 0;
}

static void on_redial(struct loop_timer *timer);

/* Nobody listens yet: the guest is still booting. Its driver sends no event for that, so ask again.
 */
static void dial_later(struct session *s)
{
	loop_fd_remove(&s->src);
	s->fd = safe_close(s->fd);
	if (loop_timer_arm(s->loop, &s->redial, deadline_in(REDIAL_INTERVAL), on_redial) < 0)
		fail_errno(s, ENOMEM, "cannot dial the agent again");
}

static void on_vsock(struct loop_fd *src, uint32_t events)
{
	struct session *s = container_of(src, struct session, src);
	socklen_t len = sizeof(int);
	int code = 0;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		code = errno;
	if (code)
		dial_later(s);
	else
		succeed(s);
}

static void dial(struct session *s)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_cid = s->cid, .svm_port = s->port };

	s->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0) {
		fail_errno(s, errno, "cannot make a vsock socket");
		return;
	}
	if (connect(s->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		dial_later(s);
	else if (loop_fd_add(s->loop, &s->src, s->fd, EPOLLOUT, on_vsock) < 0)
		fail_errno(s, ENOMEM, "cannot wait for the vsock connection");
}

static void on_redial(struct loop_timer *timer)
{
	dial(container_of(timer, struct session, redial));
}

int session_dial_vsock(struct loop *loop, unsigned cid, unsigned port, int64_t deadline,
	session_done done, void *arg, struct session **ret_session)
{
	struct session *s = new_session(loop, deadline, done, arg);
	int r;

	if (!s)
		return -ENOMEM;
	s->cid = cid;
	s->port = port;
	/* From the loop, so that done never comes from within this call. */
	r = loop_timer_arm(loop, &s->redial, clock_monotonic(), on_redial);
	if (r < 0)
		session_free(s);
	else
		*ret_session = s;
	return r;
}

/* ---- by a unix socket ---- */

static void on_hybrid_redial(struct loop_timer *timer);

static void hybrid_later(struct session *s)
{
	loop_fd_remove(&s->src);
	s->fd = safe_close(s->fd);
	if (loop_timer_arm(s->loop, &s->redial, deadline_in(REDIAL_INTERVAL), on_hybrid_redial) < 0)
		fail_errno(s, ENOMEM, "cannot dial the agent again");
}

/* Byte by byte: what follows the line is the session's. */
static void on_answer(struct loop_fd *src, uint32_t events)
{
	struct session *s = container_of(src, struct session, src);

	while (s->line_len < sizeof(s->line)) {
		char *at = s->line + s->line_len;
		ssize_t n = recv(s->fd, at, 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* Nobody listens on the guest's port yet. */
		if (n <= 0) {
			hybrid_later(s);
			return;
		}
		s->line_len++;
		if (*at == '\n')
			break;
	}
	if (s->line_len > 4 && memcmp(s->line, "OK ", 3) == 0 && s->line[s->line_len - 1] == '\n')
		succeed(s);
	else
		fail_errno(s, EPROTO, "no vsock answers behind the VM's socket");
}

static void hybrid_dial(struct session *s)
{
	struct err err = ERR_INIT;
	char line[32];
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", s->port);

	s->line_len = 0;
	s->fd = addr_connect(&s->path, &err);
	if (s->fd < 0 || fd_set_nonblock(s->fd, true) < 0 ||
		send(s->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		hybrid_later(s);
	else if (loop_fd_add(s->loop, &s->src, s->fd, EPOLLIN, on_answer) < 0)
		fail_errno(s, ENOMEM, "cannot wait for the vsock connection");
}

static void on_hybrid_redial(struct loop_timer *timer)
{
	hybrid_dial(container_of(timer, struct session, redial));
}

int session_dial_hybrid(struct loop *loop, const char *path, unsigned port, int64_t deadline,
	session_done done, void *arg, struct session **ret_session)
{
	struct session *s = new_session(loop, deadline, done, arg);
	int r = s ? 0 : -ENOMEM;

	if (r == 0 && snprintf(s->path.path, sizeof(s->path.path), "%s", path) >=
			      (int)sizeof(s->path.path))
		r = -ENAMETOOLONG;
	if (r == 0) {
		s->path.kind = ADDR_UNIX;
		snprintf(s->path.text, sizeof(s->path.text), "unix:%.240s", path);
		s->port = port;
		r = loop_timer_arm(loop, &s->redial, clock_monotonic(), on_hybrid_redial);
	}
	if (r < 0)
		session_free(s);
	else
		*ret_session = s;
	return r;
}

int session_claim_cid(int *ret_fd, unsigned *ret_cid, struct err *err)
{
	auto_close int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno,
			"no kernel vsock here (/dev/vhost-vsock: module vhost_vsock, group kvm)");
	for (int i = 0; i < CID_TRIES; i++) {
		uint64_t cid;

		/* The kernel keeps it for this descriptor, so no other process of any user can take
		 * it meanwhile. */
		random_bytes(&cid, sizeof(cid));
		cid = 1024 + cid % (INT32_MAX - 1024);
		if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
			*ret_cid = (unsigned)cid;
			*ret_fd = take_fd(&fd);
			return 0;
		}
		if (errno != EADDRINUSE)
			return err_errno(err, errno, "cannot claim a vsock CID");
	}
	return err_set(err, EADDRINUSE, "no free vsock CID found");
}
