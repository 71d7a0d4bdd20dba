/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread, one epoll loop. Sources are structs that their owners embed; adding one allocates
 * nothing but (for timers) a slot. Level-triggered. Any source may be added, changed or removed in
 * any callback, its own included, and freed right after its removal: no callback of a removed
 * source runs again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/list.h"

struct loop;

struct loop_fd {
	struct loop *loop; /* NULL while not added */
	int fd;		   /* borrowed */
	uint32_t events;   /* EPOLLIN, EPOLLOUT, ... wanted; EPOLLERR and EPOLLHUP always come */
	void (*cb)(struct loop_fd *src, uint32_t events);
};

struct loop_timer {
	struct loop *loop;
	int64_t deadline; /* CLOCK_MONOTONIC ns */
	size_t index;	  /* in the heap, plus one; 0 while not armed */
	void (*cb)(struct loop_timer *timer);
};

/* Runs once, before the loop waits again. */
struct loop_defer {
	struct list link;
	bool queued;
	void (*cb)(struct loop_defer *defer);
};

struct loop_signals {
	struct loop_fd src;
	int fd;
	void (*cb)(struct loop_signals *sigs, const struct signalfd_siginfo *info);
};

/* A child process: its exit status is collected (waitid(2)) and handed over once. */
struct loop_child {
	struct loop_fd src;
	int pidfd;
	pid_t pid;
	void (*cb)(struct loop_child *child, int wstatus);
};

/* 0 or -errno. loop_free(NULL) is fine; sources still added are forgotten, not touched. */
int loop_new(struct loop **ret_loop);
struct loop *loop_free(struct loop *loop);

/* Runs until loop_stop(); returns the code given to it, or -errno if epoll_wait(2) fails. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int code);

/* One turn: waits until deadline at most for something to happen and runs its callbacks. 0 or
 * -errno. */
int loop_once(struct loop *loop, int64_t deadline);

/* 0 or -errno (EPERM: a regular file, which epoll does not take). fd stays the caller's and must
 * outlive the source. */
int loop_fd_add(struct loop *loop, struct loop_fd *src, int fd, uint32_t events,
	void (*cb)(struct loop_fd *src, uint32_t events));
void loop_fd_set(struct loop_fd *src, uint32_t events); /* no-op if nothing changes */
void loop_fd_remove(struct loop_fd *src);		/* no-op if not added */

/* (Re)arms; DEADLINE_NONE disarms. 0 or -ENOMEM. */
int loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t deadline,
	void (*cb)(struct loop_timer *timer));
void loop_timer_disarm(struct loop_timer *timer); /* no-op if not armed */

/* No-op if already queued. */
void loop_defer_queue(
	struct loop *loop, struct loop_defer *defer, void (*cb)(struct loop_defer *defer));
void loop_defer_cancel(struct loop_defer *defer);

/* Blocks the signals of the mask for the process and reads them by signalfd(2). 0 or -errno. */
int loop_signals_add(struct loop *loop, struct loop_signals *sigs, const sigset_t *mask,
	void (*cb)(struct loop_signals *sigs, const struct signalfd_siginfo *info));
void loop_signals_remove(struct loop_signals *sigs);

/* Takes over pidfd (closed at exit or removal). 0 or -errno. */
int loop_child_add(struct loop *loop, struct loop_child *child, pid_t pid, int pidfd,
	void (*cb)(struct loop_child *child, int wstatus));
void loop_child_remove(struct loop_child *child); /* no longer watched; the caller reaps */
