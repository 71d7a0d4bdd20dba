/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's kernel and initramfs as prepared below ROOT/guest (scripts/prepare-guest.sh writes
 * current.json). */
#pragma once

#include <stdbool.h>

#include "sandbox/root.h"

struct sandbox_guest {
	char *kernel, *initramfs; /* absolute paths */
	char *initramfs_runc;	  /* the same with runc in it; NULL: runc was not there */
	char *version;		  /* of the kernel: uname -r */
};

void sandbox_guest_deinit(struct sandbox_guest *guest);

/* Whether a word given for a kernel names a kind of prepared one ("small", "cloud") and no file. */
bool sandbox_guest_is_kind(const char *word);

/* Reads ROOT/guest/KIND.json, or current.json when kind is NULL. 0; -ENOENT: nothing prepared yet
 * (`micropod setup` does it); -errno with err. */
int sandbox_guest_current(struct sandbox_root *root, const char *kind,
	struct sandbox_guest *ret_guest, struct err *err);
