/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/failure.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "agent.pb-c.h"
#include "details.pb-c.h"

#define FAILURE_TYPE "micropod.agent.v1.Failure"

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* NULL if there is none; the caller frees it. */
static Micropod__Agent__V1__Failure *find_failure(const struct rpc_status *status)
{
	Micropod__Details__V1__Status *details = NULL;
	Micropod__Agent__V1__Failure *failure = NULL;

	if (status->details)
		details = micropod__details__v1__status__unpack(
			NULL, status->details_len, status->details);
	for (size_t i = 0; details && !failure && i < details->n_details; i++)
		if (ends_with(details->details[i]->type_url, FAILURE_TYPE))
			failure = micropod__agent__v1__failure__unpack(NULL,
				details->details[i]->value.len, details->details[i]->value.data);
	if (details)
		micropod__details__v1__status__free_unpacked(details, NULL);
	return failure;
}

int rpc_failure_exit_code(const struct rpc_status *status)
{
	Micropod__Agent__V1__Failure *f = find_failure(status);
	int code = 125;

	/* A user or a folder that is not there is no missing command. */
	if (f && f->kind == MICROPOD__AGENT__V1__FAILURE__KIND__SPAWN)
		code = f->errno_value == ENOENT && strcmp(f->step, "execute") == 0 ? 127 : 126;
	if (f)
		micropod__agent__v1__failure__free_unpacked(f, NULL);
	return code;
}
