/* SPDX-License-Identifier: Apache-2.0 */
/* A server with one service, and a channel to it over socket pairs, in one loop. */
#pragma once

#include "echo.pb-c.h"
#include "rpc/client.h"
#include "rpc/proxy.h"
#include "rpc/server.h"
#include "test.h"

struct fixture {
	struct loop *loop;
	struct rpc_server *server;
	struct rpc_channel *channel;
	struct rpc_conn *conn; /* the server's end of the newest connection */
	int dials, refuse_dials, closed, disconnects, calls;
	int last_code; /* of the last call that on_call was told of */
	int flaky;     /* how often that was called */
	char closed_why[512];
	struct rpc_call *held; /* the last call that its method left open, with a reference */
	struct rpc_status held_done;
	int held_dones;
	size_t held_bytes;
	struct rpc_server_opts sopts;
	struct rpc_channel_opts copts;
};

/* sopts and copts may be set before. */
void fx_start(struct fixture *f);
void fx_stop(struct fixture *f);
/* A server's end of a fresh connection; the other end is returned. */
int fx_connect(struct fixture *f);
/* What the channel dials with, unless copts says otherwise; arg is the fixture. */
int fx_dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err);
/* Lets the loop run for that long. */
void fx_idle(struct fixture *f, int64_t ns);

#define FIXTURE(name) __attribute__((cleanup(fx_stop))) struct fixture name = { 0 }

/* Runs the loop until cond or for five seconds. */
#define RUN_UNTIL(f, cond)                                          \
	do {                                                        \
		int64_t until_ = deadline_in(5 * NSEC_PER_SEC);     \
		while (!(cond) && clock_monotonic() < until_)       \
			REQUIRE(loop_once((f)->loop, until_) == 0); \
		CHECK(cond);                                        \
	} while (0)

/* A client call that records its callbacks: m metadata, M message, e end, w writable, d done. */
struct record {
	struct rpc_call *call; /* NULL once done */
	char events[256];
	size_t n_events;
	size_t bytes, messages;
	bool pause_each; /* paused after each message */
	bool compressed;
	struct rpc_status status;
	char *details;
	char meta[64], trailer[64];
	size_t trailer_len;
};

extern const struct rpc_call_ops rec_ops;

/* Not started. */
void rec_call(
	struct fixture *f, struct record *r, const char *method, const struct rpc_call_opts *opts);
int rec_send(struct record *r, const char *text, uint32_t count, uint32_t size, size_t data);
/* One request, half-closed and started. */
void rec_unary(struct fixture *f, struct record *r, const char *method, const char *text,
	uint32_t count, uint32_t size, const struct rpc_call_opts *opts);
