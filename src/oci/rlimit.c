/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rlimit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "base/parse.h"

static const char *const names[] = {
	[RLIMIT_CPU] = "RLIMIT_CPU",
	[RLIMIT_FSIZE] = "RLIMIT_FSIZE",
	[RLIMIT_DATA] = "RLIMIT_DATA",
	[RLIMIT_STACK] = "RLIMIT_STACK",
	[RLIMIT_CORE] = "RLIMIT_CORE",
	[RLIMIT_RSS] = "RLIMIT_RSS",
	[RLIMIT_NPROC] = "RLIMIT_NPROC",
	[RLIMIT_NOFILE] = "RLIMIT_NOFILE",
	[RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",
	[RLIMIT_AS] = "RLIMIT_AS",
	[RLIMIT_LOCKS] = "RLIMIT_LOCKS",
	[RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
	[RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE",
	[RLIMIT_NICE] = "RLIMIT_NICE",
	[RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",
	[RLIMIT_RTTIME] = "RLIMIT_RTTIME",
};
static_assert(ARRAY_SIZE(names) == OCI_RLIMIT_MAX, "one name for each limit");

const char *oci_rlimit_name(int resource)
{
	return resource >= 0 && resource < OCI_RLIMIT_MAX ? names[resource] : NULL;
}

int oci_rlimit_parse_name(const char *word, int *ret_resource)
{
	if (strncasecmp(word, "RLIMIT_", 7) == 0)
		word += 7;
	for (int i = 0; i < OCI_RLIMIT_MAX; i++) {
		if (strcasecmp(word, names[i] + 7) == 0) {
			*ret_resource = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_value(const char *text, uint64_t *ret_value)
{
	if (strcmp(text, "-1") == 0 || strcasecmp(text, "unlimited") == 0) {
		*ret_value = UINT64_MAX;
		return 0;
	}
	return parse_u64(text, 0, INT64_MAX, ret_value);
}

int oci_rlimit_parse(const char *text, struct oci_rlimit *ret_limit, struct err *err)
{
	struct oci_rlimit limit;
	char copy[128], *value, *hard;

	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy) ||
		!(value = strchr(copy, '=')))
		return err_set(
			err, EINVAL, "limit '%.64s': want NAME=SOFT or NAME=SOFT:HARD", text);
	*value++ = '\0';
	if (oci_rlimit_parse_name(copy, &limit.resource) < 0)
		return err_set(
			err, EINVAL, "limit '%s': there is no limit called '%s'", text, copy);
	hard = strchr(value, ':');
	if (hard)
		*hard++ = '\0';
	if (parse_value(value, &limit.soft) < 0 ||
		parse_value(hard ? hard : value, &limit.hard) < 0)
		return err_set(err, EINVAL, "limit '%s': the value is not a number", text);
	if (limit.soft > limit.hard)
		return err_set(
			err, EINVAL, "limit '%s': the soft limit is above the hard one", text);
	*ret_limit = limit;
	return 0;
}
