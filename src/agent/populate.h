/* SPDX-License-Identifier: Apache-2.0 */
/* What an image has where an empty volume is mounted becomes what is in the volume, as with Docker.
 */
#pragma once

#include "base/err.h"

/*
 * from, to: open folders. Copies all of from into to, and its mode and owner, unless there is
 * something in to already. Links stay links, several names of a file become files of their own;
 * devices, sockets and pipes are left out. Owners that to's file system does not know are not kept.
 * Blocks. 0 or -errno with err.
 */
int populate(int from, int to, struct err *err);
