/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs about images share. */
#pragma once

#include "cli/cli.h"
#include "image/image.h"

/* The ids of the images that sandboxes use, for image_remove() and image_prune(). 0 or -errno with
 * err. */
int images_used(struct cli *cli, struct strv *ret_ids, struct err *err);

/* Removes untagged images (all: every one) that no sandbox uses, and says what was removed. 0 or
 * -errno with err. */
int images_prune(struct cli *cli, bool all, struct err *err);

/* Whether "HOST[:PORT]" is this machine. */
bool images_is_loopback(const char *registry);

/*
 * --platform: "linux/arm64", "linux/arm64/v8" or "arm64" to the architecture, borrowed from buf;
 * text NULL: NULL, this host's. 0, or -EINVAL with err.
 */
int images_platform(const char *text, char buf[static 32], const char **ret_arch, struct err *err);

/* Docker's REPOSITORY and TAG. */
struct image_name {
	char *repository; /* "nginx", "127.0.0.1:5000/a/b", "<none>" */
	char *tag;	  /* "latest", "<none>" */
};

int image_name_split(const struct image *image, struct image_name *ret_name); /* 0 or -ENOMEM */
void image_name_deinit(struct image_name *name);
