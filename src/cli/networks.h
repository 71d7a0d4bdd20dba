/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of VMs, for verbs that have to do with more. */
#pragma once

#include "cli/cli.h"

/* Removes those that no sandbox uses, and prints each. Returns the exit code, or -errno with err.
 */
int networks_prune(struct cli *cli, struct err *err);
