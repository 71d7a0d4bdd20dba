/* SPDX-License-Identifier: Apache-2.0 */
/* oci/spec.h: a whole spec from outside. What it makes of one, it must take again, unchanged. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_oci_spec struct oci_spec first = { 0 }, second = { 0 };
	struct err err = ERR_INIT;
	bool tty, again;
	int r = oci_spec_merge_full(data, size, "/new \"root\"", "/c", &first, &tty, &err);

	if (r < 0) {
		if (err.code != -r || !err.msg[0] || first.json)
			abort();
		return 0;
	}
	if (oci_spec_merge_full(
		    first.json, first.json_len, "/new \"root\"", "/c", &second, &again, &err) < 0)
		/* It may have grown over the limit. */
		return 0;
	if (tty != again || strcmp(first.json, second.json) != 0)
		abort();
	return 0;
}
