/* SPDX-License-Identifier: Apache-2.0 */
/* Signals by name, as Docker's command line and images spell them. Numbers are the kernel's on
 * x86-64 and arm64. */
#pragma once

#include <stddef.h>

#define OCI_SIGNAL_MAX 64

/* "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3", "SIGRTMAX-2" to 1..64. RTMIN is 34, as in Docker,
 * whatever libc says. 0 or -EINVAL. */
int oci_signal_parse(const char *word, int *ret_signal);

/* "SIGTERM", "SIGRTMIN+3", or "signal 99". buf: at least 16 bytes; returns buf. */
const char *oci_signal_name(int signal, char *buf, size_t size);
