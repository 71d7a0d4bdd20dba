/* SPDX-License-Identifier: Apache-2.0 */
/* Making the template that sandboxes of given settings start from. */
#pragma once

#include "cli/cli.h"

struct template_opts {
	bool quiet;	 /* no progress */
	bool no_network; /* for sandboxes without a network */
	bool volumes;	 /* for sandboxes with volumes */
	int runtime;	 /* index into run_runtimes */
};

/*
 * Has it made with the command line's settings and waits; prepares kernel and guest before, if need
 * be. *ret_key: its key. 0 (also if it was there) or -errno with err. Blocks for seconds.
 */
int template_make(struct cli *cli, const struct template_opts *opts, char ret_key[static 33],
	struct err *err);
