/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's kernel and initramfs as prepared below ROOT/guest (scripts/prepare-guest.sh writes
 * current.json). */
#pragma once

#include "sandbox/root.h"

struct sandbox_guest {
	char *kernel, *initramfs; /* absolute paths */
	char *initramfs_runc;	  /* the same with runc in it */
	char *version;		  /* of the kernel: uname -r */
};

void sandbox_guest_deinit(struct sandbox_guest *guest);

/* Reads ROOT/guest/current.json. 0; -ENOENT: nothing prepared yet (`micropod setup` does it);
 * -errno with err. */
int sandbox_guest_current(
	struct sandbox_root *root, struct sandbox_guest *ret_guest, struct err *err);
