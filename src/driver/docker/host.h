/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine: apart from its client, which brings libcurl along. */
#pragma once

#include <stdbool.h>

/* Where the engine is: CODEPOD_DOCKER_HOST, else DOCKER_HOST, else the usual socket. */
const char *engine_host(void);
/* Whether it runs on this host, as far as its address tells: unix:///PATH. */
bool engine_is_local(const char *host);
