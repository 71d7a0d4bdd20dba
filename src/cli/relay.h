/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being the terminal of a process in a sandbox: stdin, stdout, stderr, window size and signals go
 * through, byte for byte and with nothing piled up, until the process has ended. Two kinds share
 * it: a container's first process, which is attached to (relay-attach.c), and an exec, one call of
 * its own (relay-exec.c).
 */
#pragma once

#include <signal.h>

#include "cli/client.h"
#include "cli/detach.h"
#include "cli/sink.h"
#include "cli/term.h"

struct relay;

struct relay_kind {
	/* Whether input may be sent now; when that changes, relay_input_changed() is called. */
	bool (*can_send)(struct relay *relay);
	/* data is a part of at most relay->room bytes; NULL: the end of the input. */
	void (*send)(struct relay *relay, const void *data, size_t len);
	void (*resize)(struct relay *relay, uint32_t rows, uint32_t columns);
	void (*signal)(struct relay *relay, int signal);
};

struct relay {
	const struct relay_kind *kind;
	struct client *client;
	bool tty;	/* the process has a terminal, ours is made raw */
	bool input;	/* stdin goes to the process */
	bool sig_proxy; /* without a terminal, signals go to the process */

	struct sink out, err;
	struct source in;
	bool input_ended;
	struct detach_keys keys; /* set by the caller; only with a terminal */
	bool left;		 /* by those keys: the process goes on */
	struct term term;
	struct loop_signals signals;
	bool watching;
	unsigned interrupts; /* SIGINT and SIGTERM so far */

	bool over; /* nothing more will come */
	int exit_code;
	int death;	  /* signal to die of, 0: none */
	struct err error; /* what to tell the user at the end; code 0: nothing */
};

/* Sets up everything but the terminal. client: borrowed. 0 or -errno with err; relay_deinit() in
 * either case. */
int relay_init(struct relay *relay, const struct relay_kind *kind, struct client *client, bool tty,
	bool input, bool sig_proxy, struct err *err);
/* Our terminal is made raw, before the process can write to it. 0 or -errno with err. */
int relay_raw(struct relay *relay, struct err *err);
/* Input from now on: the process is there. 0 or -errno with err. */
int relay_go(struct relay *relay, struct err *err);
/* Runs until the relay is over and all output is written. The exit code; err->code 0 or what to
 * tell. Dies if a signal says so. */
int relay_run(struct relay *relay, struct err *err);
void relay_deinit(struct relay *relay);

/* For the kinds */

/* Output of the process; call is paused while it cannot be written. */
void relay_output(
	struct relay *relay, const Micropod__Agent__V1__Output *output, struct rpc_call *call);
void relay_input_changed(struct relay *relay);
void relay_finish(struct relay *relay, int exit_code);
/* Finish with micropod's own failure, unless it is over already. */
void relay_fail(struct relay *relay, int exit_code, const struct err *err);

/* The size of our terminal, sent now. */
void relay_send_size(struct relay *relay);

struct relay_opts {
	bool join; /* a process that runs already, perhaps with others attached to it: from now on
		    */
	bool input, sig_proxy;
	struct detach_keys keys;
	bool started; /* out: the process was started */
	bool left;    /* out: by the keys, and it goes on */
};

/*
 * Runs the container's first process in the foreground: attaches, calls Start (unless join),
 * relays, and waits for its exit. Without join the sandbox must have been started without
 * `detached`. Returns the exit code (0 when it was left), or -errno with err.
 */
int relay_attach(
	struct cli *cli, const struct sandbox *box, struct relay_opts *opts, struct err *err);

/* Runs process (ids inside) in the sandbox's container in the foreground. keys may be NULL: none.
 * Exit code (0 when it was left) or -errno with err. */
int relay_exec(struct client *client, Micropod__Agent__V1__ExecStart *start,
	const struct detach_keys *keys, struct err *err);

#define auto_relay __attribute__((cleanup(relay_deinit)))
