/* SPDX-License-Identifier: Apache-2.0 */
/* Linux capabilities (capabilities(7)): names, numbers, and sets as bit masks, bit n for capability
 * n. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define OCI_CAP_MAX 41 /* CAP_CHECKPOINT_RESTORE is 40 */

#define OCI_CAPS_ALL (((uint64_t)1 << OCI_CAP_MAX) - 1)

/* What a container gets unless told otherwise: Docker's default set of 14. */
extern const uint64_t oci_caps_default;

/* "CAP_CHOWN" for 0; NULL beyond the last. */
const char *oci_cap_name(unsigned cap);

/* "CAP_CHOWN" or "chown", either case, to its number. 0 or -EINVAL. */
int oci_cap_parse(const char *word, unsigned *ret_cap);
