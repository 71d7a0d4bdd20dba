/* SPDX-License-Identifier: Apache-2.0 */
/* The waiter, workers, and process objects, with real children of this program. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/process.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"

static struct loop *loop;
static struct waiter *waiter;
static struct process_table table;

static void up(void)
{
	signal(SIGPIPE, SIG_IGN);
	REQUIRE(loop_new(&loop) == 0);
	REQUIRE(waiter_new(loop, &waiter) == 0);
	process_table_init(&table, loop, waiter);
}

static void down(void)
{
	process_table_deinit(&table);
	waiter = waiter_free(waiter);
	loop = loop_free(loop);
}

/* The digits that a process printed first, as a number. */
static long long printed_number(const void *data)
{
	long long value = 0;

	for (const char *p = data; *p >= '0' && *p <= '9'; p++)
		value = value * 10 + (*p - '0');
	return value;
}

/* A turn may make cond true and then wait, hence the short waits. */
#define RUN_UNTIL(cond, ms)                                                           \
	do {                                                                          \
		int64_t until_ = deadline_in((ms)*NSEC_PER_MSEC);                     \
		while (!(cond) && clock_monotonic() < until_)                         \
			loop_once(loop, MIN(until_, deadline_in(5 * NSEC_PER_MSEC))); \
		CHECK(cond);                                                          \
	} while (0)

static pid_t child_exits(int code)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(code);
	return pid;
}

static int statuses;
static int last_status;

static void on_status(struct waiter_child *child, int wstatus)
{
	statuses++;
	last_status = wstatus;
}

static void waiter_hands_over_known_children(void)
{
	struct waiter_child c;

	up();
	statuses = 0;
	waiter_watch(waiter, &c, child_exits(7), on_status);
	RUN_UNTIL(statuses == 1, 5000);
	CHECK_INT(WEXITSTATUS(last_status), 7);
	CHECK_INT(waiter_orphans(waiter), 0);
	down();
}

static void waiter_keeps_a_status_while_held(void)
{
	struct waiter_child c;
	pid_t pid;

	up();
	statuses = 0;
	waiter_hold(waiter);
	pid = child_exits(9);
	RUN_UNTIL(waiter_orphans(waiter) == 1, 5000);
	waiter_watch(waiter, &c, pid, on_status);
	CHECK_INT(statuses, 0); /* never from within the call */
	RUN_UNTIL(statuses == 1, 5000);
	CHECK_INT(WEXITSTATUS(last_status), 9);
	waiter_release(waiter);
	down();
}

/* Memory of its own: exact, unlike statm, and without pages of files that the kernel maps around a
 * fault. */
static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[128];
	long rss = 0;

	REQUIRE(f);
	while (!rss && fgets(line, sizeof(line), f))
		sscanf(line, "Anonymous: %ld", &rss);
	fclose(f);
	REQUIRE(rss);
	return rss;
}

/* ORPHANS children of a child that ends first: all of them become ours. */
static void waiter_reaps_orphans_in_flat_memory(void)
{
	const char *env = getenv("MICROPOD_TEST_LONG");
	unsigned want = env && *env == '1' ? 100000 : 10000, per = 200, made = 0;
	long before;

	up();
	REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	waiter_hold(waiter); /* the worst case: statuses are kept */
	for (; made < 1000; made += per + 1)
		if (fork() == 0) {
			for (unsigned i = 0; i < per; i++)
				if (fork() == 0)
					_exit(0);
			_exit(0);
		} else {
			RUN_UNTIL(waiter_orphans(waiter) >= made + per + 1, 20000);
		}
	before = rss_kib();
	for (; made < want && !test_state.failed; made += per + 1) {
		if (fork() == 0) {
			for (unsigned i = 0; i < per; i++)
				if (fork() == 0)
					_exit(0);
			_exit(0);
		}
		RUN_UNTIL(waiter_orphans(waiter) >= made + per + 1, 20000);
	}
	CHECK_INT(waiter_orphans(waiter), made);
	CHECK_INT(MAX(rss_kib(), before + 16), before + 16);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	waiter_release(waiter);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	down();
}

/* Workers */

static struct err worker_err;
static char worker_result[64];
static int workers_done;

static void on_worker(void *arg, const struct err *err, const char *result, size_t len)
{
	workers_done++;
	worker_err = *err;
	memset(worker_result, 0, sizeof(worker_result));
	memcpy(worker_result, result ? result : "", MIN(len, sizeof(worker_result) - 1));
}

static int work_result(void *arg, struct strbuf *result, struct err *err)
{
	/* None of the parent's descriptors is here. */
	strbuf_addf(result, "%d %s", fcntl(*(int *)arg, F_GETFD), "made");
	return 0;
}

static int work_fails(void *arg, struct strbuf *result, struct err *err)
{
	return err_set(err, ENOTDIR, "a reason");
}

static int work_dies(void *arg, struct strbuf *result, struct err *err)
{
	raise(SIGKILL);
	return 0;
}

static int work_hangs_on_fifo(void *arg, struct strbuf *result, struct err *err)
{
	return open(arg, O_RDONLY) < 0 ? -errno : 0;
}

static int work_talks_too_much(void *arg, struct strbuf *result, struct err *err)
{
	for (size_t i = 0; i <= LIMIT_WORKER_RESULT; i++)
		strbuf_addc(result, 'x');
	return 0;
}

static void run_worker(int (*run)(void *, struct strbuf *, struct err *), void *arg, int64_t ms)
{
	struct worker_opts o = { .run = run,
		.done = on_worker,
		.run_arg = arg,
		.deadline = deadline_in(ms * NSEC_PER_MSEC) };
	struct worker *w = NULL;

	workers_done = 0;
	REQUIRE(worker_start(loop, waiter, &o, &w, NULL) == 0);
	RUN_UNTIL(workers_done == 1, 5000);
}

static void workers_report(void)
{
	int fds[2];

	up();
	REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
	run_worker(work_result, &fds[0], 5000);
	CHECK_INT(worker_err.code, 0);
	CHECK_STR(worker_result, "-1 made");
	run_worker(work_fails, NULL, 5000);
	CHECK_INT(worker_err.code, ENOTDIR);
	CHECK_STR(worker_err.msg, "a reason");
	run_worker(work_dies, NULL, 5000);
	CHECK_INT(worker_err.code, EIO);
	run_worker(work_talks_too_much, NULL, 5000);
	CHECK_INT(worker_err.code, ENOBUFS);
	close(fds[0]);
	close(fds[1]);
	down();
}

static void worker_on_a_fifo_is_killed_at_its_deadline(void)
{
	char path[] = "/tmp/micropod-test-XXXXXX", fifo[64];

	up();
	REQUIRE(mkdtemp(path));
	snprintf(fifo, sizeof(fifo), "%s/fifo", path);
	REQUIRE(mkfifo(fifo, 0600) == 0);
	run_worker(work_hangs_on_fifo, fifo, 100);
	CHECK_INT(worker_err.code, ETIMEDOUT);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	unlink(fifo);
	rmdir(path);
	down();
}

/* Processes */

static struct process *start(const char *script, enum ring_policy policy, bool open_stdin)
{
	static int number;
	char id[16];
	struct process_opts o = {
		.container_id = "c", .exec_id = id, .policy = policy, .open_stdin = open_stdin
	};
	struct process *p = NULL;
	pid_t pid;

	snprintf(id, sizeof(id), "e%d", number++);
	REQUIRE(process_new(&table, &o, &p) == 0);
	pid = fork();
	if (pid == 0) {
		child_reset_signals();
		for (int i = 0; i < 3; i++)
			dup2(p->io.child[i], i);
		child_close_fds(3, NULL, 0);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	}
	process_started(p, pid);
	return p;
}

static void read_out(struct ring_reader *r, struct strbuf *into, struct process *p)
{
	struct ring_piece piece;

	while (ring_peek(r, SIZE_MAX, false, &piece)) {
		strbuf_add(into, piece.data, piece.len);
		ring_advance(r, piece.offset + piece.len);
	}
	streams_output_room(&p->io);
}

static void exit_comes_after_output(void)
{
	auto_strbuf struct strbuf text = STRBUF_INIT;
	struct ring_reader r;
	struct process *p;

	up();
	p = start("echo one; echo two >&2; exit 5", RING_BLOCK, false);
	RUN_UNTIL(process_output_complete(p), 5000);
	ring_attach(&p->io.out[STREAMS_OUT].ring, &r, 0);
	read_out(&r, &text, p);
	CHECK_STR(text.data, "one\n");
	CHECK_INT(p->io.out[STREAMS_ERR].ring.end, 4);
	CHECK_INT(p->exit.code, 5);
	CHECK_INT(p->exit.signal, 0);
	CHECK(p->exit.ended >= p->exit.started);
	down();
}

static void background_child_does_not_hold_the_exit(void)
{
	struct process *p;
	int64_t began = clock_monotonic();
	pid_t pid = 0;

	up();
	p = start("sleep 600 & echo $!; exit 3", RING_BLOCK, false);
	RUN_UNTIL(process_exit_known(p), 5000);
	CHECK(clock_monotonic() - began < 3 * NSEC_PER_SEC);
	CHECK_INT(p->exit.code, 3);
	CHECK(!streams_output_ended(&p->io));
	CHECK(process_output_complete(p));
	pid = (pid_t)printed_number(p->io.out[STREAMS_OUT].ring.data);
	CHECK(pid > 1);
	if (pid > 1)
		kill(pid, SIGKILL);
	RUN_UNTIL(streams_output_ended(&p->io), 5000);
	down();
}

static void late_output_of_children_is_waited_for(void)
{
	struct process *p;

	up();
	p = start("(sleep 0.05; echo late) & exit 0", RING_BLOCK, false);
	RUN_UNTIL(process_exit_known(p), 5000);
	CHECK_INT(p->io.out[STREAMS_OUT].ring.end, 5);
	down();
}

static void full_ring_stops_the_process(void)
{
	struct process *p;
	struct ring_reader r;
	auto_strbuf struct strbuf text = STRBUF_INIT;
	int64_t until;

	up();
	p = start("head -c 3000000 /dev/zero", RING_BLOCK, false);
	RUN_UNTIL(ring_space(&p->io.out[STREAMS_OUT].ring) == 0, 5000);
	until = deadline_in(100 * NSEC_PER_MSEC);
	while (clock_monotonic() < until)
		loop_once(loop, until);
	CHECK_INT(p->state, PROCESS_RUNNING);
	CHECK_INT(p->io.out[STREAMS_OUT].ring.end, LIMIT_RING);
	ring_attach(&p->io.out[STREAMS_OUT].ring, &r, 0);
	while (!process_output_complete(p) && clock_monotonic() < until + 5 * NSEC_PER_SEC) {
		read_out(&r, &text, p);
		loop_once(loop, deadline_in(5 * NSEC_PER_MSEC));
	}
	read_out(&r, &text, p);
	CHECK_INT(text.len, 3000000);
	CHECK_INT(p->exit.code, 0);
	down();
}

static void dropping_ring_lets_the_process_run(void)
{
	struct process *p;

	up();
	p = start("head -c 5000000 /dev/zero", RING_DROP, false);
	RUN_UNTIL(process_output_complete(p), 10000);
	CHECK_INT(p->io.out[STREAMS_OUT].ring.end, 5000000);
	CHECK_INT(p->io.out[STREAMS_OUT].ring.begin, 5000000 - LIMIT_RING);
	down();
}

static void killed_process_with_full_ring_is_known_to_be_dead(void)
{
	struct process *p;

	up();
	p = start("exec head -c 30000000 /dev/zero", RING_BLOCK, false);
	RUN_UNTIL(ring_space(&p->io.out[STREAMS_OUT].ring) == 0, 5000);
	CHECK_INT(process_signal(p, SIGKILL), 0);
	RUN_UNTIL(process_exit_known(p), 5000);
	CHECK_INT(p->exit.code, 128 + SIGKILL);
	CHECK_INT(p->exit.signal, SIGKILL);
	CHECK(!process_output_complete(p)); /* what is in the pipe is still to be read */
	CHECK_INT(process_signal(p, SIGKILL), -ESRCH);
	down();
}

static void input_is_bounded_and_exact(void)
{
	struct process *p;
	char block[8192];
	size_t sent = 0;
	int64_t until;

	up();
	memset(block, 'x', sizeof(block));
	p = start("sleep 0.2; wc -c", RING_BLOCK, true);
	while (!streams_input_full(&p->io) && sent < 10 * MIB) {
		CHECK_INT(streams_input(&p->io, block, sizeof(block)), 0);
		sent += sizeof(block);
	}
	CHECK(sent >= LIMIT_STDIN_QUEUE && sent < LIMIT_STDIN_QUEUE + MIB);
	CHECK_INT(p->io.taken, sent);
	streams_input_close(&p->io);
	CHECK_INT(streams_input(&p->io, "y", 1), -EPIPE);
	RUN_UNTIL(process_output_complete(p), 5000);
	CHECK_INT(printed_number(p->io.out[STREAMS_OUT].ring.data), sent);
	/* A process that does not read its stdin loses it, and nothing else happens. */
	p = start("exec <&-; sleep 0.2", RING_BLOCK, true);
	until = deadline_in(5 * NSEC_PER_SEC);
	while (p->state == PROCESS_RUNNING && clock_monotonic() < until) {
		CHECK_INT(streams_input(&p->io, block, 100), 0);
		loop_once(loop, deadline_in(20 * NSEC_PER_MSEC));
	}
	CHECK_INT(p->exit.code, 0);
	down();
}

static void fake_terminal_is_refused(void)
{
	struct process_opts o = { .container_id = "c", .exec_id = "t", .tty = true };
	struct process *p = NULL;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

	up();
	REQUIRE(process_new(&table, &o, &p) == 0);
	CHECK_INT(streams_set_master(&p->io, null), -ENOTTY);
	CHECK_INT(streams_set_master(&p->io, file), -ENOTTY);
	CHECK_INT(streams_set_master(&p->io, master), 0);
	CHECK_INT(streams_resize(&p->io, 0, 5), -EINVAL);
	CHECK_INT(streams_resize(&p->io, 10, 5), 0);
	down();
}

static void finished_processes_are_kept_up_to_a_limit(void)
{
	struct process_watch watch;
	struct process *p, *first;
	size_t n = 0;

	up();
	first = start("exit 1", RING_BLOCK, false);
	RUN_UNTIL(process_exit_known(first), 5000);
	process_watch(first, &watch, NULL);
	for (int i = 0; i < LIMIT_KEPT_PROCESSES + 20; i++) {
		p = start("exit 0", RING_BLOCK, false);
		RUN_UNTIL(process_exit_known(p), 5000);
	}
	list_foreach (p, &table.list, link)
		n++;
	CHECK_INT(n, LIMIT_KEPT_PROCESSES);
	CHECK_INT(table.n, n);
	CHECK(process_find(&table, "c", first->exec_id) == first); /* watched */
	process_unwatch(&watch);
	down();
}

static void process_objects_are_limited(void)
{
	struct process_opts o = { .container_id = "c", .tty = true };
	struct process *p = NULL;
	char id[16];

	up();
	for (int i = 0; i < LIMIT_PROCESSES; i++) {
		snprintf(id, sizeof(id), "%d", i);
		o.exec_id = id;
		REQUIRE(process_new(&table, &o, &p) == 0);
	}
	CHECK_INT(process_new(&table, &o, &p), -ENOSPC);
	down();
}

TEST_MAIN(TEST(waiter_hands_over_known_children), TEST(waiter_keeps_a_status_while_held),
	TEST(waiter_reaps_orphans_in_flat_memory), TEST(workers_report),
	TEST(worker_on_a_fifo_is_killed_at_its_deadline), TEST(exit_comes_after_output),
	TEST(background_child_does_not_hold_the_exit), TEST(late_output_of_children_is_waited_for),
	TEST(full_ring_stops_the_process), TEST(dropping_ring_lets_the_process_run),
	TEST(killed_process_with_full_ring_is_known_to_be_dead), TEST(input_is_bounded_and_exact),
	TEST(fake_terminal_is_refused), TEST(finished_processes_are_kept_up_to_a_limit),
	TEST(process_objects_are_limited))
