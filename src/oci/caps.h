/* SPDX-License-Identifier: Apache-2.0 */
/* Linux capabilities (capabilities(7)): names, numbers, and sets as bit masks, bit n for capability
 * n. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/strv.h"

#define OCI_CAP_MAX 41 /* CAP_CHECKPOINT_RESTORE is 40 */

#define OCI_CAPS_ALL (((uint64_t)1 << OCI_CAP_MAX) - 1)

/* What a container gets unless told otherwise: Docker's default set of 14. */
extern const uint64_t oci_caps_default;

/*
 * The default set with Docker's --cap-add and --cap-drop: names as oci_cap_parse() has them, or
 * "ALL". Adding counts more than dropping, unless all are added and some dropped. 0, or -EINVAL
 * with *ret_bad the unknown name.
 */
int oci_caps_tweak(
	const struct strv *add, const struct strv *drop, uint64_t *ret_caps, const char **ret_bad);

/* "CAP_CHOWN" for 0; NULL beyond the last. */
const char *oci_cap_name(unsigned cap);

/* "CAP_CHOWN" or "chown", either case, to its number. 0 or -EINVAL. */
int oci_cap_parse(const char *word, unsigned *ret_cap);
