/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, stopping and killing one sandbox: what several verbs do. */
#pragma once

#include "cli/cli.h"

#define START_REMOVE_TIME (20 * NSEC_PER_SEC) /* for the shim's end, --rm included */

struct start_opts {
	bool awaited;		/* by another command line, which reads along: none of it is ours */
	unsigned rows, columns; /* of its terminal; 0: it has none */
	bool detached;		/* else stdin, stdout and stderr are the process's until it ends */
	bool input, sig_proxy;
	const char *detach_keys; /* NULL: the usual ones */
	bool started;		 /* out: its process was started */
	bool left;		 /* out: by the keys, and it goes on */
};

/* Returns the exit code (a failure that the guest named comes with err->code set, for the caller to
 * tell), or -errno with err. */
int start_box(struct cli *cli, const char *id, struct start_opts *opts, struct err *err);

struct stop_opts {
	const char *signal; /* NULL: the sandbox's */
	bool timeout_set;
	int64_t timeout_ns; /* negative: for ever */
};

/* "10", "1m", "-1": an opt parser; field is struct stop_opts. */
int stop_parse_timeout(const char *value, void *field, struct err *err);

/* Stops it and waits until its shim is gone. One that has ended already is fine, a dead one is an
 * error. 0 or -errno. */
int stop_box(struct cli *cli, const char *id, const struct stop_opts *opts, struct err *err);

/* Checks a signal's name. 0 or -EINVAL with err that names the option. */
int stop_check_signal(const char *word, struct err *err);
