/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image references. Without a transport they are read as Docker reads them (distribution/reference
 * grammar): "nginx" is docker.io/library/nginx:latest, the first part is a host if it has '.' or
 * ':' or is "localhost", a digest may follow or replace the tag. With one of skopeo's transports
 * (containers-transports(5): docker-archive: oci: oci-archive: docker-daemon: containers-storage:
 * dir:, and docker:// which is the same as none) the rest is skopeo's to read.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "image/digest.h"

struct image_ref {
	char *name;	  /* in full: "docker.io/library/nginx:latest", "host/x@sha256:..." or
			     "oci:/dir:tag" */
	char *source;	  /* what skopeo is told: "docker://..." or name */
	char *repository; /* "docker.io/library/nginx"; NULL with a transport */
	char *host;	  /* "docker.io", "localhost:5000"; NULL with a transport */
	char digest[DIGEST_SIZE]; /* "" if none was given */
	bool loopback; /* the host is this machine's loopback: plain HTTP is tried too, as Docker
			  does */
};

/* Reads text into *ret_ref (image_ref_deinit). -EINVAL with err saying what is wrong with it;
 * -ENOMEM. */
int image_ref_parse(const char *text, struct image_ref *ret_ref, struct err *err);
void image_ref_deinit(struct image_ref *ref);

#define auto_image_ref __attribute__((cleanup(image_ref_deinit)))
