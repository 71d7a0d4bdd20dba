/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/limits.h"
#include "base/macro.h"

void random_bytes(void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0)
			continue; /* EINTR: the only error that getrandom(2) lists for valid
				     arguments */
		p += got;
		n -= (size_t)got;
	}
}

void hex_encode(const void *data, size_t n, char *out)
{
	static const char digit[] = "0123456789abcdef";
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++) {
		*out++ = digit[p[i] >> 4];
		*out++ = digit[p[i] & 15];
	}
	*out = 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_decode(const char *hex, void *out, size_t n)
{
	uint8_t *p = out;

	if (strlen(hex) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < 2 * n; i++)
		if (hex_value(hex[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
	return 0;
}

void id_generate(char out[static ID_LEN + 1])
{
	uint8_t raw[ID_LEN / 2];

	do {
		random_bytes(raw, sizeof(raw));
		hex_encode(raw, sizeof(raw), out);
	} while (strspn(out, "0123456789") >= ID_SHOWN_LEN);
}

bool name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 2 || len > LIMIT_NAME || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
			return false;
	return true;
}

void name_generate(char *out, size_t size)
{
	static const char *const adjectives[] = { "amber", "bold", "brisk", "calm", "clear",
		"crisp", "deft", "eager", "fair", "fleet", "fresh", "gentle", "glad", "golden",
		"grand", "happy", "hardy", "jolly", "keen", "kind", "lively", "lucid", "merry",
		"mild", "neat", "noble", "nimble", "plain", "proud", "quick", "quiet", "ready",
		"royal", "sharp", "silver", "smart", "solid", "steady", "sunny", "swift", "tidy",
		"vivid", "warm", "wise" };
	static const char *const nouns[] = { "acorn", "alder", "aspen", "badger", "beacon", "birch",
		"brook", "canyon", "cedar", "cliff", "comet", "coral", "crane", "dune", "falcon",
		"fern", "finch", "fjord", "forest", "glacier", "grove", "harbor", "heron", "island",
		"lagoon", "lark", "maple", "meadow", "mesa", "otter", "pebble", "pine", "plover",
		"prairie", "raven", "reef", "ridge", "river", "robin", "sparrow", "spruce",
		"summit", "tern", "willow" };
	uint32_t r[2];

	random_bytes(r, sizeof(r));
	snprintf(out, size, "%s_%s", adjectives[r[0] % ARRAY_SIZE(adjectives)],
		nouns[r[1] % ARRAY_SIZE(nouns)]);
}

bool secret_equal(const void *a, const void *b, size_t n)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}
