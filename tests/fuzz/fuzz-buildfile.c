/* SPDX-License-Identifier: Apache-2.0 */
/* A Dockerfile of somebody else's. */
#include "fuzz.h"

#include <stdlib.h>

#include "image/buildfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strv args = STRV_INIT, names = STRV_INIT;
	struct err err = ERR_INIT;
	int r;

	if (strv_add(&args, "A=given") < 0)
		abort();
	r = buildfile_bases((const char *)data, size, &args, &names, &err);
	/* A failure has a reason. */
	if (r < 0 && !err.code)
		abort();
	for (size_t i = 0; i < names.n; i++)
		if (!names.v[i][0])
			abort();
	strv_deinit(&args);
	strv_deinit(&names);
	return 0;
}
