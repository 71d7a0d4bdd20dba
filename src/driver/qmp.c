/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: bytes gather in one buffer until a newline; each line is one message. The greeting
 * is answered with qmp_capabilities, whose answer opens the way for commands. A command keeps its
 * id, deadline and callback in a list until the answer with its id comes; answers with other ids
 * are dropped, so a late one after its deadline harms nothing. Any callback may free the client:
 * the guard below tells the reading loop that its ground is gone.
 */
#include "driver/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/strbuf.h"

struct command {
	struct list link;
	struct qmp *qmp;
	struct loop_timer timer;
	uint64_t id;
	qmp_done done;
	void *arg;
	char name[48];
};

struct qmp {
	struct loop *loop;
	struct loop_fd src;
	int fd;
	struct qmp_events events;
	struct strbuf in, out, held; /* held: commands that wait for the negotiation */
	int pass_fd;		     /* goes with the command at pass_at of out or held; -1: none */
	size_t pass_at;
	struct list commands;
	size_t n_commands;
	uint64_t last_id;
	bool greeted, ready, closed;
	bool *freed; /* set on free, if someone up the stack wants to know */
	struct loop_defer failing;
	struct err why;
};

int qmp_message_parse(const char *line, size_t len, struct qmp_message *ret_msg)
{
	struct qmp_message m = { .kind = QMP_KIND_MAX };
	json_error_t je;
	json_t *error, *id;

	m.root = json_loadb(line, len, 0, &je);
	if (!m.root)
		return json_error_code(&je) == json_error_out_of_memory ? -ENOMEM : -EPROTO;
	error = json_object_get(m.root, "error");
	id = json_object_get(m.root, "id");
	if (json_is_integer(id) && json_integer_value(id) > 0)
		m.id = (uint64_t)json_integer_value(id);
	if ((m.name = json_string_value(json_object_get(m.root, "event")))) {
		m.kind = QMP_EVENT;
		m.data = json_object_get(m.root, "data");
	} else if ((m.data = json_object_get(m.root, "return"))) {
		m.kind = QMP_RETURN;
	} else if (json_is_object(error)) {
		m.kind = QMP_ERROR;
		m.name = json_string_value(json_object_get(error, "class"));
		m.desc = json_string_value(json_object_get(error, "desc"));
		m.name = m.name ? m.name : "GenericError";
		m.desc = m.desc ? m.desc : "no description";
	} else if (json_is_object(json_object_get(m.root, "QMP"))) {
		m.kind = QMP_GREETING;
	} else {
		json_decref(m.root);
		return -EPROTO;
	}
	*ret_msg = m;
	return 0;
}

static struct command *command_free(struct command *c)
{
	if (c) {
		list_remove(&c->link);
		loop_timer_disarm(&c->timer);
		c->qmp->n_commands--;
		free(c);
	}
	return NULL;
}

/* The callback may free the client, so the command is out of it before. */
static void command_finish(struct command *c, json_t *value, const struct err *err)
{
	qmp_done done = c->done;
	void *arg = c->arg;

	command_free(c);
	if (done)
		done(value, err, arg);
}

static void on_deadline(struct loop_timer *timer)
{
	struct command *c = container_of(timer, struct command, timer);
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT, "QEMU did not answer '%s' in time", c->name);
	command_finish(c, NULL, &err);
}

static void on_failing(struct loop_defer *defer)
{
	struct qmp *qmp = container_of(defer, struct qmp, failing);
	struct err why = qmp->why;
	bool freed = false, *outer = qmp->freed;

	qmp->freed = &freed;
	while (!freed && !list_empty(&qmp->commands))
		command_finish(list_entry(qmp->commands.next, struct command, link), NULL, &why);
	if (!freed && qmp->events.closed)
		qmp->events.closed(qmp, &why, qmp->events.arg);
	if (!freed)
		qmp->freed = outer;
	else if (outer)
		*outer = true;
}

/* No more I/O from here on; who waits hears of it from the loop, not from within the call that
 * failed. */
static void fail(struct qmp *qmp, int code, const char *what)
{
	if (qmp->closed)
		return;
	qmp->closed = true;
	err_errno(&qmp->why, code, "%s", what);
	loop_fd_remove(&qmp->src);
	loop_defer_queue(qmp->loop, &qmp->failing, on_failing);
}

/* What stands before the command that has a descriptor goes alone; the descriptor with that
 * command's first bytes. */
static ssize_t send_some(struct qmp *qmp)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { qmp->out.data, qmp->out.len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	bool passing = qmp->ready && qmp->pass_fd >= 0 && qmp->pass_at == 0;
	ssize_t n;

	if (passing) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &qmp->pass_fd, sizeof(int));
	} else if (qmp->ready && qmp->pass_fd >= 0) {
		iov.iov_len = MIN(iov.iov_len, qmp->pass_at);
	}
	n = sendmsg(qmp->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0 && passing)
		qmp->pass_fd = safe_close(qmp->pass_fd);
	else if (n > 0 && qmp->ready && qmp->pass_fd >= 0)
		qmp->pass_at -= (size_t)n;
	return n;
}

static void flush(struct qmp *qmp)
{
	while (!qmp->closed && qmp->out.len) {
		ssize_t n = send_some(qmp);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EINTR)
			fail(qmp, errno, "cannot send to QEMU");
		if (n > 0)
			strbuf_consume(&qmp->out, (size_t)n);
	}
	if (!qmp->closed)
		loop_fd_set(&qmp->src, EPOLLIN | (qmp->out.len ? EPOLLOUT : 0));
}

static void on_ready(struct qmp *qmp)
{
	qmp->ready = true;
	qmp->pass_at += qmp->out.len;
	strbuf_add(&qmp->out, qmp->held.data, qmp->held.len);
	strbuf_deinit(&qmp->held);
	flush(qmp);
}

static void on_answer(struct qmp *qmp, const struct qmp_message *m)
{
	struct command *c, *found = NULL;
	struct err err = ERR_INIT;

	if (!qmp->ready && m->id == 0) {
		if (m->kind == QMP_ERROR)
			fail(qmp, EPROTO, "QEMU refused to negotiate");
		else if (qmp->greeted)
			on_ready(qmp);
		return;
	}
	list_foreach (c, &qmp->commands, link)
		if (c->id == m->id)
			found = c;
	if (!found)
		return;
	if (m->kind == QMP_ERROR)
		err_set(&err, EIO, "QEMU refused '%s': %s", found->name, m->desc);
	command_finish(found, m->kind == QMP_RETURN ? m->data : NULL, err.code ? &err : NULL);
}

static void on_line(struct qmp *qmp, const char *line, size_t len)
{
	struct qmp_message m;
	int r = qmp_message_parse(line, len, &m);

	if (r < 0) {
		fail(qmp, -r, "QEMU sent what is no QMP message");
		return;
	}
	if (m.kind == QMP_EVENT) {
		if (qmp->events.event)
			qmp->events.event(qmp, m.name, m.data, qmp->events.arg);
	} else if (m.kind == QMP_GREETING) {
		if (!qmp->greeted) {
			qmp->greeted = true;
			strbuf_adds(&qmp->out, "{\"execute\":\"qmp_capabilities\"}\n");
			flush(qmp);
		}
	} else {
		on_answer(qmp, &m);
	}
	json_decref(m.root);
}

/* Handles the whole lines in the buffer. False: the client was freed meanwhile. */
static bool handle_lines(struct qmp *qmp)
{
	bool freed = false, *outer = qmp->freed;
	size_t done = 0;
	char *nl;

	qmp->freed = &freed;
	while (!qmp->closed && (nl = memchr(qmp->in.data + done, '\n', qmp->in.len - done))) {
		size_t len = (size_t)(nl - qmp->in.data) - done;

		if (len && qmp->in.data[done + len - 1] == '\r')
			on_line(qmp, qmp->in.data + done, len - 1);
		else if (len)
			on_line(qmp, qmp->in.data + done, len);
		if (freed) {
			if (outer)
				*outer = true;
			return false;
		}
		done += len + 1;
	}
	qmp->freed = outer;
	strbuf_consume(&qmp->in, done);
	if (qmp->in.len > LIMIT_QMP_LINE)
		fail(qmp, EMSGSIZE, "QEMU sent a line that is too long");
	return true;
}

/* One read. True while there may be more. */
static bool read_some(struct qmp *qmp)
{
	char buf[16384];
	ssize_t n = recv(qmp->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		fail(qmp, n < 0 ? errno : EPIPE, "the connection to QEMU has ended");
		return false;
	}
	strbuf_add(&qmp->in, buf, (size_t)n);
	if (strbuf_error(&qmp->in)) {
		fail(qmp, ENOMEM, "cannot read from QEMU");
		return false;
	}
	return handle_lines(qmp) && !qmp->closed;
}

static void on_fd(struct loop_fd *src, uint32_t events)
{
	struct qmp *qmp = container_of(src, struct qmp, src);

	if (events & EPOLLOUT)
		flush(qmp);
	if (!qmp->closed && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		read_some(qmp);
}

void qmp_drain(struct qmp *qmp)
{
	/* What one socket buffer holds; a QEMU that still runs and floods does not keep us here. */
	for (int i = 0; i < 64 && !qmp->closed; i++)
		if (!read_some(qmp))
			break;
}

int qmp_new(struct loop *loop, int fd, const struct qmp_events *events, struct qmp **ret_qmp)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	int r = qmp ? fd_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0)
		r = loop_fd_add(loop, &qmp->src, fd, EPOLLIN, on_fd);
	if (r < 0) {
		safe_close(fd);
		free(qmp);
		return r;
	}
	qmp->loop = loop;
	qmp->fd = fd;
	qmp->pass_fd = -1;
	qmp->events = *events;
	list_init(&qmp->commands);
	*ret_qmp = qmp;
	return 0;
}

struct qmp *qmp_free(struct qmp *qmp)
{
	struct command *c, *tmp;

	if (!qmp)
		return NULL;
	if (qmp->freed)
		*qmp->freed = true;
	list_foreach_safe (c, tmp, &qmp->commands, link)
		command_free(c);
	loop_fd_remove(&qmp->src);
	loop_defer_cancel(&qmp->failing);
	safe_close(qmp->fd);
	safe_close(qmp->pass_fd);
	strbuf_deinit(&qmp->in);
	strbuf_deinit(&qmp->out);
	strbuf_deinit(&qmp->held);
	free(qmp);
	return NULL;
}

/* Puts the command's line into to. Consumes args. */
static int encode(struct strbuf *to, const char *name, json_t *args, uint64_t id)
{
	json_t *root = args ? json_pack("{s:s,s:o,s:I}", "execute", name, "arguments", args, "id",
				      (json_int_t)id)
			    : json_pack("{s:s,s:I}", "execute", name, "id", (json_int_t)id);
	auto_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	if (!text)
		return -ENOMEM;
	strbuf_adds(to, text);
	strbuf_addc(to, '\n');
	return strbuf_error(to);
}

int qmp_command_fd(struct qmp *qmp, const char *name, json_t *args, int fd, int64_t deadline,
	qmp_done done, void *arg)
{
	struct strbuf *to = qmp->ready ? &qmp->out : &qmp->held;
	int copy, r;

	if (qmp->pass_fd >= 0) {
		json_decref(args);
		return -EBUSY;
	}
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0) {
		json_decref(args);
		return -errno;
	}
	qmp->pass_fd = copy;
	qmp->pass_at = to->len;
	r = qmp_command(qmp, name, args, deadline, done, arg);
	if (r < 0)
		qmp->pass_fd = safe_close(qmp->pass_fd);
	return r;
}

int qmp_command(
	struct qmp *qmp, const char *name, json_t *args, int64_t deadline, qmp_done done, void *arg)
{
	struct command *c = NULL;
	int r;

	if (qmp->closed)
		r = -EPIPE;
	else if (qmp->n_commands >= LIMIT_QMP_PENDING || qmp->out.len > LIMIT_QMP_LINE)
		r = -EAGAIN; /* also when QEMU does not read, whatever became of earlier commands */
	else
		r = (c = calloc(1, sizeof(*c))) ? 0 : -ENOMEM;
	if (r < 0) {
		json_decref(args);
		return r;
	}
	c->qmp = qmp;
	c->id = ++qmp->last_id;
	c->done = done;
	c->arg = arg;
	strncpy(c->name, name, sizeof(c->name) - 1);
	list_add_tail(&qmp->commands, &c->link);
	qmp->n_commands++;
	r = encode(qmp->ready ? &qmp->out : &qmp->held, name, args, c->id);
	if (r == 0)
		r = loop_timer_arm(qmp->loop, &c->timer, deadline, on_deadline);
	if (r < 0) {
		command_free(c);
		return r;
	}
	if (qmp->ready)
		flush(qmp);
	return 0;
}
