/* SPDX-License-Identifier: Apache-2.0 */
/* Images named, written to archives, sent to registries, and how they were made. All block. */
#pragma once

#include "image/image.h"

/* Makes target (as in Docker, no digest) stand for the image that name means. 0 or -errno with err.
 */
int image_tag(struct image_store *store, const char *name, const char *target, struct err *err);

/*
 * Writes images as a tar archive that is both an OCI layout (image-layout.md) and what `docker
 * load` reads; each blob once. names: as image_find() takes them. 0 or -errno with err.
 */
int image_save(
	struct image_store *store, const char *const *names, size_t n, int fd, struct err *err);

/* Whether text can be given to an image as its name ("NAME[:TAG]"). 0, or -EINVAL with err. */
int image_name_check(const char *text, struct err *err);

/*
 * A folder of one's own (0700) in the store, for what is on its way in or out: *ret_path is
 * malloc'd, and for the caller to remove. Once *ret_lock is closed it is left over, and goes with
 * the next pruning. 0 or -errno with err.
 */
int image_folder_new(struct image_store *store, const char *prefix, char **ret_path, int *ret_lock,
	struct err *err);

/* Sends the image that name means to the registry in its name. Manifest and layers go as they are.
 * 0 or -errno with err, as image_pull(). */
int image_push(struct image_store *store, const char *name, struct err *err);

struct image_step {
	int64_t created;  /* seconds since the epoch; 0: not said */
	char *created_by; /* the command; owned */
	char *comment;
	bool empty;    /* no layer came of it */
	uint64_t size; /* of the layer as stored */
};

struct image_history {
	struct image_step *items; /* the oldest first */
	size_t n;
};

/* How the image was made, as its configuration says. 0 or -errno with err. */
int image_history(struct image_store *store, const struct image *image,
	struct image_history *ret_history, struct err *err);
void image_history_deinit(struct image_history *history);
