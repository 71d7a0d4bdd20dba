/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of a process' stdin, stdout and stderr: pipes, or the master of a pseudo
 * terminal. Output goes into rings, input through a bounded queue. Never blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/ring.h"
#include "base/strbuf.h"
#include "io/loop.h"

enum streams_id { STREAMS_OUT, STREAMS_ERR, STREAMS_MAX };

struct streams;

struct streams_out {
	struct streams *streams;
	struct loop_fd src;
	int fd; /* -1: at its end, or never there */
	struct ring ring;
	size_t left; /* once the process has ended: bytes in the pipe that may be its own */
};

struct streams {
	struct loop *loop;
	bool tty;
	bool ended; /* streams_process_ended() was called */
	struct streams_out out[STREAMS_MAX];
	int in_fd; /* -1: closed, or never there */
	struct loop_fd in_src;
	struct strbuf queue;
	size_t queue_at;	    /* bytes of it already written */
	uint64_t taken;		    /* input bytes ever accepted */
	bool in_close;		    /* close when the queue is empty */
	int child[3];		    /* the process' ends, until streams_close_child() */
	void (*changed)(void *arg); /* output came, a stream ended, the input queue has shrunk */
	void *arg;
};

struct streams_opts {
	bool tty;	 /* the master comes later, by streams_set_master() */
	bool open_stdin; /* else the process' stdin is /dev/null */
	enum ring_policy policy;
	void (*changed)(void *arg);
	void *arg;
};

/* Makes pipes (unless tty). 0 or -errno; streams_deinit() is right after either. */
int streams_init(struct streams *s, struct loop *loop, const struct streams_opts *opts);
void streams_deinit(struct streams *s);

/* Closes the process' ends: the process has its own copies. */
void streams_close_child(struct streams *s);

/* Takes over the master of the process' terminal, after checking that it is one. 0, -ENOTTY or
 * -errno. */
int streams_set_master(struct streams *s, int fd);

/* 0, -ENOTTY (no terminal), -EINVAL (a size of 0) or -errno. */
int streams_resize(struct streams *s, unsigned rows, unsigned columns);

/*
 * Queues input, all of it: the caller stops offering more while streams_input_full(). What a
 * process that has closed its stdin would have got is dropped, as a pipe drops it. 0, -EPIPE
 * (closed by us, or never open) or -ENOMEM.
 */
int streams_input(struct streams *s, const void *data, size_t len);
bool streams_input_full(const struct streams *s);
/* End of file after what is queued; on a terminal the end-of-file character if it reads lines. */
void streams_input_close(struct streams *s);

/* Readers have moved on: a stream that waited for room may be read again. */
void streams_output_room(struct streams *s);

/* The process is reaped: what is in the pipes now is the last of its own output. Nobody reads input
 * any more. */
void streams_process_ended(struct streams *s);
/* Whether all that the ended process wrote is in the rings. */
bool streams_drained(const struct streams *s);
/* Whether every stream is at its end. */
bool streams_output_ended(const struct streams *s);
/*
 * What others still write to the streams of a process whose exit has been told goes on into the
 * rings, but never makes them wait.
 */
void streams_detach(struct streams *s);
