/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching with skopeo: raw manifests by `skopeo inspect --raw`, blobs by `skopeo
 * experimental-image-proxy` (containers/skopeo, docs/skopeo-experimental-image-proxy.1.md), which
 * streams single blobs as the registry has them: nothing is converted (`skopeo copy` to a layout
 * rewrites Docker's manifests and drops Healthcheck from their configurations), and blobs already
 * in the store are not fetched.
 */
#pragma once

#include "image/ref.h"
#include "image/store.h"

/* What a registry or archive says the source is: an index or a manifest, as bytes. *ret_raw:
 * malloc'd. Blocks. */
int fetch_manifest(const struct image_ref *ref, const char *source, char **ret_raw, size_t *ret_len,
	struct err *err);

/* Copies the image of an OCI layout, whose blobs are elsewhere, to the registry that ref names.
 * Blocks. */
int fetch_push(const struct image_ref *ref, const char *layout, const char *blobs, struct err *err);

struct fetch_blob {
	char digest[DIGEST_SIZE];
	uint64_t size;
	uint64_t done; /* bytes received so far */
	bool taken;    /* by a connection */
};

struct fetch_opts {
	const struct image_ref *ref; /* for messages */
	const char *source;	     /* what skopeo opens */
	struct fetch_blob *blobs;
	size_t n_blobs;
	image_progress_fn progress; /* may be NULL */
	void *progress_arg;
};

/* Fetches the blobs into the store, several at once, and verifies each. 0 or -errno with err; blobs
 * that were whole stay. Blocks. */
int fetch_blobs(struct image_store *store, const struct fetch_opts *opts, struct err *err);
