/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command of micropod's own, as a child in a process group of its own: its output goes out as it
 * comes, as fast as the caller takes it. When the call ends before it does, the group is asked to
 * end, and killed a while later.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "runner/runner.h"

#define API(name)  Micropod__Host__V1__##name
#define CHUNK	   65536
#define KILL_AFTER (10 * NSEC_PER_SEC)
#define STREAMS	   2

/* What can be asked for from far away: nothing that wants a terminal, nothing that serves. */
static const char *const verbs[] = { "create", "start", "restart", "rm", "events", "logs",
	"inspect", "pull", "images", "rmi", "load", "prune", "doctor", "setup", "template",
	"version", "ps", "update", "rename", "tag", "push", "history", "image prune", "system df",
	"diff", "commit", "pod create", "pod ls", "pod inspect", "pod rm", "pod start", "pod stop",
	"network create", "network ls", "network inspect", "network rm", "network prune",
	"volume create", "volume ls", "volume inspect", "volume rm", "volume prune" };

struct command;

struct output {
	struct command *command;
	struct loop_fd src;
	int fd; /* -1: at its end */
};

struct command {
	struct runner *runner;
	struct rpc_call *call; /* a reference; NULL once it is done */
	struct output out[STREAMS];
	int input; /* -1: closed */
	struct loop_fd input_src;
	struct strbuf queue; /* for input */
	struct loop_child child;
	pid_t pid; /* 0: not running */
	int code;
	struct loop_timer kill_timer;
};

static void pump(struct command *c);

static void free_command(struct command *c)
{
	for (int i = 0; i < STREAMS; i++) {
		loop_fd_remove(&c->out[i].src);
		safe_close(c->out[i].fd);
	}
	loop_fd_remove(&c->input_src);
	safe_close(c->input);
	loop_timer_disarm(&c->kill_timer);
	strbuf_deinit(&c->queue);
	rpc_call_unref(c->call);
	free(c);
}

/* Nobody listens any more, and nothing runs. */
static void end(struct command *c)
{
	API(CommandEvent) event = MICROPOD__HOST__V1__COMMAND_EVENT__INIT;

	if (c->pid || (c->call && (c->out[0].fd >= 0 || c->out[1].fd >= 0)))
		return;
	if (c->call) {
		rpc_call_set_ops(c->call, NULL, NULL);
		event.kind_case = MICROPOD__HOST__V1__COMMAND_EVENT__KIND_EXIT_CODE;
		event.exit_code = c->code;
		rpc_call_reply(c->call, &event.base);
	}
	free_command(c);
}

/* Output */

static void on_output(struct loop_fd *src, uint32_t events)
{
	pump(container_of(src, struct output, src)->command);
}

/* False: it waits, for more of it or for the caller. */
static bool pass_on(struct command *c, int i)
{
	API(CommandEvent) event = MICROPOD__HOST__V1__COMMAND_EVENT__INIT;
	struct output *out = &c->out[i];
	uint8_t buf[CHUNK];
	ssize_t n = read(out->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		loop_fd_remove(&out->src);
		out->fd = safe_close(out->fd);
		return false;
	}
	event.kind_case = i ? MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDERR
			    : MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDOUT;
	event.stdout = (ProtobufCBinaryData){ (size_t)n, buf };
	return rpc_call_send(c->call, &event.base) == 0;
}

static void pump(struct command *c)
{
	for (int i = 0; i < STREAMS; i++) {
		while (c->call && c->out[i].fd >= 0 && rpc_call_writable(c->call) && pass_on(c, i))
			;
		/* A hang-up comes whether it is wanted or not. */
		if (c->out[i].fd < 0)
			continue;
		if (c->call && rpc_call_writable(c->call) && !c->out[i].src.loop)
			loop_fd_add(
				c->runner->loop, &c->out[i].src, c->out[i].fd, EPOLLIN, on_output);
		else if (c->call && !rpc_call_writable(c->call))
			loop_fd_remove(&c->out[i].src);
	}
	end(c);
}

/* Input */

static void on_room(struct loop_fd *src, uint32_t events);

static void close_input(struct command *c)
{
	loop_fd_remove(&c->input_src);
	c->input = safe_close(c->input);
	strbuf_deinit(&c->queue);
}

static void write_input(struct command *c)
{
	while (c->input >= 0 && c->queue.len) {
		ssize_t n = write(c->input, c->queue.data, c->queue.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (!c->input_src.loop)
				loop_fd_add(c->runner->loop, &c->input_src, c->input, EPOLLOUT,
					on_room);
			return;
		}
		if (n < 0) {
			close_input(c);
			break;
		}
		strbuf_consume(&c->queue, (size_t)n);
	}
	if (c->input_src.loop) {
		loop_fd_remove(&c->input_src);
		rpc_call_resume(c->call);
	}
}

static void on_room(struct loop_fd *src, uint32_t events)
{
	struct command *c = container_of(src, struct command, input_src);

	if (c->call)
		write_input(c);
	else
		close_input(c);
}

/* The child */

static void on_kill_time(struct loop_timer *timer)
{
	struct command *c = container_of(timer, struct command, kill_timer);

	if (c->pid)
		kill(-c->pid, SIGKILL);
}

static void on_exit_status(struct loop_child *child, int wstatus)
{
	struct command *c = container_of(child, struct command, child);

	c->pid = 0;
	c->code = proc_exit_code(wstatus);
	close_input(c);
	pump(c);
}

static int check_verb(const API(CommandStart) * start)
{
	for (size_t i = 0; start->n_args && i < ARRAY_SIZE(verbs); i++)
		if (start->args[0].len == strlen(verbs[i]) &&
			memcmp(start->args[0].data, verbs[i], start->args[0].len) == 0)
			return 0;
	return -EPERM;
}

static int spawn(struct command *c, const struct strv *argv, struct err *err)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, diag[2] = { -1, -1 }, pidfd, r;
	struct proc_opts opts = {
		.path = argv->v[0], .argv = argv->v, .cwd = "/", .new_session = true
	};

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(diag, O_CLOEXEC) < 0) {
		r = err_errno(err, errno, "cannot run a command");
	} else {
		opts.stdin_fd = in[0];
		opts.stdout_fd = out[1];
		opts.stderr_fd = diag[1];
		r = proc_spawn(&opts, &c->pid, &pidfd, err);
	}
	safe_close(in[0]);
	safe_close(out[1]);
	safe_close(diag[1]);
	c->input = in[1];
	c->out[0].fd = out[0];
	c->out[1].fd = diag[0];
	if (r < 0)
		return r;
	fd_set_nonblock(c->input, true);
	fd_set_nonblock(c->out[0].fd, true);
	fd_set_nonblock(c->out[1].fd, true);
	return loop_child_add(c->runner->loop, &c->child, c->pid, pidfd, on_exit_status);
}

static int start(struct command *c, const API(CommandStart) * req, struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	int r = check_verb(req);

	if (r < 0)
		return err_set(err, EPERM, "this command cannot be run on another host");
	r = strv_add(&argv, c->runner->program);
	if (r == 0)
		r = strv_addf(&argv, "--root=%s", c->runner->root->path);
	for (size_t i = 0; r == 0 && i < req->n_args; i++) {
		if (memchr(req->args[i].data, 0, req->args[i].len))
			return err_set(err, EINVAL, "an argument has a zero byte in it");
		r = strv_addn(&argv, (const char *)req->args[i].data, req->args[i].len);
	}
	return r < 0 ? err_errno(err, -r, "cannot run a command") : spawn(c, &argv, err);
}

/* The call */

static void on_request(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const API(CommandRequest) *req = (const API(CommandRequest) *)msg;
	struct command *c = arg;
	struct err err = ERR_INIT;

	if (req->kind_case == MICROPOD__HOST__V1__COMMAND_REQUEST__KIND_START && !c->pid) {
		if (start(c, req->start, &err) < 0)
			rpc_call_finish_code(call,
				err.code == EPERM ? RPC_PERMISSION_DENIED : RPC_INVALID_ARGUMENT,
				"%s", err.msg);
		else
			pump(c);
	} else if (req->kind_case == MICROPOD__HOST__V1__COMMAND_REQUEST__KIND_STDIN && c->pid) {
		if (c->input < 0)
			return;
		strbuf_add(&c->queue, req->stdin.data, req->stdin.len);
		write_input(c);
		if (c->queue.len)
			rpc_call_pause(call);
	} else {
		rpc_call_finish_code(
			call, RPC_INVALID_ARGUMENT, "the first request says what to run");
	}
}

static void on_end(struct rpc_call *call, void *arg)
{
	struct command *c = arg;

	close_input(c);
	if (!c->pid && c->out[0].fd < 0)
		rpc_call_finish_code(
			call, RPC_INVALID_ARGUMENT, "the first request says what to run");
}

static void on_writable(struct rpc_call *call, void *arg)
{
	pump(arg);
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct command *c = arg;

	c->call = rpc_call_unref(c->call);
	if (c->pid) {
		kill(-c->pid, SIGTERM);
		loop_timer_arm(
			c->runner->loop, &c->kill_timer, deadline_in(KILL_AFTER), on_kill_time);
	}
	end(c);
}

static const struct rpc_call_ops ops = {
	.message = on_request, .end = on_end, .writable = on_writable, .done = on_done
};

void runner_command(struct rpc_call *call, void *runner)
{
	struct command *c = calloc(1, sizeof(*c));

	if (!c) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	c->runner = runner;
	c->call = rpc_call_ref(call);
	c->input = -1;
	for (int i = 0; i < STREAMS; i++)
		c->out[i] = (struct output){ .command = c, .fd = -1 };
	rpc_call_set_ops(call, &ops, c);
}
