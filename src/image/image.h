/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: fetching them into a store of blobs shared by digest, finding, listing and removing them,
 * and the read-only ext4 disk that a sandbox's root file system is made from.
 *
 * On the disk, below ROOT/images (0700, all of it made on demand):
 *   blobs/sha256/<hex>   manifests, configs and layers; whole and verified, or not there
 *   refs/<hex>.json      one record per reference (hex: sha256 of the reference) or untagged image
 *   disks/<hex>-<n>.img  one disk per image configuration, n: format version of the disk builder
 *   trees/<hex>-<n>/     the same as a folder, of images that are shared so
 *   locks/, tmp/         locks and files not yet finished
 *
 * Registries, mirrors, credentials and the transports other than registries are skopeo's work: its
 * registries.conf (CONTAINERS_REGISTRIES_CONF), auth.json (REGISTRY_AUTH_FILE) and policy.json
 * count. Every digest is verified here. All functions block; those that fetch or build show
 * progress through a callback.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "image/digest.h"
#include "oci/imgconf.h"

struct image_store;

/* Opens ROOT/images, making it if missing. root: borrowed. 0 or -errno with err. */
int image_store_open(const char *root, struct image_store **ret_store, struct err *err);

/* Accepts NULL; returns NULL. */
struct image_store *image_store_close(struct image_store *store);

struct image_layer {
	char digest[DIGEST_SIZE];  /* of the blob as stored, usually compressed */
	char diff_id[DIGEST_SIZE]; /* of the tar inside */
	uint64_t size;		   /* of the blob, bytes */
};

struct image {
	char *reference; /* as Docker shows it in full ("docker.io/library/nginx:latest"); NULL:
			    untagged */
	char manifest[DIGEST_SIZE]; /* of this architecture's manifest */
	char index[DIGEST_SIZE];    /* what the reference itself named: an index's or again the
				       manifest's digest */
	char id[DIGEST_SIZE];	    /* of the configuration: the image id, as Docker's */
	uint64_t size;		    /* bytes of all its blobs */
	int64_t pulled;		    /* when the reference last got its value, CLOCK_REALTIME ns */
	struct image_layer *layers; /* lowest first */
	size_t n_layers;
	struct image_config config;
};

/* Accepts NULL; returns NULL. */
struct image *image_free(struct image *image);
DEFINE_CLEANUP(image, struct image *, image_free)
DEFINE_CLEANUP(image_store, struct image_store *, image_store_close)

/* The one image whose id begins so, or has this digest; false: there is none, or more than one. */
bool image_find_id(struct image_store *store, const char *name, struct image **ret_image);

/* Progress */
enum image_phase {
	IMAGE_PHASE_RESOLVE,  /* asking what the reference stands for; no counts */
	IMAGE_PHASE_WAIT,     /* another process does the same work; no counts */
	IMAGE_PHASE_DOWNLOAD, /* bytes of all blobs still to be fetched */
	IMAGE_PHASE_LAYER,    /* the same of one layer, text: its digest */
	IMAGE_PHASE_BUILD, /* packed bytes of all layers read for the disk, text: the layer's digest
			    */
	IMAGE_PHASE_MAX
};

struct image_progress {
	enum image_phase phase;
	const char *text; /* borrowed for the call; never NULL */
	uint64_t done, total;
};

typedef void (*image_progress_fn)(void *arg, const struct image_progress *progress);

/* Fetching */
enum image_policy {
	IMAGE_PULL_MISSING, /* only if no image of that reference and architecture is in the store
			     */
	IMAGE_PULL_ALWAYS,  /* ask the registry what the tag means now; blobs already here are not
			       fetched again */
	IMAGE_PULL_NEVER,
	IMAGE_PULL_MAX
};

/* This machine's architecture as images name it: "amd64". */
const char *image_host_architecture(void);

/* "missing", "always", "never" to a policy. 0 or -EINVAL. */
int image_policy_parse(const char *word, enum image_policy *ret_policy);

struct image_pull_opts {
	enum image_policy policy;
	const char *architecture;   /* as in Go ("amd64", "arm64"); NULL: this machine's */
	image_progress_fn progress; /* may be NULL */
	void *progress_arg;
};

/*
 * Makes sure that the store has the image that reference (image/ref.h) names. Two calls at once for
 * one reference do the work once: the second waits and takes the first one's result. The image is
 * the caller's. 0 or -errno with one line for the user: ENOENT no such image, EACCES not allowed,
 * EHOSTUNREACH registry cannot be reached, EINVAL bad reference, EBADMSG wrong digest or content,
 * ENOSPC, EIO.
 */
int image_pull(struct image_store *store, const char *reference, const struct image_pull_opts *opts,
	struct image **ret_image, struct err *err);

struct image_list {
	struct image **items;
	size_t n;
};

void image_list_deinit(struct image_list *list);

/*
 * Takes all images out of an archive that `docker save` or an OCI tool wrote (tar, plain or gzip).
 * path: NULL to read from fd. Names in the archive become references; an image without one is kept
 * untagged. The images loaded go to *ret_list (owned by the caller).
 */
int image_load(struct image_store *store, const char *path, int fd,
	const struct image_pull_opts *opts, struct image_list *ret_list, struct err *err);

/* Looking up */

/*
 * Finds by reference, by a unique prefix of the id (4 to 64 hex digits, with or without "sha256:"),
 * or by manifest digest. Never asks a registry. -ENOENT, -EINVAL (bad name, prefix of several) with
 * err.
 */
int image_find(
	struct image_store *store, const char *name, struct image **ret_image, struct err *err);

/* All images, newest pull first; one item per reference. A record that cannot be read is left out.
 * 0 or -errno. */
int image_list(struct image_store *store, struct image_list *ret_list, struct err *err);

/* Removing. used: the ids (config digests) of images that sandboxes use; whoever starts a sandbox
 * writes its state before it asks for the disk, so that the list is never short of one. */

struct image_used {
	const char *const *ids;
	size_t n;
};

struct image_removed {
	size_t references, images, blobs;
	uint64_t bytes; /* freed on the disk, of blobs and disks */
};

/*
 * Removes a reference, and with the last one of an image its disk and the blobs that no other image
 * needs. By id all references go. -EBUSY with err if a sandbox uses the image and no other
 * reference to it would be left.
 */
int image_remove(struct image_store *store, const char *name, const struct image_used *used,
	struct image_removed *ret_removed, struct err *err);

/*
 * Removes untagged images (all: every image) that no sandbox uses, blobs and disks of no image, and
 * what a killed pull or build left. Waits for pulls and builds that run.
 */
int image_prune(struct image_store *store, bool all, const struct image_used *used,
	struct image_removed *ret_removed, struct err *err);

/* Committing: an image with one more layer */

struct image_commit;

struct image_commit_opts {
	const char *target;	       /* NAME[:TAG]; NULL: it has no name */
	const char *author, *message;  /* NULL: none */
	const struct strv *args, *env; /* of the container */
	const struct strv *changes;    /* words of --change */
};

/* Whether a word of --change can be followed: 0, or -EINVAL with err. */
int image_change_check(const char *change, struct err *err);

/* Begins: the layer's archive (not packed) goes to *ret_fd, which is the commit's. 0 or -errno with
 * err. */
int image_commit_new(
	struct image_store *store, struct image_commit **ret_commit, int *ret_fd, struct err *err);

/* The layer is whole. *ret_id: the new image's. 0 or -errno with err, and then there is none. */
int image_commit_finish(struct image_commit *commit, const struct image *base,
	const struct image_commit_opts *opts, char ret_id[static DIGEST_SIZE], struct err *err);

/* Accepts NULL; returns NULL. */
struct image_commit *image_commit_free(struct image_commit *commit);
DEFINE_CLEANUP(image_commit, struct image_commit *, image_commit_free)

/* The disk */

struct image_disk_opts {
	image_progress_fn progress; /* may be NULL */
	void *progress_arg;
};

/*
 * The path (caller frees) of the image's read-only ext4 disk, built now if there is none yet; see
 * image/disk.h for what is in it and what is refused. Two calls at once build once. The file never
 * changes after that.
 */
int image_disk(struct image_store *store, const struct image *image,
	const struct image_disk_opts *opts, char **ret_path, struct err *err);

/* The same of the image as a folder (image/unpack.h), which nobody may write to. */
int image_tree(struct image_store *store, const struct image *image,
	const struct image_disk_opts *opts, char **ret_path, struct err *err);
