/* SPDX-License-Identifier: Apache-2.0 */
/* base/parse.h: numbers, sizes and durations from command lines and image configurations. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "fuzz.h"

static void want(bool promise)
{
	if (!promise)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *word = malloc(size + 1);
	uint64_t u;
	int64_t i;
	bool b;

	if (!word)
		return 0;
	if (size)
		memcpy(word, data, size);
	word[size] = '\0';
	if (parse_u64(word, 10, 1000, &u) == 0)
		want(u >= 10 && u <= 1000);
	if (parse_i64(word, -10, 10, &i) == 0)
		want(i >= -10 && i <= 10);
	if (parse_octal(word, 07777, &u) == 0)
		want(u <= 07777);
	if (parse_milli(word, &u) == 0)
		want(u > 0);
	(void)parse_size(word, &u);
	(void)parse_duration(word, &i);
	(void)parse_bool(word, &b);
	(void)utf8_valid(data, size);
	return 0;
}
