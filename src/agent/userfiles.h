/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's passwd(5) and group(5), read below its root: no symbolic link leads out, only
 * regular files count. May block on the file system all the same: only for forked children with a
 * deadline.
 */
#pragma once

#include "base/strv.h"
#include "oci/user.h"

/* words: the user in Docker's syntax (may be ""), then additional groups. 0 or -errno with err. */
int userfiles_lookup(
	int root, const struct strv *words, struct oci_user *ret_user, struct err *err);

/* Fills user->home for its uid. 0 or -errno with err. */
int userfiles_home(int root, struct oci_user *user, struct err *err);

/* Opens a file below root as if root were "/": -ENOENT, -ELOOP, ... Only regular files, else
 * -EINVAL. */
int userfiles_open(int root, const char *path, int flags);
