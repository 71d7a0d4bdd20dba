/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a turn runs what was deferred, waits in epoll for the nearest timer at most, then
 * dispatches descriptors and due timers. A descriptor removed while its batch is being dispatched
 * has its entries in that batch cleared, so that removal takes effect at once and the memory may be
 * freed.
 */
#include "io/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DEFER_ROUNDS 4
#define BATCH	     64

struct loop {
	int epfd;
	bool stopped;
	int code;
	struct list deferred;
	struct loop_timer **heap; /* by deadline, the nearest first */
	size_t n_timers, cap_timers;
	struct epoll_event batch[BATCH];
	int n_batch;
};

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0) {
		int e = errno;

		free(loop);
		return -e;
	}
	list_init(&loop->deferred);
	*ret_loop = loop;
	return 0;
}

struct loop *loop_free(struct loop *loop)
{
	if (loop) {
		safe_close(loop->epfd);
		free(loop->heap);
		free(loop);
	}
	return NULL;
}

/* Descriptors */

int loop_fd_add(struct loop *loop, struct loop_fd *src, int fd, uint32_t events,
	void (*cb)(struct loop_fd *src, uint32_t events))
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*src = (struct loop_fd){ .loop = loop, .fd = fd, .events = events, .cb = cb };
	return 0;
}

void loop_fd_set(struct loop_fd *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (!src->loop || src->events == events)
		return;
	src->events = events;
	/* Fails only for an fd that is not in the set: the owner closed it before removing the
	 * source. */
	if (epoll_ctl(src->loop->epfd, EPOLL_CTL_MOD, src->fd, &ev) < 0)
		assert(errno == ENOMEM);
}

void loop_fd_remove(struct loop_fd *src)
{
	struct loop *loop = src->loop;

	if (!loop)
		return;
	epoll_ctl(loop->epfd, EPOLL_CTL_DEL, src->fd, NULL);
	for (int i = 0; i < loop->n_batch; i++)
		if (loop->batch[i].data.ptr == src)
			loop->batch[i].data.ptr = NULL;
	src->loop = NULL;
}

/* Timers: a binary heap */

static void heap_put(struct loop *loop, size_t i, struct loop_timer *t)
{
	loop->heap[i] = t;
	t->index = i + 1;
}

static void heap_up(struct loop *loop, size_t i)
{
	struct loop_timer *t = loop->heap[i];

	for (; i && loop->heap[(i - 1) / 2]->deadline > t->deadline; i = (i - 1) / 2)
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
	heap_put(loop, i, t);
}

static void heap_down(struct loop *loop, size_t i)
{
	struct loop_timer *t = loop->heap[i];

	for (;;) {
		size_t c = 2 * i + 1;

		if (c + 1 < loop->n_timers && loop->heap[c + 1]->deadline < loop->heap[c]->deadline)
			c++;
		if (c >= loop->n_timers || loop->heap[c]->deadline >= t->deadline)
			break;
		heap_put(loop, i, loop->heap[c]);
		i = c;
	}
	heap_put(loop, i, t);
}

void loop_timer_disarm(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;
	size_t i = timer->index - 1;
	struct loop_timer *last;

	if (!timer->index)
		return;
	timer->index = 0;
	last = loop->heap[--loop->n_timers];
	if (last == timer)
		return;
	heap_put(loop, i, last);
	heap_up(loop, i);
	heap_down(loop, last->index - 1);
}

int loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t deadline,
	void (*cb)(struct loop_timer *timer))
{
	if (timer->index)
		loop_timer_disarm(timer);
	timer->loop = loop;
	timer->deadline = deadline;
	timer->cb = cb;
	timer->index = 0;
	if (deadline == DEADLINE_NONE)
		return 0;
	if (loop->n_timers == loop->cap_timers) {
		size_t cap = loop->cap_timers ? loop->cap_timers * 2 : 16;
		struct loop_timer **heap =
			reallocarray(loop->heap, cap, sizeof(struct loop_timer *));

		if (!heap)
			return -ENOMEM;
		loop->heap = heap;
		loop->cap_timers = cap;
	}
	loop->n_timers++;
	heap_put(loop, loop->n_timers - 1, timer);
	heap_up(loop, loop->n_timers - 1);
	return 0;
}

static void run_timers(struct loop *loop)
{
	int64_t now;

	if (!loop->n_timers)
		return;
	now = clock_monotonic();
	/* Those armed meanwhile lie after now, so that a timer which rearms itself cannot starve
	 * descriptors. */
	while (loop->n_timers && loop->heap[0]->deadline <= now) {
		struct loop_timer *t = loop->heap[0];

		loop_timer_disarm(t);
		t->cb(t);
	}
}

/* Deferred work */

void loop_defer_queue(
	struct loop *loop, struct loop_defer *defer, void (*cb)(struct loop_defer *defer))
{
	defer->cb = cb;
	if (defer->queued)
		return;
	defer->queued = true;
	list_add_tail(&loop->deferred, &defer->link);
}

void loop_defer_cancel(struct loop_defer *defer)
{
	if (!defer->queued)
		return;
	defer->queued = false;
	list_remove(&defer->link);
}

static void run_batch(struct loop *loop)
{
	struct list batch = loop->deferred;

	batch.next->prev = batch.prev->next = &batch;
	list_init(&loop->deferred);
	while (!list_empty(&batch)) {
		struct loop_defer *d = list_entry(batch.next, struct loop_defer, link);

		list_remove(&d->link);
		d->queued = false;
		d->cb(d);
	}
}

/*
 * Whether there was any. What it queues in turn is run as well, a few times: that what was read is
 * answered does not need to ask the kernel in between. The rest waits for the next turn.
 */
static bool run_deferred(struct loop *loop)
{
	bool ran = false;

	for (int round = 0; round < DEFER_ROUNDS && !list_empty(&loop->deferred); round++) {
		run_batch(loop);
		ran = true;
	}
	return ran;
}

/* The loop */

int loop_once(struct loop *loop, int64_t deadline)
{
	/* What the deferred work has done may be what the caller of loop_once() waits for. */
	bool ran = run_deferred(loop);
	int timeout, n;

	if (loop->n_timers)
		deadline = MIN(deadline, loop->heap[0]->deadline);
	timeout = !ran && list_empty(&loop->deferred) && !loop->stopped ? deadline_poll_ms(deadline)
									: 0;
	n = epoll_wait(loop->epfd, loop->batch, BATCH, timeout);
	if (n < 0 && errno != EINTR)
		return -errno;
	loop->n_batch = MAX(n, 0);
	for (int i = 0; i < loop->n_batch; i++) {
		struct loop_fd *src = loop->batch[i].data.ptr;

		if (src)
			src->cb(src, loop->batch[i].events);
	}
	loop->n_batch = 0;
	run_timers(loop);
	run_deferred(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped) {
		int r = loop_once(loop, DEADLINE_NONE);

		if (r < 0)
			return r;
	}
	return loop->code;
}

void loop_stop(struct loop *loop, int code)
{
	loop->stopped = true;
	loop->code = code;
}

/* Signals and children */

static void on_signal(struct loop_fd *src, uint32_t events)
{
	struct loop_signals *sigs = container_of(src, struct loop_signals, src);
	struct signalfd_siginfo info;

	if (read(sigs->fd, &info, sizeof(info)) == sizeof(info))
		sigs->cb(sigs, &info);
}

int loop_signals_add(struct loop *loop, struct loop_signals *sigs, const sigset_t *mask,
	void (*cb)(struct loop_signals *sigs, const struct signalfd_siginfo *info))
{
	int r;

	if (sigprocmask(SIG_BLOCK, mask, NULL) < 0)
		return -errno;
	sigs->cb = cb;
	sigs->fd = signalfd(-1, mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigs->fd < 0)
		return -errno;
	r = loop_fd_add(loop, &sigs->src, sigs->fd, EPOLLIN, on_signal);
	if (r < 0)
		sigs->fd = safe_close(sigs->fd);
	return r;
}

void loop_signals_remove(struct loop_signals *sigs)
{
	if (!sigs->src.loop)
		return;
	loop_fd_remove(&sigs->src);
	sigs->fd = safe_close(sigs->fd);
}

static int collect(struct loop_child *child)
{
	int status = 0;

	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void on_child(struct loop_fd *src, uint32_t events)
{
	struct loop_child *child = container_of(src, struct loop_child, src);
	int status = collect(child);

	loop_child_remove(child);
	child->cb(child, status);
}

int loop_child_add(struct loop *loop, struct loop_child *child, pid_t pid, int pidfd,
	void (*cb)(struct loop_child *child, int wstatus))
{
	int r = loop_fd_add(loop, &child->src, pidfd, EPOLLIN, on_child);

	if (r < 0)
		return r;
	child->pidfd = pidfd;
	child->pid = pid;
	child->cb = cb;
	return 0;
}

void loop_child_remove(struct loop_child *child)
{
	if (!child->src.loop)
		return;
	loop_fd_remove(&child->src);
	child->pidfd = safe_close(child->pidfd);
}
