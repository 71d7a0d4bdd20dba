/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/docker/host.h"

#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define DEFAULT_HOST "unix:///var/run/docker.sock"

const char *engine_host(void)
{
	static const char *const names[] = { "CODEPOD_DOCKER_HOST", "DOCKER_HOST" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return value;
	}
	return DEFAULT_HOST;
}

bool engine_is_local(const char *host)
{
	return strncmp(host, "unix:", 5) == 0;
}
