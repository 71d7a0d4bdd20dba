/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What QEMU finds where: its program, and its files under fixed names and its sockets under fixed
 * numbers, so that its arguments do not depend on the sandbox.
 */
#pragma once

#include "driver/confine.h"
#include "driver/qemu-args.h"

/* Descriptor numbers in QEMU. */
enum {
	QEMU_FD_QMP = 3,
	QEMU_FD_CONSOLE,
	QEMU_FD_AGENT,
	QEMU_FD_NET,
	QEMU_FD_TRIM,
};

#define QEMU_RAM_PATH "/ram" /* of the memory file, in QEMU's root */

/* Files under the names that QEMU sees; the binds' strings live as long as config and this. */
struct qemu_layout {
	struct confine_spec spec;
	struct qemu_view view;
	char targets[LIMIT_DISKS + 1][24];
	char *sources[CONFINE_BINDS_MAX]; /* of firmware, owned */
	unsigned n_sources;
};

/* The program: wanted, or found in PATH. *ret_path is malloc'd. 0 or -errno with err. */
int qemu_find_program(const char *wanted, char **ret_path, struct err *err);

/* Says in clear words, before QEMU does in its own, which file cannot be had and why. 0 or -errno
 * with err. */
int qemu_check_files(const struct vm_config *config, struct err *err);

/* trims: with the plugin. Strings are borrowed from config and program. 0 or -errno; to be released
 * in either case. */
int qemu_layout_make(struct qemu_layout *layout, const struct vm_config *config,
	const char *program, bool trims);
void qemu_layout_deinit(struct qemu_layout *layout);

/* Whether the guard gives QEMU the memory file. */
bool qemu_ram_by_descriptor(const struct vm_config *config);

/* Some kernels and most container engines forbid it; what QEMU may do, we may. io_uring_setup(2).
 */
bool qemu_io_uring_works(void);
