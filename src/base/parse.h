/* SPDX-License-Identifier: Apache-2.0 */
/* Words to numbers, strictly: the whole word or -EINVAL; out of range is -ERANGE. ret_ is untouched
 * on failure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret_value);
int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret_value);
int parse_uint(const char *s, unsigned min, unsigned max, unsigned *ret_value);
int parse_octal(const char *s, uint64_t max, uint64_t *ret_value);

/* "512", "64k", "1g", "1.5GiB": bytes, as Docker reads sizes: units b k m g t are powers of 1024,
 * either case. */
int parse_size(const char *s, uint64_t *ret_bytes);

/* "10", "1.5s", "300ms", "2m", "1h30m": nanoseconds; a bare number is seconds. */
int parse_duration(const char *s, int64_t *ret_ns);

/* "1.5" CPUs to 1500 thousandths. More than three decimals, zero or negative are refused. */
int parse_milli(const char *s, uint64_t *ret_milli);

/* "true" "yes" "on" "1" and "false" "no" "off" "0". */
int parse_bool(const char *s, bool *ret_value);

/* Whether the len bytes are valid UTF-8 (RFC 3629: no surrogates, no overlong forms, at most
 * U+10FFFF). */
bool utf8_valid(const void *data, size_t len);
