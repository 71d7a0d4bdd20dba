/* SPDX-License-Identifier: Apache-2.0 */
/* What a container's root is made of, for who looks at its changes. */
#pragma once

#include "base/err.h"

#define LAYERS_IMAGE "image"	   /* the image's root, read-only */
#define LAYERS_UPPER "layer/upper" /* overlayfs' upper folder: what the container has changed */

/*
 * An open folder with both in it, in mounts that nobody else has and that go with it. root:
 * "disk:SERIAL" or "tag:TAG" of the image, layer: serial number of the writable layer's disk; both
 * may be in use. ret_still not NULL: whoever writes to the layer waits, until layers_go_on() is
 * given what comes there. The fd, or -errno with err. Blocks on the kernel.
 */
int layers_open(const char *root, const char *layer, int *ret_still, struct err *err);

/* Lets who writes go on. Returns -1. */
int layers_go_on(int still);
