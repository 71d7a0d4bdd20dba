/* SPDX-License-Identifier: Apache-2.0 */
/* oci/profile.h: the input is a seccomp profile, behind one byte that says which capabilities there
 * are. */
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "oci/caps.h"
#include "oci/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t caps[] = { 0, OCI_CAPS_ALL, 1 << 21 };
	struct err err = ERR_INIT;
	char *hex = NULL;
	int r;

	if (!size)
		return 0;
	r = oci_profile_compile((const char *)data + 1, size - 1, caps[data[0] % 3], &hex, &err);
	if (r < 0 && (err.code != -r || !err.msg[0]))
		abort();
	if (r == 0 && (strlen(hex) % 16 || strlen(hex) > 16 * BPF_MAXINSNS))
		abort();
	free(hex);
	return 0;
}
