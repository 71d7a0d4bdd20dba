/* SPDX-License-Identifier: Apache-2.0 */
/* What overlayfs leaves in an upper folder (Documentation/filesystems/overlayfs.rst), and as what
 * it is sent. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#define OVERLAY_XATTRS "trusted.overlay."

/* Stands for something of the image that is deleted. */
bool tree_layer_is_whiteout(const struct stat *st);
/* A folder that hides what the image has there. */
bool tree_layer_is_opaque(int fd);

/* The upper folder as a layer's archive to stdout (tree-get.c). Returns the exit code. */
int tree_send_layer(int dir, const char *name);
