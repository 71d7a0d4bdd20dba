/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are at a registry, for an engine that fetches from there: as `docker login` has left it in
 * $DOCKER_CONFIG/config.json (~/.docker/config.json), or `skopeo login` and `podman login` in
 * $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json or ~/.config/containers/auth.json. The
 * first that knows the registry counts. Helpers (credHelpers, credsStore) are asked as Docker does.
 */
#pragma once

#include "base/err.h"

/*
 * host: of the registry, "docker.io" for Docker's own. *ret_header: "X-Registry-Auth: ...", the
 * caller's to wipe and free; NULL if nobody has logged in there. 0 or -errno with err. Blocks on
 * the disk, and on a helper.
 */
int engine_auth_header(const char *host, char **ret_header, struct err *err);
