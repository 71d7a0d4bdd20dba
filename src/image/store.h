/* SPDX-License-Identifier: Apache-2.0 */
/* The store's files (image/image.h has the layout): blobs, records of references, temporary files,
 * locks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "image/image.h"

struct image_store {
	char *dir; /* ROOT/images */
	int dirfd, blobs, refs, disks, trees, locks, tmp;
};

/* Temporary files: in tmp/, locked while their maker lives, so that prune knows the dead ones. */
struct store_temp {
	struct image_store *store; /* borrowed */
	int fd;			   /* read and write */
	char name[40];
};

int store_temp_open(struct image_store *store, struct store_temp *ret_temp, struct err *err);

/* Syncs it and gives it its name in dirfd, replacing what is there; mode is set. 0 or -errno with
 * err. */
int store_temp_commit(
	struct store_temp *temp, int dirfd, const char *name, mode_t mode, struct err *err);

/* Removes it unless it was committed. */
void store_temp_deinit(struct store_temp *temp);
#define auto_store_temp __attribute__((cleanup(store_temp_deinit)))
#define STORE_TEMP_INIT ((struct store_temp){ .fd = -1 })

/* Whether the blob is there, with that size. */
bool store_has_blob(const struct image_store *store, const char *digest, uint64_t size);

/* Opens a blob for reading. The fd or -errno. */
int store_open_blob(const struct image_store *store, const char *digest);

/* Reads a small blob whole and verifies its digest. *ret_data: malloc'd, NUL behind it. 0 or -errno
 * with err. */
int store_read_blob(const struct image_store *store, const char *digest, char **ret_data,
	size_t *ret_len, struct err *err);

/* Stores bytes under their digest, which is put out. 0 or -errno with err. */
int store_put_blob(struct image_store *store, const void *data, size_t len,
	char out[static DIGEST_SIZE], struct err *err);

/* Records. The name of a reference's record is the sha256 of the reference; an untagged image's the
 * sha256 of its manifest. */

/* Reads the record of a reference (or of an untagged image: manifest digest) with manifest and
 * configuration. 0, -ENOENT if there is none or one of its blobs is gone, or -errno with err. */
int store_load(const struct image_store *store, const char *reference, struct image **ret_image,
	struct err *err);

/* The same by the record's file name in refs/. */
int store_load_record(const struct image_store *store, const char *file, struct image **ret_image,
	struct err *err);

/* All records that can be read, in no order; as image_list. */
int store_load_all(const struct image_store *store, struct image_list *ret_list, struct err *err);

/* Makes reference (NULL: untagged) stand for the image; one it stood for before becomes untagged if
 * nothing else names it. */
int store_save(struct image_store *store, const struct image *image, struct err *err);

/* Removes the image's record (of its reference, or the untagged one). 0 or -errno with err. */
int store_forget(struct image_store *store, const struct image *image, struct err *err);

/* Makes an image from manifest and configuration in the store. reference: NULL or copied. */
int store_make_image(const struct image_store *store, const char *reference,
	const char *manifest_digest, struct image **ret_image, struct err *err);

/*
 * Locks "kind-key". busy (may be NULL) is called before waiting for another process. The fd that
 * holds it, or -errno with err.
 */
int store_lock(const struct image_store *store, const char *kind, const char *key, bool exclusive,
	void (*busy)(void *arg), void *arg, struct err *err);

/* The name of an image's disk below disks/. */
void store_disk_name(const char *id, char out[static DIGEST_SIZE + 16]);

/* The name of its unpacked tree below trees/. */
void store_tree_name(const char *id, char out[static DIGEST_SIZE + 16]);

/* Removes blobs, disks and trees that no record needs. The store's lock must be held alone. */
int store_sweep(struct image_store *store, struct image_removed *removed, struct err *err);
