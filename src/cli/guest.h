/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel and initramfs below ROOT/guest, made by the program prepare-guest
 * (scripts/prepare-guest.sh). */
#pragma once

#include "cli/cli.h"
#include "sandbox/guest.h"

/* Runs prepare-guest and waits for it; what it says goes to stderr. update: ask for a newer kernel.
 * 0 or -errno with err. */
int guest_prepare(struct cli *cli, bool quiet, bool update, struct err *err);

/* The kind of kernel that the settings ask for; NULL: none, or a file. */
const char *guest_kind(const struct cli *cli);

/* Prepares only if what the settings ask for is not prepared yet: the first run. */
int guest_ensure(struct cli *cli, bool quiet, struct err *err);
