/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things lie. Below the root (state that lasts): images/, sandboxes/<id>/, names/<name> ->
 * id, guest/, cache/. Below the run folder (sockets, gone with the boot): <id>/shim.sock. The run
 * folder's name is made from a hash of the root's path, because socket paths have 108 bytes and
 * roots any length.
 */
#pragma once

#include "base/err.h"

struct sandbox_root {
	char *path;   /* absolute, real */
	char *run;    /* absolute */
	int fd;	      /* of path */
	int boxes_fd; /* of path/sandboxes */
	char boot_id[37];
};

/*
 * Opens the root, making what is missing (0700; a folder of another user or writable by others is
 * refused). path NULL: $MICROPOD_ROOT, else $XDG_DATA_HOME/micropod or ~/.local/share/micropod, for
 * root /var/lib/micropod. Run folder: /run/micropod-HASH for root, else
 * $XDG_RUNTIME_DIR/micropod-HASH if that folder is there and ours, else /tmp/micropod-UID/HASH. 0
 * or -errno. Blocks on the disk.
 */
int sandbox_root_open(const char *path, struct sandbox_root **ret_root, struct err *err);
struct sandbox_root *sandbox_root_free(struct sandbox_root *root);

/* Makes the run folder, which is there while there are sandboxes; one that is not ours alone is
 * refused. 0 or -errno with err. */
int sandbox_root_make_run(struct sandbox_root *root, struct err *err);
/* Removes it if it is empty. */
void sandbox_root_drop_run(struct sandbox_root *root);

/* The program of ours called name (micropod-shim, micropod-net): $MICROPOD_LIBEXEC/name, else below
 * the build tree or the prefix that this executable lies in. *ret_path malloc'd. 0, or -ENOENT with
 * err. */
int sandbox_program(const char *name, char **ret_path, struct err *err);

/* RUN/<id, short>, and the socket in it; malloc'd, NULL without memory. */
char *sandbox_run_dir(const struct sandbox_root *root, const char *id);
char *sandbox_socket(const struct sandbox_root *root, const char *id);
/* ROOT/sandboxes/<id>[/<file>]; malloc'd, NULL without memory. file may be NULL. */
char *sandbox_path(const struct sandbox_root *root, const char *id, const char *file);
