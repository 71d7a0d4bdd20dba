/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/macro.h"

/* Reads digits of the base; *s is left behind the last one. -EINVAL without a digit, -ERANGE on
 * overflow. */
static int digits(const char **s, unsigned base, uint64_t *ret_value)
{
	uint64_t v = 0;
	const char *p = *s;

	for (; *p >= '0' && *p < (char)('0' + base); p++)
		if (__builtin_mul_overflow(v, base, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	if (p == *s)
		return -EINVAL;
	*s = p;
	*ret_value = v;
	return 0;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t v;
	int r = digits(&s, 10, &v);

	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (v < min || v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}

int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret_value)
{
	bool negative = *s == '-';
	uint64_t u;
	int64_t v;
	int r = parse_u64(s + negative, 0, (uint64_t)INT64_MAX, &u);

	if (r < 0)
		return r;
	v = negative ? -(int64_t)u : (int64_t)u;
	if (v < min || v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}

int parse_uint(const char *s, unsigned min, unsigned max, unsigned *ret_value)
{
	uint64_t v;
	int r = parse_u64(s, min, max, &v);

	if (r == 0)
		*ret_value = (unsigned)v;
	return r;
}

int parse_octal(const char *s, uint64_t max, uint64_t *ret_value)
{
	uint64_t v;
	int r = digits(&s, 8, &v);

	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*ret_value = v;
	return 0;
}

/* "12.345" as 12345 units of 10^-places; further digits are refused unless they may be cut off. */
static int fixed_point(const char **s, unsigned places, bool cut, uint64_t *ret_value)
{
	uint64_t v = 0;
	int r = 0;

	if (**s != '.')
		r = digits(s, 10, &v);
	if (r < 0)
		return r;
	if (**s == '.') {
		(*s)++;
		if (**s < '0' || **s > '9')
			return -EINVAL;
	} else {
		for (; places; places--)
			if (__builtin_mul_overflow(v, 10, &v))
				return -ERANGE;
	}
	for (; places; places--) {
		uint64_t d = **s >= '0' && **s <= '9' ? (uint64_t)(*(*s)++ - '0') : 0;

		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v))
			return -ERANGE;
	}
	while (**s >= '0' && **s <= '9') {
		if (!cut)
			return -EINVAL;
		(*s)++;
	}
	*ret_value = v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "bkmgt";
	uint64_t milli, mult = 1;
	unsigned __int128 bytes;
	int r = fixed_point(&s, 3, true, &milli);

	if (r < 0)
		return r;
	if (*s) {
		const char *u = strchr(units, *s | 0x20);

		if (!u)
			return -EINVAL;
		mult = (uint64_t)1 << (10 * (u - units));
		s++;
		if (u != units && (strcasecmp(s, "b") == 0 || strcasecmp(s, "ib") == 0))
			s += strlen(s);
	}
	if (*s)
		return -EINVAL;
	bytes = (unsigned __int128)milli * mult / 1000;
	if (bytes > INT64_MAX)
		return -ERANGE;
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

static const struct {
	const char *name;
	int64_t ns;
} duration_units[] = {
	{ "ns", 1 },
	{ "us", NSEC_PER_USEC },
	{ "ms", NSEC_PER_MSEC },
	{ "s", NSEC_PER_SEC },
	{ "m", 60 * NSEC_PER_SEC },
	{ "h", 3600 * NSEC_PER_SEC },
};

int parse_duration(const char *s, int64_t *ret_ns)
{
	int64_t total = 0;

	do {
		uint64_t micro;
		int64_t unit = 0;
		unsigned __int128 ns;
		int r = fixed_point(&s, 6, true, &micro);
		size_t len = strcspn(s, "0123456789.");

		if (r < 0)
			return r;
		if (len == 0 && !*s && total == 0)
			unit = NSEC_PER_SEC;
		for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++)
			if (strlen(duration_units[i].name) == len &&
				strncmp(s, duration_units[i].name, len) == 0)
				unit = duration_units[i].ns;
		if (!unit)
			return -EINVAL;
		ns = (unsigned __int128)micro * (uint64_t)unit / 1000000;
		if (ns > INT64_MAX || __builtin_add_overflow(total, (int64_t)ns, &total))
			return -ERANGE;
		s += len;
	} while (*s);
	*ret_ns = total;
	return 0;
}

int parse_milli(const char *s, uint64_t *ret_milli)
{
	uint64_t v;
	int r = fixed_point(&s, 3, false, &v);

	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (v == 0)
		return -ERANGE;
	*ret_milli = v;
	return 0;
}

int parse_bool(const char *s, bool *ret_value)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(s, words[i]) == 0) {
			*ret_value = i & 1;
			return 0;
		}
	}
	return -EINVAL;
}

bool utf8_valid(const void *data, size_t len)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	const uint8_t *p = data, *end = p + len;

	while (p < end) {
		uint32_t c = *p++;
		unsigned more = c < 0x80	     ? 0
				: (c & 0xe0) == 0xc0 ? 1
				: (c & 0xf0) == 0xe0 ? 2
				: (c & 0xf8) == 0xf0 ? 3
						     : 4;

		if (more == 4 || (size_t)(end - p) < more)
			return false;
		if (more)
			c &= 0x3fu >> more;
		for (unsigned i = 0; i < more; i++, p++) {
			if ((*p & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*p & 0x3f);
		}
		if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
	}
	return true;
}
