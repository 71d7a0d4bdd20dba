/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a sandbox that does not run, by a helper: a VM of its own with the same image and a
 * copy of the writable layer, in which nothing but the agent runs. So this host reads no file
 * system that a guest has written.
 */
#pragma once

#include "cli/target.h"

struct helper {
	struct sandbox box; /* the one that runs: the sandbox itself, or the helper */
	bool made;	    /* it is a helper */
	int lock;	    /* of the sandbox that is written to; -1 */
	char of[ID_LEN + 1];
};

/*
 * Finds the sandbox; one that does not run gets a helper. write: what is changed there becomes its
 * own at helper_close(), and until then it cannot be started. Blocks. 0 or -errno with err; then
 * helper_close() is not needed.
 */
int helper_open(
	struct cli *cli, const char *word, bool write, struct helper *ret_helper, struct err *err);

/* Ends and removes the helper, if there is one. keep: what was written is kept. 0 or -errno with
 * err. */
int helper_close(struct cli *cli, struct helper *helper, bool keep, struct err *err);
