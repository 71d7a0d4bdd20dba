/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <strings.h>

#include "oci/caps.h"

static int read_set(
	const struct strv *words, uint64_t *ret_caps, bool *ret_all, const char **ret_bad)
{
	*ret_caps = 0;
	*ret_all = false;
	for (size_t i = 0; i < words->n; i++) {
		unsigned cap;

		if (strcasecmp(words->v[i], "ALL") == 0 ||
			strcasecmp(words->v[i], "CAP_ALL") == 0) {
			*ret_all = true;
		} else if (oci_cap_parse(words->v[i], &cap) < 0) {
			*ret_bad = words->v[i];
			return -EINVAL;
		} else {
			*ret_caps |= (uint64_t)1 << cap;
		}
	}
	return 0;
}

int oci_caps_tweak(
	const struct strv *add, const struct strv *drop, uint64_t *ret_caps, const char **ret_bad)
{
	uint64_t more, less;
	bool all, none;
	int r = read_set(add, &more, &all, ret_bad);

	if (r == 0)
		r = read_set(drop, &less, &none, ret_bad);
	if (r < 0)
		return r;
	*ret_caps = all ? OCI_CAPS_ALL & ~less : none ? more : (oci_caps_default & ~less) | more;
	return 0;
}
