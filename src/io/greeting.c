/* SPDX-License-Identifier: Apache-2.0 */
#include "io/greeting.h"

#include <string.h>

#include "base/id.h"

_Static_assert(sizeof(GREETING_MAGIC) - 1 == GREETING_MAGIC_LEN, "magic");

void greeting_offer(struct greeting *g)
{
	*g = (struct greeting){ .offer = true };
	memcpy(g->frame, GREETING_MAGIC, GREETING_MAGIC_LEN);
	for (size_t i = GREETING_MAGIC_LEN; i < GREETING_LEN; i++)
		while (!g->frame[i])
			random_bytes(&g->frame[i], 1);
}

void greeting_answer(struct greeting *g)
{
	*g = (struct greeting){ .offer = false };
	memcpy(g->frame, GREETING_MAGIC, GREETING_MAGIC_LEN);
}

static bool fits(struct greeting *g, uint8_t byte)
{
	if (g->matched < GREETING_MAGIC_LEN || g->offer)
		return byte == g->frame[g->matched];
	g->frame[g->matched] = byte;
	return byte != 0;
}

size_t greeting_feed(struct greeting *g, const void *data, size_t len, bool *ret_done)
{
	const uint8_t *p = data;
	size_t n = 0;

	*ret_done = false;
	while (n < len) {
		uint8_t byte = p[n++];

		if (fits(g, byte))
			g->matched++;
		else
			g->matched = byte == 0; /* only a frame's first byte is zero */
		if (g->matched == GREETING_LEN) {
			g->matched = 0;
			*ret_done = true;
			break;
		}
	}
	return n;
}
