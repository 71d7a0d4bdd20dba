/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes: OCI image-spec (manifest.md, image-index.md) and Docker's schema 2 of
 * both. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"

struct descriptor {
	char digest[DIGEST_SIZE];
	uint64_t size;
	char *architecture, *os, *variant; /* of an index's entry; may be NULL */
};

struct manifest {
	bool is_index;
	struct descriptor config; /* not of an index */
	struct descriptor *items; /* layers, lowest first, or an index's manifests */
	size_t n;
};

/* Reads hostile JSON. *ret_manifest is the caller's (manifest_deinit). -EBADMSG, -E2BIG with err.
 */
int manifest_parse(const char *json, size_t len, struct manifest *ret_manifest, struct err *err);
void manifest_deinit(struct manifest *manifest);

/*
 * The index's entry for Linux on this architecture, borrowed. Of several variants the plainest: one
 * without, else the first. -ENOENT with err that lists what there is.
 */
int manifest_select(const struct manifest *index, const char *architecture,
	const struct descriptor **ret_item, struct err *err);

/* This machine's architecture as Go names it. */
const char *manifest_host_architecture(void);

#define auto_manifest __attribute__((cleanup(manifest_deinit)))
