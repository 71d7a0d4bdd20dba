/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes before a frame, in any two pieces, never hide it. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "io/greeting.h"

static void find(
	struct greeting *g, const struct greeting *offer, const uint8_t *noise, size_t size)
{
	size_t cut = size ? noise[0] % size : 0, used = 0;
	bool done;

	/* The noise may hold whole frames of its own: each ends one search. */
	while (used < size) {
		size_t end = used < cut ? cut : size,
		       n = greeting_feed(g, noise + used, end - used, &done);

		if (n == 0 || n > end - used || (n < end - used && !done))
			abort();
		used += n;
	}
	if (greeting_feed(g, offer->frame, GREETING_LEN, &done) != GREETING_LEN || !done ||
		memcmp(g->frame, offer->frame, GREETING_LEN) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct greeting offer, answer, copy;

	greeting_offer(&offer);
	greeting_answer(&answer);
	find(&answer, &offer, data, size);
	copy = offer;
	find(&copy, &offer, data, size);
	return 0;
}
