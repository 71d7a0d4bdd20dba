/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "image/ref.h"

static void want(int cond)
{
	if (!cond)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_image_ref struct image_ref ref = { 0 }, again = { 0 };
	auto_free char *text = calloc(1, size + 1);
	struct err err = ERR_INIT;

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	if (image_ref_parse(text, &ref, &err) < 0) {
		want(err.code && err.msg[0]);
		return 0;
	}
	/* The full form stands for itself. */
	want(image_ref_parse(ref.name, &again, &err) == 0);
	want(strcmp(ref.name, again.name) == 0 && strcmp(ref.source, again.source) == 0);
	want(!ref.repository == !ref.host);
	return 0;
}
