/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/stream.h"
#include "test.h"

#include <fcntl.h>

DEFINE_CLEANUP(loop, struct loop *, loop_free)

static struct loop *new_loop(void)
{
	struct loop *loop = NULL;

	REQUIRE(loop_new(&loop) == 0);
	return loop;
}

static int order[64], n_order;
static struct loop_timer timers[32];

static void on_timer(struct loop_timer *t)
{
	order[n_order++] = (int)(t - timers);
}

static void timers_fire_in_order(void)
{
	auto_clean(loop) struct loop *loop = new_loop();
	int64_t base = clock_monotonic();

	n_order = 0;
	memset(timers, 0, sizeof(timers));
	for (int i = 0; i < 32; i++)
		CHECK_INT(
			loop_timer_arm(loop, &timers[i], base + ((i * 7) % 32) * 100, on_timer), 0);
	loop_timer_disarm(&timers[5]);
	loop_timer_disarm(&timers[5]);
	CHECK_INT(loop_timer_arm(loop, &timers[6], base + 32 * 100, on_timer), 0);
	while (n_order < 31)
		CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	for (int i = 1; i < 30; i++)
		CHECK((order[i - 1] * 7) % 32 < (order[i] * 7) % 32);
	CHECK_INT(order[30], 6);
}

struct pair_src {
	struct loop_fd src;
	struct pair_src *victim;
	int fired;
};

static void on_kill_other(struct loop_fd *src, uint32_t events)
{
	struct pair_src *p = container_of(src, struct pair_src, src);

	p->fired++;
	loop_fd_remove(&p->victim->src);
	loop_fd_remove(src);
}

static void removed_source_is_silent(void)
{
	auto_clean(loop) struct loop *loop = new_loop();
	struct pair_src a = { .victim = NULL }, b = { .victim = &a };
	int p1[2], p2[2];

	a.victim = &b;
	REQUIRE(fd_socketpair(p1) == 0 && fd_socketpair(p2) == 0);
	CHECK_INT(loop_fd_add(loop, &a.src, p1[0], EPOLLIN, on_kill_other), 0);
	CHECK_INT(loop_fd_add(loop, &b.src, p2[0], EPOLLIN, on_kill_other), 0);
	CHECK_INT(write(p1[1], "x", 1), 1);
	CHECK_INT(write(p2[1], "x", 1), 1);
	CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	CHECK_INT(a.fired + b.fired, 1);
	for (int i = 0; i < 2; i++) {
		close(p1[i]);
		close(p2[i]);
	}
}

struct again {
	struct loop_defer defer;
	struct loop *loop;
	int runs;
};

static void on_again(struct loop_defer *d)
{
	struct again *a = container_of(d, struct again, defer);

	if (++a->runs < 3)
		loop_defer_queue(a->loop, d, on_again);
	else
		loop_stop(a->loop, 5);
}

static void deferred_runs(void)
{
	auto_clean(loop) struct loop *loop = new_loop();
	struct again a = { .loop = loop }, b = { .loop = loop, .runs = 10 };

	loop_defer_queue(loop, &b.defer, on_again);
	loop_defer_cancel(&b.defer);
	loop_defer_queue(loop, &a.defer, on_again);
	loop_defer_queue(loop, &a.defer, on_again);
	CHECK_INT(loop_run(loop), 5);
	CHECK_INT(a.runs, 3);
	CHECK_INT(b.runs, 10);
}

static int child_status, last_signal;

static void on_exit_status(struct loop_child *c, int wstatus)
{
	child_status = wstatus;
}

static void on_sig(struct loop_signals *s, const struct signalfd_siginfo *info)
{
	last_signal = (int)info->ssi_signo;
}

static void children_and_signals(void)
{
	auto_clean(loop) struct loop *loop = new_loop();
	struct loop_child child = { 0 };
	struct loop_signals sigs = { 0 };
	sigset_t mask;
	pid_t pid = fork();

	if (pid == 0)
		_exit(9);
	child_status = -1;
	CHECK_INT(loop_child_add(
			  loop, &child, pid, (int)syscall(SYS_pidfd_open, pid, 0), on_exit_status),
		0);
	while (child_status < 0)
		CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	CHECK_INT(WEXITSTATUS(child_status), 9);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	CHECK_INT(loop_signals_add(loop, &sigs, &mask, on_sig), 0);
	raise(SIGUSR1);
	CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	CHECK_INT(last_signal, SIGUSR1);
	loop_signals_remove(&sigs);
}

static void addresses(void)
{
	struct err err = ERR_INIT;
	struct addr a;

	CHECK_INT(addr_parse("unix:///run/x", &a, &err), 0);
	CHECK_STR(a.path, "/run/x");
	CHECK_INT(addr_parse("vsock:any:1024", &a, &err), 0);
	CHECK_INT(a.port, 1024);
	CHECK_INT(addr_parse("tcp:[::1]:80", &a, &err), 0);
	CHECK_STR(a.host, "::1");
	CHECK_INT(addr_parse("tcp:localhost", &a, &err), -EINVAL);
	CHECK_INT(addr_parse("http://x", &a, &err), -EINVAL);
	CHECK_STR(
		err.msg, "'http://x' is no address: give unix:PATH, vsock:CID:PORT or tcp:IP:PORT");
	CHECK_INT(addr_parse("unix:", &a, &err), -EINVAL);
}

static void check_roundtrip(const char *text, struct err *err)
{
	struct addr a;
	auto_close int l = -1, c = -1, s = -1;
	char buf[3] = "";

	CHECK_INT(addr_parse(text, &a, err), 0);
	l = addr_listen(&a, 0600, err);
	CHECK(l >= 0);
	CHECK_INT(addr_accept(l), -EAGAIN);
	c = addr_dial(&a, deadline_in(NSEC_PER_SEC), err);
	CHECK(c >= 0);
	s = addr_accept(l);
	CHECK(s >= 0);
	CHECK_INT(write(c, "hi", 2), 2);
	CHECK_INT(read(s, buf, 2), 2);
	CHECK_STR(buf, "hi");
}

static void listen_and_dial(void)
{
	char dir[200] = "/tmp/test-io-XXXXXX", text[512];
	struct err err = ERR_INIT;
	struct addr a;
	auto_close int l = -1;

	REQUIRE(mkdtemp(dir));
	snprintf(text, sizeof(text), "unix:%s/s", dir);
	check_roundtrip(text, &err);
	check_roundtrip(text, &err); /* the stale socket file is replaced */
	CHECK_INT(addr_parse(text, &a, &err), 0);
	l = addr_listen(&a, 0600, &err);
	CHECK(l >= 0);
	CHECK_INT(addr_listen(&a, 0600, &err), -EADDRINUSE);
	l = safe_close(l);
	CHECK_INT(addr_dial(&a, DEADLINE_NONE, &err), -ECONNREFUSED);
	/* longer than sun_path */
	snprintf(text, sizeof(text), "%s/%0100d", dir, 0);
	CHECK_INT(fs_make_dirs(text, 0700), 0);
	snprintf(text, sizeof(text), "unix:%s/%0100d/s", dir, 0);
	check_roundtrip(text, &err);
	CHECK_INT(fs_remove_tree(AT_FDCWD, dir), 0);
}

static int sends_at_once(int fd)
{
	int on = -1;
	socklen_t len = sizeof(on);

	REQUIRE(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0);
	return on;
}

static void tcp_sends_at_once(void)
{
	struct err err = ERR_INIT;
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	struct addr a;
	char text[64];
	auto_close int l = -1, c = -1, d = -1, s = -1;

	CHECK_INT(addr_parse("tcp:127.0.0.1:0", &a, &err), 0);
	l = addr_listen(&a, 0600, &err);
	REQUIRE(l >= 0 && getsockname(l, (struct sockaddr *)&at, &len) == 0);
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", ntohs(at.sin_port));
	CHECK_INT(addr_parse(text, &a, &err), 0);
	c = addr_dial(&a, deadline_in(NSEC_PER_SEC), &err);
	d = addr_connect(&a, &err);
	s = addr_accept(l);
	REQUIRE(c >= 0 && d >= 0 && s >= 0);
	CHECK_INT(sends_at_once(c), 1);
	CHECK_INT(sends_at_once(d), 1);
	CHECK_INT(sends_at_once(s), 1);
}

static void stream_events(void *arg, uint32_t events)
{
	*(uint32_t *)arg |= events;
}

static void streams(void)
{
	auto_clean(loop) struct loop *loop = new_loop();
	struct io_stream *s = NULL;
	uint32_t seen = 0;
	char buf[8];
	int fds[2];

	REQUIRE(fd_socketpair(fds) == 0);
	REQUIRE(io_stream_new_fd(loop, fds[0], &s) == 0);
	s->on_event = stream_events;
	s->arg = &seen;
	CHECK_INT(io_stream_read(s, buf, sizeof(buf)), -EAGAIN);
	CHECK_INT(io_stream_writev(s, &(struct iovec){ "abc", 3 }, 1), 3);
	CHECK_INT(read(fds[1], buf, 3), 3);
	io_stream_want(s, EPOLLIN);
	CHECK_INT(write(fds[1], "z", 1), 1);
	CHECK_INT(loop_once(loop, deadline_in(NSEC_PER_SEC)), 0);
	CHECK(seen & EPOLLIN);
	CHECK_INT(io_stream_read(s, buf, sizeof(buf)), 1);
	close(fds[1]);
	CHECK_INT(io_stream_read(s, buf, sizeof(buf)), 0);
	CHECK_INT(io_stream_writev(s, &(struct iovec){ "abc", 3 }, 1), -EPIPE);
	s = io_stream_free(s);
}

TEST_MAIN(TEST(timers_fire_in_order), TEST(removed_source_is_silent), TEST(deferred_runs),
	TEST(children_and_signals), TEST(addresses), TEST(listen_and_dial), TEST(tcp_sends_at_once),
	TEST(streams))
