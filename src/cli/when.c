/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/when.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/parse.h"

/* Exactly n digits with a value from min to max; -1 if not. */
static int digits(const char **s, unsigned n, int min, int max)
{
	int v = 0;

	for (unsigned i = 0; i < n; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return -1;
		v = v * 10 + (**s - '0');
	}
	return v < min || v > max ? -1 : v;
}

static bool skip(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* Up to nine decimals behind a point. */
static int fraction(const char **s, int64_t *ret_ns)
{
	int64_t ns = 0, unit = NSEC_PER_SEC / 10;

	if (!skip(s, '.'))
		return 0;
	if (**s < '0' || **s > '9')
		return -EINVAL;
	for (; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
		ns += unit * (**s - '0');
	*ret_ns = ns;
	return 0;
}

/* "Z", "+01:00", or nothing. */
static int zone(const char **s, bool *ret_utc, int *ret_offset)
{
	int sign, hours, minutes;

	if (!**s)
		return 0;
	*ret_utc = true;
	if (skip(s, 'Z') || skip(s, 'z'))
		return **s ? -EINVAL : 0;
	sign = **s == '-' ? -1 : 1;
	if (!skip(s, '+') && !skip(s, '-'))
		return -EINVAL;
	hours = digits(s, 2, 0, 23);
	if (hours < 0 || !skip(s, ':'))
		return -EINVAL;
	minutes = digits(s, 2, 0, 59);
	*ret_offset = sign * (hours * 3600 + minutes * 60);
	return minutes < 0 || **s ? -EINVAL : 0;
}

static int clock_time(const char **s, struct tm *tm, int64_t *ret_ns)
{
	tm->tm_hour = digits(s, 2, 0, 23);
	if (tm->tm_hour < 0 || !skip(s, ':'))
		return -EINVAL;
	tm->tm_min = digits(s, 2, 0, 59);
	if (tm->tm_min < 0)
		return -EINVAL;
	if (!skip(s, ':'))
		return 0;
	tm->tm_sec = digits(s, 2, 0, 60);
	return tm->tm_sec < 0 ? -EINVAL : fraction(s, ret_ns);
}

static int date(const char *s, int64_t *ret_ns)
{
	struct tm tm = { .tm_isdst = -1 };
	int64_t ns = 0;
	bool utc = false;
	int offset = 0, year = digits(&s, 4, 1900, 2261);
	time_t t;

	if (year < 0 || !skip(&s, '-'))
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = digits(&s, 2, 1, 12) - 1;
	if (tm.tm_mon < 0 || !skip(&s, '-'))
		return -EINVAL;
	tm.tm_mday = digits(&s, 2, 1, 31);
	if (tm.tm_mday < 0 || ((skip(&s, 'T') || skip(&s, ' ')) && clock_time(&s, &tm, &ns) < 0) ||
		zone(&s, &utc, &offset) < 0)
		return -EINVAL;
	t = utc ? timegm(&tm) - offset : mktime(&tm);
	*ret_ns = (int64_t)t * NSEC_PER_SEC + ns;
	return 0;
}

static int unix_time(const char *s, int64_t *ret_ns)
{
	int64_t sec = 0, ns = 0;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (; *s >= '0' && *s <= '9'; s++) {
		sec = sec * 10 + (*s - '0');
		if (sec > INT64_MAX / NSEC_PER_SEC - 1)
			return -EINVAL;
	}
	if (fraction(&s, &ns) < 0 || *s)
		return -EINVAL;
	*ret_ns = sec * NSEC_PER_SEC + ns;
	return 0;
}

int when_parse(const char *word, void *ret_ns, struct err *err)
{
	int64_t ns, ago;

	if (unix_time(word, &ns) < 0 && date(word, &ns) < 0) {
		if (parse_duration(word, &ago) < 0)
			return err_set(err, EINVAL,
				"give a time such as 2026-01-31T12:00:00Z, or how long ago, such "
				"as 42m");
		ns = clock_realtime() - ago;
	}
	*(int64_t *)ret_ns = ns;
	return 0;
}
