/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules, loaded by finit_module(2) in the order of a file, one file name a line. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define MODULES_DIR   "/lib/modules"
#define MODULES_ORDER "order"	   /* needed to boot */
#define MODULES_LATE  "order.late" /* loaded once they are wanted; may be missing */

/*
 * Loads the modules that list names, files below dir, in that order. One that is loaded already, or
 * that the kernel has built in (-EEXIST), is fine; so is a missing list: everything is built in.
 * Other failures: the first is returned, naming the module, after all have been tried. 0 or -errno
 * with err.
 */
int modules_load(const char *dir, const char *list, struct err *err);

/* A line of the list: a file name without '/'; "" and '#' lines are passed over. Returns NULL at
 * the end. *cursor moves on; the line is NUL-terminated in place. */
char *modules_next(char **cursor);

/* Whether file ("virtio_blk.ko") is of a module that the kernel has loaded. */
bool modules_loaded(const char *file);
