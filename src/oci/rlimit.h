/* SPDX-License-Identifier: Apache-2.0 */
/* Resource limits (getrlimit(2)) by name. */
#pragma once

#include <stdint.h>

#include "base/err.h"

#define OCI_RLIMIT_MAX 16

struct oci_rlimit {
	int resource;	     /* RLIMIT_NOFILE */
	uint64_t soft, hard; /* UINT64_MAX (RLIM64_INFINITY): none */
};

/* "RLIMIT_NOFILE" or "nofile", either case, to its number. 0 or -EINVAL. */
int oci_rlimit_parse_name(const char *word, int *ret_resource);
/* "RLIMIT_NOFILE"; NULL for an unknown number. */
const char *oci_rlimit_name(int resource);

/* Docker's --ulimit: "nofile=1024", "nofile=1024:2048", "core=-1" (none). soft must not exceed
 * hard. 0 or -EINVAL with err. */
int oci_rlimit_parse(const char *text, struct oci_rlimit *ret_limit, struct err *err);
