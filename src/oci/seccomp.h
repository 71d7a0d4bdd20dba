/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default seccomp profile: what Docker's default profile allows a container with Docker's
 * default capabilities. Written as a table in seccomp-default.def and compiled when micropod is
 * built (gen-seccomp.c).
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "base/err.h"

/* The compiled filter for this architecture, ready for seccomp(2) SECCOMP_SET_MODE_FILTER.
 * Read-only, lives for ever. */
const struct sock_fprog *oci_seccomp_default(void);

/* The same as the "linux.seccomp" object of an OCI spec, compact JSON, for runtimes that compile it
 * themselves. */
const char *oci_seccomp_default_json(size_t *ret_len);

/*
 * Checks a filter from outside: length a multiple of sizeof(struct sock_filter), 1 to BPF_MAXINSNS
 * instructions. What the instructions do is the kernel's to check. *ret_prog borrows data. 0 or
 * -EINVAL with err.
 */
int oci_seccomp_check(const void *data, size_t len, struct sock_fprog *ret_prog, struct err *err);

/* Loads the filter into this process (no_new_privs or CAP_SYS_ADMIN must be there). 0 or -errno.
 * Async-signal-safe. */
int oci_seccomp_load(const struct sock_fprog *prog);
