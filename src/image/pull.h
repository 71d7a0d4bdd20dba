/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "image/image.h"
#include "image/ref.h"

/*
 * Fetches what ref stands for now and saves it under name (NULL: untagged). The store's lock must
 * be held shared. As image_pull() otherwise.
 */
int pull_from(struct image_store *store, const struct image_ref *ref, const char *name,
	const struct image_pull_opts *opts, struct image **ret_image, struct err *err);
