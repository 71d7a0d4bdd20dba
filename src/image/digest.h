/* SPDX-License-Identifier: Apache-2.0 */
/* Content digests as OCI writes them: "sha256:" and 64 lower-case hex digits (image-spec,
 * descriptor.md). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

#define DIGEST_PREFIX	  "sha256:"
#define DIGEST_PREFIX_LEN 7
#define DIGEST_HEX_LEN	  64
#define DIGEST_LEN	  (DIGEST_PREFIX_LEN + DIGEST_HEX_LEN)
#define DIGEST_SIZE	  (DIGEST_LEN + 1) /* with the NUL */

/* Whether s is exactly one sha256 digest. Other algorithms are refused: nothing in use needs them.
 */
bool digest_valid(const char *s);

/* The hex digits of a valid digest. */
static inline const char *digest_hex(const char *digest)
{
	return digest + DIGEST_PREFIX_LEN;
}

/* A running sha256 over what digest_update() is given. */
struct digest;

/* NULL: out of memory. */
struct digest *digest_new(void);
void digest_update(struct digest *d, const void *data, size_t len);

/* The digest of all bytes so far; d is good for nothing but digest_free() afterwards. */
void digest_finish(struct digest *d, char out[static DIGEST_SIZE]);

/* Accepts NULL; returns NULL. */
struct digest *digest_free(struct digest *d);
DEFINE_CLEANUP(digest, struct digest *, digest_free)

/* The digest of len bytes. 0 or -ENOMEM. */
int digest_of(const void *data, size_t len, char out[static DIGEST_SIZE]);
