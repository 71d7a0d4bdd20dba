/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a template: a process of its own, which boots a VM without a sandbox, has the agent
 * quiesce, saves it, and leaves. It is micropod-shim under another verb, for it does the same things
 * with the same parts.
 */
#pragma once

#include "base/strv.h"
#include "shim/machine.h"

#define TEMPLATE_VERB "make-template"

struct template_order {
	const char *root;    /* path */
	struct machine machine;
	uint64_t max_bytes; /* of all templates */
	bool wait;	    /* for another that makes the same one; else it is left to that */
};

/* The words behind the program's name that ask for it. 0 or -ENOMEM. */
int template_order_args(const struct template_order *order, struct strv *argv);

/* main() of the process: argv[0] is the verb. 0: it is there; else 1 and a line on stderr. */
int template_build_main(int argc, char **argv);
