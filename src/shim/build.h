/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a template: a process of its own, which boots a VM without a sandbox, has the agent
 * quiesce, saves it, and leaves. It is micropod-shim under another verb, for it does the same
 * things with the same parts.
 */
#pragma once

#include "sandbox/machine.h"

/* main() of the process: argv[0] is TEMPLATE_VERB, then template_order(). 0: it is there; else 1
 * and a line on stderr. */
int template_build_main(int argc, char **argv);
