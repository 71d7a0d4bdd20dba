/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters for containers that do not take the default one (oci/seccomp.h), compiled by
 * libseccomp when they are asked for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Whether the default profile says anything else for these capabilities (oci/caps.h) than for the
 * default ones. */
bool oci_profile_differs(uint64_t caps);

/*
 * text NULL: the default profile for a container with these capabilities (oci/caps.h). Else a
 * profile as Docker reads it (docs.docker.com/engine/security/seccomp), for this machine's
 * architecture: rules for others, or for capabilities that are not there, are left out, and so are
 * calls that libseccomp does not know. *ret_hex: the instructions (struct sock_filter) in
 * hexadecimal, free(). 0, or -errno with err.
 */
int oci_profile_compile(
	const char *text, size_t len, uint64_t caps, char **ret_hex, struct err *err);
