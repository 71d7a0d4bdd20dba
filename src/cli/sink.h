/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own stdin, stdout and stderr on the loop, without making them non-blocking for others that
 * share them. A sink that is full pauses the call its bytes come from, so nothing piles up; a
 * source is read only while somebody takes.
 */
#pragma once

#include "io/loop.h"
#include "base/strbuf.h"
#include "rpc/call.h"

struct sink {
	int fd;
	bool owned;  /* fd is a description of our own */
	bool socket; /* written with MSG_DONTWAIT */
	bool polled; /* in the loop; else a regular file, which never waits */
	size_t step; /* at most this much at once: what an event promises to take */
	struct loop_fd src;
	struct strbuf pending;
	struct rpc_call *paused; /* to be resumed when pending is out; a reference */
	/* Bytes cannot be written: error is a positive errno. Once. */
	void (*failed)(struct sink *sink, int error);
	bool broken;
};

/* fd: borrowed. 0 or -errno. */
int sink_open(
	struct sink *sink, struct loop *loop, int fd, void (*failed)(struct sink *sink, int error));

/* Writes now what goes; the rest is kept, and call paused until it is out. call may be NULL. */
void sink_write(struct sink *sink, const void *data, size_t len, struct rpc_call *call);

/* Blocks until what is pending is out, then leaves the loop. */
void sink_close(struct sink *sink);

struct source {
	struct loop *loop;
	int fd;
	bool regular; /* epoll does not take it: always ready */
	bool wanted;
	struct loop_fd src;
	struct loop_defer turn;
	/* Something can be read, or the end. */
	void (*ready)(struct source *source);
};

/* fd: borrowed. 0 or -errno. */
int source_open(
	struct source *source, struct loop *loop, int fd, void (*ready)(struct source *source));
/* Whether ready should be called. */
void source_want(struct source *source, bool wanted);
void source_close(struct source *source);
