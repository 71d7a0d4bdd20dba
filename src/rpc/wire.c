/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"

void wire_percent_encode(struct strbuf *out, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			strbuf_addc(out, (char)c);
		} else {
			char esc[3] = { '%', hex[c >> 4], hex[c & 15] };

			strbuf_add(out, esc, sizeof(esc));
		}
	}
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

void wire_percent_decode(const uint8_t *in, size_t len, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < size; i++) {
		uint8_t c = in[i];

		if (c == '%' && i + 2 < len && hex_digit(in[i + 1]) >= 0 &&
			hex_digit(in[i + 2]) >= 0) {
			c = (uint8_t)(hex_digit(in[i + 1]) << 4 | hex_digit(in[i + 2]));
			i += 2;
		}
		out[n++] = c ? (char)c : '?';
	}
	/* A character cut in two by size is left out. */
	if (n + 1 == size) {
		size_t back = 0;

		while (back < 3 && back < n && ((uint8_t)out[n - 1 - back] & 0xc0) == 0x80)
			back++;
		if (back < n && ((uint8_t)out[n - 1 - back] & 0xc0) == 0xc0 &&
			!utf8_valid(out + n - 1 - back, back + 1))
			n -= back + 1;
	}
	out[n] = '\0';
	if (!utf8_valid(out, n))
		for (size_t i = 0; i < n; i++)
			if ((uint8_t)out[i] >= 0x80)
				out[i] = '?';
}

static const char base64_alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void wire_base64_encode(struct strbuf *out, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN(len - i, 3);
		uint32_t v = (uint32_t)p[i] << 16;
		char quad[4];

		if (n > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			v |= p[i + 2];
		for (size_t k = 0; k < 4; k++)
			quad[k] = base64_alphabet[v >> (18 - 6 * k) & 63];
		strbuf_add(out, quad, n + 1);
	}
}

static int base64_digit(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int wire_base64_decode(struct strbuf *out, const uint8_t *in, size_t len)
{
	uint32_t v = 0;
	unsigned bits = 0;

	if (len && len % 4 == 0 && in[len - 1] == '=')
		len -= in[len - 2] == '=' ? 2 : 1;
	if (len % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int d = base64_digit(in[i]);

		if (d < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			strbuf_addc(out, (char)(v >> bits & 0xff));
		}
	}
	return 0;
}

static const struct {
	char unit;
	int64_t ns;
} timeout_units[] = {
	{ 'n', 1 },
	{ 'u', NSEC_PER_USEC },
	{ 'm', NSEC_PER_MSEC },
	{ 'S', NSEC_PER_SEC },
	{ 'M', 60 * NSEC_PER_SEC },
	{ 'H', 3600 * NSEC_PER_SEC },
};

int wire_timeout_parse(const uint8_t *in, size_t len, int64_t *ret_ns)
{
	int64_t value = 0;

	if (len < 2 || len > 9)
		return -EINVAL;
	for (size_t i = 0; i + 1 < len; i++) {
		if (in[i] < '0' || in[i] > '9')
			return -EINVAL;
		value = value * 10 + (in[i] - '0');
	}
	for (size_t i = 0; i < ARRAY_SIZE(timeout_units); i++)
		if (timeout_units[i].unit == (char)in[len - 1]) {
			if (__builtin_mul_overflow(value, timeout_units[i].ns, ret_ns))
				*ret_ns = INT64_MAX;
			return 0;
		}
	return -EINVAL;
}

void wire_timeout_format(int64_t ns, char out[static WIRE_TIMEOUT_MAX])
{
	size_t i = 0;
	int64_t value = MAX(ns, 1);

	while (i + 1 < ARRAY_SIZE(timeout_units) && value > 99999999) {
		i++;
		value = (MAX(ns, 1) - 1) / timeout_units[i].ns + 1;
	}
	snprintf(out, WIRE_TIMEOUT_MAX, "%" PRId64 "%c", value, timeout_units[i].unit);
}

bool wire_content_type_ok(const uint8_t *in, size_t len)
{
	static const char base[] = "application/grpc", proto[] = "+proto";

	if (len < sizeof(base) - 1 || memcmp(in, base, sizeof(base) - 1) != 0)
		return false;
	in += sizeof(base) - 1;
	len -= sizeof(base) - 1;
	if (len >= sizeof(proto) - 1 && memcmp(in, proto, sizeof(proto) - 1) == 0) {
		in += sizeof(proto) - 1;
		len -= sizeof(proto) - 1;
	}
	return !len || *in == ';' || *in == ' ';
}

bool wire_list_has(const uint8_t *in, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i < len;) {
		size_t end = i, last;

		while (end < len && in[end] != ',')
			end++;
		while (i < end && in[i] == ' ')
			i++;
		for (last = end; last > i && in[last - 1] == ' ';)
			last--;
		if (last - i == n && memcmp(in + i, word, n) == 0)
			return true;
		i = end + 1;
	}
	return false;
}

enum rpc_code wire_code_from_http(unsigned status)
{
	switch (status) {
	case 400:
		return RPC_INTERNAL;
	case 401:
		return RPC_UNAUTHENTICATED;
	case 403:
		return RPC_PERMISSION_DENIED;
	case 404:
		return RPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return RPC_UNAVAILABLE;
	default:
		return RPC_UNKNOWN;
	}
}

enum rpc_code wire_code_from_h2(uint32_t error_code)
{
	switch (error_code) {
	case NGHTTP2_REFUSED_STREAM:
		return RPC_UNAVAILABLE;
	case NGHTTP2_CANCEL:
		return RPC_CANCELLED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return RPC_RESOURCE_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return RPC_PERMISSION_DENIED;
	default:
		return RPC_INTERNAL;
	}
}
