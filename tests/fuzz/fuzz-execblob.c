/* SPDX-License-Identifier: Apache-2.0 */
/* oci/execblob.h: argv, environment and cwd handed to a container's first process. What decodes,
 * encodes to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "fuzz.h"
#include "oci/execblob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *blob = malloc(size + 1);
	auto_free void *again = NULL;
	struct oci_exec exec;
	size_t len;

	if (!blob)
		return 0;
	memcpy(blob, data, size);
	if (oci_execblob_decode(blob, size, &exec) < 0)
		return 0;
	if (exec.cwd[0] && (oci_execblob_encode((const char *const *)exec.args,
				    (const char *const *)exec.env, exec.cwd, &again, &len) < 0 ||
				   len != size || memcmp(again, data, size) != 0))
		abort();
	free(exec.args);
	free(exec.env);
	return 0;
}
