/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the workload's output goes into the same rings that Attach reads, and one more
 * reader of each copies it to our own stdout and stderr, which the engine keeps as the container's
 * log; input comes from our stdin in the same way. A terminal outside is set raw, since the
 * workload has one of its own. When the workload has ended and its output is written, whoever asked
 * for its exit over gRPC is answered, and we exit as it did: where there is a server that we dial,
 * not before it has said (Shutdown) that it knows, or is not to be reached.
 */
#include "agent/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/dialout.h"
#include "agent/seal.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "io/addr.h"

#define CONTAINER_ID "main"
#define ANSWER_TIME  (2 * NSEC_PER_SEC) /* for who asked for the exit */
#define SERVER_TIME  (2 * NSEC_PER_SEC) /* after the exit, for a server that is not connected */
#define READERS_TIME                                                                \
	(70 * NSEC_PER_SEC) /* after the exit, for one that is and lets others read \
			     */
#define CHUNK LIMIT_OUTPUT_CHUNK

/* One of our own stdout and stderr. */
struct copy {
	struct takeover *takeover;
	int fd;
	bool made_nonblock; /* by us: others may hold the same open file */
	struct ring_reader reader;
	struct loop_fd src; /* while it takes nothing */
};

struct takeover {
	struct loop *loop;
	struct agent *agent;
	struct strv args;
	const char *listen;
	struct process_watch watch; /* the workload */
	struct copy copies[STREAMS_MAX];
	struct loop_fd input;
	struct loop_defer input_again; /* of a stdin that epoll does not take, a file */
	struct loop_signals signals;
	struct loop_timer answers;
	struct dialout_window window;
	struct dialout shim_dialout, server_dialout;
	/* To whom the workload's end is told; NULL: there is nobody. The other one, a server that
	 * was named besides the shim, hears of it if it asks in time. */
	struct tunnel_dialer *dialer, *other;
	unsigned dialers_left;
	struct loop_timer server; /* until we do not wait for it any more */
	struct loop_timer grace;  /* of a Shutdown */
	bool input_waits;	  /* for room in the workload's queue */
	bool tty, ending, leaving;
	bool swept;	/* what the workload has left is killed */
	bool connected; /* to the server */
	bool released;	/* it knows how the workload ended */
	bool raw;	/* the terminal is, and was as in before */
	struct termios before;
	int code;
};

/* Output */

static void copy_output(struct copy *c);

static void on_output_room(struct loop_fd *src, uint32_t events)
{
	struct copy *c = container_of(src, struct copy, src);

	loop_fd_remove(src);
	copy_output(c);
}

static void end(struct takeover *t);

static void copy_output(struct copy *c)
{
	struct process *p = c->takeover->watch.process;
	struct ring_piece piece;

	while (c->reader.ring && !c->src.loop && ring_peek(&c->reader, CHUNK, false, &piece)) {
		ssize_t n = write(c->fd, piece.data, piece.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN &&
			loop_fd_add(c->takeover->loop, &c->src, c->fd, EPOLLOUT, on_output_room) ==
				0)
			break;
		/* Nobody reads it, or it is full: the workload goes on, as it would with a log that
		 * is lost. */
		if (n < 0) {
			c->reader.ring->policy = RING_DROP;
			ring_detach(&c->reader);
			break;
		}
		ring_advance(&c->reader, piece.offset + (uint64_t)n);
	}
	streams_output_room(&p->io);
	end(c->takeover);
}

/* The end */

static void on_left(void *arg)
{
	struct takeover *t = arg;

	if (--t->dialers_left == 0)
		loop_stop(t->loop, 0);
}

static void leave_server(struct takeover *t, struct tunnel_dialer *dialer)
{
	if (dialer)
		tunnel_dialer_leave(dialer, deadline_in(ANSWER_TIME), on_left, t);
	else
		on_left(t);
}

static void on_answered(void *arg)
{
	struct takeover *t = arg;

	if (t->leaving)
		return;
	t->leaving = true;
	loop_timer_disarm(&t->answers);
	t->dialers_left = 2;
	leave_server(t, t->dialer);
	leave_server(t, t->other);
}

static void on_answer_deadline(struct loop_timer *timer)
{
	on_answered(container_of(timer, struct takeover, answers));
}

static bool all_copied(const struct takeover *t)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		const struct ring_reader *r = &t->copies[i].reader;

		if (r->ring && r->offset < r->ring->end)
			return false;
	}
	return true;
}

/* Nobody has to be waited for but who asked already. */
static void leave_soon(struct takeover *t)
{
	loop_timer_disarm(&t->server);
	loop_timer_arm(t->loop, &t->answers, deadline_in(ANSWER_TIME), on_answer_deadline);
	rpc_server_drain(t->agent->server, on_answered, t);
}

static void on_server_deadline(struct loop_timer *timer)
{
	leave_soon(container_of(timer, struct takeover, server));
}

static void wait_for_server(struct takeover *t)
{
	int64_t time = tunnel_dialer_connected(t->dialer) ? READERS_TIME : SERVER_TIME;

	loop_timer_arm(t->loop, &t->server, deadline_in(time), on_server_deadline);
}

static void end(struct takeover *t)
{
	const struct process *p = t->watch.process;

	if (t->ending || !process_output_complete(p) || !all_copied(t))
		return;
	t->ending = true;
	t->code = p->exit.code;
	loop_timer_disarm(&t->grace);
	if (t->dialer && !t->released)
		wait_for_server(t);
	else
		leave_soon(t);
}

/* The server */

static void on_server_changed(void *arg, const char *why)
{
	struct takeover *t = arg;

	/* The workload's output is no place for it: `logs --system` of the server's side has it. */
	if (why)
		log_debug("server: %s", why);
	/* An attempt that fails is nothing new. */
	if (t->connected == !why)
		return;
	t->connected = !why;
	if (t->ending && !t->leaving && !t->released)
		wait_for_server(t);
}

static void on_grace(struct loop_timer *timer)
{
	struct takeover *t = container_of(timer, struct takeover, grace);
	struct container *c = container_find(t->agent, CONTAINER_ID);

	if (c)
		container_kill(c);
}

static void on_shutdown(void *arg, int64_t grace_ns)
{
	struct takeover *t = arg;
	struct container *c = container_find(t->agent, CONTAINER_ID);

	t->released = true;
	if (t->ending) {
		leave_soon(t);
	} else if (c) {
		container_signal(c, c->stop_signal);
		loop_timer_arm(t->loop, &t->grace, deadline_in(grace_ns), on_grace);
	}
}

/* Input */

static void read_input(struct takeover *t);

static void on_input(struct loop_fd *src, uint32_t events)
{
	read_input(container_of(src, struct takeover, input));
}

static void on_input_again(struct loop_defer *defer)
{
	read_input(container_of(defer, struct takeover, input_again));
}

static void read_input(struct takeover *t)
{
	struct streams *io = &t->watch.process->io;
	char buf[CHUNK];
	ssize_t n;

	if (streams_input_full(io)) {
		loop_fd_remove(&t->input);
		t->input_waits = true; /* on_change() goes on */
		return;
	}
	n = read(STDIN_FILENO, buf, sizeof(buf));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0 || streams_input(io, buf, (size_t)n) < 0) {
		loop_fd_remove(&t->input);
		streams_input_close(io);
		return;
	}
	if (!t->input.loop)
		loop_defer_queue(t->loop, &t->input_again, on_input_again);
}

static void begin_input(struct takeover *t)
{
	int r = loop_fd_add(t->loop, &t->input, STDIN_FILENO, EPOLLIN, on_input);

	if (r == -EPERM)
		read_input(t);
	else if (r < 0)
		streams_input_close(&t->watch.process->io);
}

/* All below pid. Each is stopped first, so that it makes no more meanwhile. */
static void kill_below(pid_t pid, int depth)
{
	char path[64];
	auto_fclose FILE *f = NULL;
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = depth < LIMIT_PATH_DEPTH ? fopen(path, "re") : NULL;
	while (f && fscanf(f, "%d", &child) == 1) {
		kill(child, SIGSTOP);
		kill_below(child, depth + 1);
		kill(child, SIGKILL);
	}
}

/* With its first process a container ends: the kernel sees to that when it is process 1, as we are
 * in its place, or somebody in ours (an engine's own init, or the host's: then not all are ours).
 */
static void kill_rest(struct takeover *t)
{
	if (t->swept)
		return;
	t->swept = true;
	if (getpid() == 1)
		kill(-1, SIGKILL);
	else
		kill_below(getpid(), 0);
}

static void on_change(struct process_watch *watch)
{
	struct takeover *t = container_of(watch, struct takeover, watch);

	if (watch->process->state == PROCESS_EXITED)
		kill_rest(t);
	for (int i = 0; i < STREAMS_MAX; i++)
		copy_output(&t->copies[i]);
	if (t->input_waits && !streams_input_full(&watch->process->io)) {
		t->input_waits = false;
		begin_input(t);
	}
	end(t);
}

/* Signals */

static void on_signal(struct loop_signals *signals, const struct signalfd_siginfo *info)
{
	struct takeover *t = container_of(signals, struct takeover, signals);
	struct container *c = container_find(t->agent, CONTAINER_ID);
	struct winsize size;

	if (info->ssi_signo == SIGWINCH && t->tty) {
		if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
			streams_resize(&t->watch.process->io, size.ws_row, size.ws_col);
	} else if (c) {
		container_signal(c, (int)info->ssi_signo);
	}
}

/* All that can be passed on; faults are our own, and SIGCHLD is the waiter's. */
static int watch_signals(struct takeover *t)
{
	static const int own[] = { SIGCHLD, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT,
		SIGSYS, SIGPIPE, SIGKILL, SIGSTOP };
	sigset_t mask;

	sigfillset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&mask, own[i]);
	return loop_signals_add(t->loop, &t->signals, &mask, on_signal);
}

/* Start */

static void set_raw(struct takeover *t)
{
	struct termios raw;

	if (!t->tty || tcgetattr(STDIN_FILENO, &t->before) < 0)
		return;
	raw = t->before;
	cfmakeraw(&raw);
	t->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static int dial_servers(struct takeover *t)
{
	struct dialout *first = &t->shim_dialout, *second = &t->server_dialout;
	int r = 0;

	if (!first->wanted) {
		first = &t->server_dialout;
		second = &t->shim_dialout;
	}
	if (first->wanted)
		r = dialout_start(
			first, t->loop, t->agent->server, on_server_changed, t, &t->dialer);
	if (r == 0 && second->wanted)
		r = dialout_start(second, t->loop, t->agent->server, NULL, NULL, &t->other);
	return r;
}

static void on_started(void *arg, struct container *c, const struct failure *f)
{
	struct takeover *t = arg;

	if (f) {
		fprintf(stderr, "micropod-agent: %s\n", f->err.msg);
		/* As a shell and Docker have them. */
		t->code = f->err.code == ENOENT ? 127 : 126;
		loop_stop(t->loop, 0);
		return;
	}
	for (int i = 0; i < STREAMS_MAX; i++) {
		struct copy *copy = &t->copies[i];

		copy->takeover = t;
		copy->fd = STDOUT_FILENO + i;
		copy->made_nonblock = !(fcntl(copy->fd, F_GETFL) & O_NONBLOCK);
		if (copy->made_nonblock)
			fd_set_nonblock(copy->fd, true);
		ring_attach(&container_init(c)->io.out[i].ring, &copy->reader, 0);
	}
	process_watch(container_init(c), &t->watch, on_change);
	if (dial_servers(t) < 0)
		log_error("out of memory: no server is dialled");
	set_raw(t);
	begin_input(t);
	on_change(&t->watch);
}

static int take_over(struct takeover *t, struct err *err)
{
	struct container_self self = { .id = CONTAINER_ID, .args = &t->args, .tty = t->tty };
	struct agent_opts opts = { .self = true, .self_shutdown = on_shutdown, .self_arg = t };
	struct failure f = FAILURE_INIT;
	struct winsize size;
	struct addr addr;
	int r = agent_new(t->loop, &opts, &t->agent, err);

	if (r < 0)
		return r;
	r = watch_signals(t);
	if (r < 0)
		return err_errno(err, -r, "cannot watch signals");
	if (t->listen) {
		r = addr_parse(t->listen, &addr, err);
		if (r == 0)
			r = addr_listen(&addr, 0600, err);
		if (r < 0)
			return r;
		r = rpc_server_listen(t->agent->server, r);
		if (r < 0)
			return err_errno(err, -r, "cannot listen at '%s'", t->listen);
	}
	if (t->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row) {
		self.rows = size.ws_row;
		self.columns = size.ws_col;
	} else if (t->tty) {
		self.rows = t->window.rows;
		self.columns = t->window.columns;
	}
	r = container_take_over(t->agent, &self, (struct container_done){ on_started, t }, &f);
	if (r < 0)
		*err = f.err;
	return r;
}

static void leave(struct takeover *t)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		loop_fd_remove(&t->copies[i].src);
		ring_detach(&t->copies[i].reader);
		if (t->copies[i].made_nonblock)
			fd_set_nonblock(t->copies[i].fd, false);
	}
	if (t->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
	loop_fd_remove(&t->input);
	loop_defer_cancel(&t->input_again);
	loop_timer_disarm(&t->answers);
	loop_timer_disarm(&t->server);
	loop_timer_disarm(&t->grace);
	tunnel_dialer_free(t->dialer);
	tunnel_dialer_free(t->other);
	dialout_deinit(&t->shim_dialout);
	dialout_deinit(&t->server_dialout);
	loop_signals_remove(&t->signals);
	process_unwatch(&t->watch);
	agent_free(t->agent);
	loop_free(t->loop);
	strv_deinit(&t->args);
}

static const char usage[] =
	"usage: micropod-agent start [--listen unix:PATH] [--] COMMAND [ARG...]\n"
	"\n"
	"Runs COMMAND as the first process of this container would be run, and ends as it does.\n"
	"\n"
	"  --listen unix:PATH   serve the agent's API there\n"
	"\n"
	"Environment, not passed on:\n"
	"  AGENT_SERVER_URL     server to dial: unix:///PATH, http://IP:PORT; micropod-agent-tls\n"
	"                       also https://HOST:PORT\n"
	"  AGENT_TOKEN          who we are there, good once\n"
	"  AGENT_SERVER_PIN     with https: SHA-256 of the server's certificate, in hex; or\n"
	"  AGENT_SERVER_CA      the authorities to trust, the text of a PEM file\n"
	"  AGENT_INSECURE_PLAINTEXT=1   send the token over a network in plain\n"
	"  AGENT_WINDOW=ROWSxCOLUMNS    size of a terminal that has none yet\n";

/* -1 to go on, else the exit code. */
static int parse(struct takeover *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	/* "+": what follows the command is the command's. */
	while ((c = getopt_long(argc - 1, argv + 1, "+h", options, NULL)) >= 0) {
		if (c == 'h')
			fputs(usage, stdout);
		if (c != 'l')
			return c == 'h' ? 0 : 125;
		t->listen = optarg;
	}
	for (int i = optind + 1; i < argc; i++)
		if (strv_add(&t->args, argv[i]) < 0)
			return 125;
	if (!t->args.n) {
		fputs("micropod-agent: start: no command (see --help)\n", stderr);
		return 125;
	}
	return -1;
}

int takeover_main(int argc, char **argv)
{
	struct takeover t = { .tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO), .code = 125 };
	struct err err = ERR_INIT;
	int r = parse(&t, argc, argv);

	if (r >= 0)
		return r;
	log_init("agent", 2, LOG_LEVEL_ERROR);
	/* Orphans come to us, also under another init. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (agent_seal_self(argv, &err) == 0 &&
		dialout_take(&t.shim_dialout, &t.server_dialout, &t.window, &err) == 0) {
		r = loop_new(&t.loop);
		if (r < 0)
			err_errno(&err, -r, "cannot set up the event loop");
		else if (take_over(&t, &err) == 0)
			loop_run(t.loop);
	}
	leave(&t);
	if (err.code)
		fprintf(stderr, "micropod-agent: %s\n", err.msg);
	return t.code;
}
