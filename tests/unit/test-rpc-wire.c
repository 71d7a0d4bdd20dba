/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces below calls: header values, metadata, gzip, decoding. */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "echo.pb-c.h"
#include "rpc/message.h"
#include "rpc/meta.h"
#include "rpc/wire.h"
#include "test.h"

static void percent(void)
{
	static const struct {
		const char *wire, *text;
	} cases[] = { { "plain text", "plain text" }, { "a%20b%25", "a b%" },
		{ "%E2%98%BA", "\u263a" }, { "%", "%" }, { "%4", "%4" }, { "%zz", "%zz" },
		{ "%00", "?" }, { "%FFx", "?x" } };
	auto_strbuf struct strbuf out = STRBUF_INIT;
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		wire_percent_decode(
			(const uint8_t *)cases[i].wire, strlen(cases[i].wire), text, sizeof(text));
		CHECK_STR(text, cases[i].text);
	}
	wire_percent_encode(&out, "\t\u263a 100%");
	CHECK_STR(out.data, "%09%E2%98%BA 100%25");
	/* Cut where a character ends. */
	wire_percent_decode((const uint8_t *)"abc%E2%98%BA", 12, text, 6);
	CHECK_STR(text, "abc");
	wire_percent_decode((const uint8_t *)"abc%E2%98%BA", 12, text, 7);
	CHECK_STR(text, "abc\u263a");
}

static void base64(void)
{
	static const struct {
		const char *wire, *text;
	} cases[] = { { "", "" }, { "YQ", "a" }, { "YQ==", "a" }, { "YWI", "ab" }, { "YWI=", "ab" },
		{ "YWJj", "abc" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_strbuf struct strbuf plain = STRBUF_INIT, wire = STRBUF_INIT;

		CHECK_INT(wire_base64_decode(
				  &plain, (const uint8_t *)cases[i].wire, strlen(cases[i].wire)),
			0);
		CHECK_INT(plain.len, strlen(cases[i].text));
		wire_base64_encode(&wire, cases[i].text, strlen(cases[i].text));
		CHECK_INT(wire.len, strcspn(cases[i].wire, "="));
		CHECK(memcmp(wire.data ? wire.data : "", cases[i].wire, wire.len) == 0);
	}
	for (size_t i = 0; i < 4; i++) {
		static const char *const bad[] = { "Y", "Y*", "YQ=", "=" };
		auto_strbuf struct strbuf plain = STRBUF_INIT;

		CHECK_INT(wire_base64_decode(&plain, (const uint8_t *)bad[i], strlen(bad[i])),
			-EINVAL);
	}
}

static void timeouts(void)
{
	static const struct {
		const char *wire;
		int64_t ns; /* -1: refused */
	} cases[] = { { "1n", 1 }, { "20u", 20000 }, { "100m", 100 * NSEC_PER_MSEC },
		{ "5S", 5 * NSEC_PER_SEC }, { "2M", 120 * NSEC_PER_SEC },
		{ "99999999H", INT64_MAX }, { "", -1 }, { "m", -1 }, { "5", -1 }, { "-1S", -1 },
		{ "123456789m", -1 }, { "1s", -1 }, { "1 S", -1 } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t ns = -1;

		wire_timeout_parse((const uint8_t *)cases[i].wire, strlen(cases[i].wire), &ns);
		CHECK_INT(ns, cases[i].ns);
	}
	for (int64_t ns = 1; ns < INT64_MAX / 3; ns = ns * 3 + 1) {
		char text[WIRE_TIMEOUT_MAX];
		int64_t back = 0;

		wire_timeout_format(ns, text);
		CHECK_INT(wire_timeout_parse((const uint8_t *)text, strlen(text), &back), 0);
		CHECK(back >= ns && back - ns <= ns / 99999);
	}
}

static bool ok_type(const char *s)
{
	return wire_content_type_ok((const uint8_t *)s, strlen(s));
}

static void words(void)
{
	CHECK(ok_type("application/grpc") && ok_type("application/grpc+proto") &&
		ok_type("application/grpc; charset=x"));
	CHECK(!ok_type("application/grpc-web") && !ok_type("application/grpc+json") &&
		!ok_type("text/html") && !ok_type(""));
	CHECK(wire_list_has((const uint8_t *)"identity, gzip", 14, "gzip"));
	CHECK(wire_list_has((const uint8_t *)"gzip ,x", 7, "gzip"));
	CHECK(!wire_list_has((const uint8_t *)"gzipped,xgzip", 13, "gzip"));
	CHECK_INT(wire_code_from_http(503), RPC_UNAVAILABLE);
	CHECK_INT(wire_code_from_http(404), RPC_UNIMPLEMENTED);
	for (int code = 0; code < RPC_CODE_MAX; code++)
		CHECK_INT(rpc_code_from_errno(rpc_code_to_errno((enum rpc_code)code)), code);
}

static void binary_metadata(void)
{
	struct rpc_meta m = { 0 };
	size_t len = 0;
	const void *v;

	CHECK_INT(
		rpc_meta_add_wire(&m, (const uint8_t *)"x-bin", 5, (const uint8_t *)"YQ,YmM= ,", 7),
		0);
	CHECK_INT(m.n, 2);
	v = rpc_meta_find(&m, "x-bin", 1, &len);
	CHECK(v && len == 2 && memcmp(v, "bc", 2) == 0);
	CHECK(!rpc_meta_find(&m, "x-bin", 2, &len));
	CHECK_INT(rpc_meta_add_wire(&m, (const uint8_t *)"x-bin", 5, (const uint8_t *)"Y", 1),
		-EINVAL);
	rpc_meta_deinit(&m);
}

static void gzip(void)
{
	struct rpc_buf packed = { 0 }, plain = { 0 };
	size_t n = 20 * MIB;
	auto_free uint8_t *zeros = calloc(1, n);

	CHECK_INT(rpc_gzip(zeros, n, &packed), 0);
	CHECK(packed.len < n / 100);
	CHECK_INT(rpc_gunzip(rpc_buf_data(&packed), packed.len, n, &plain), 0);
	CHECK_INT(plain.len, n);
	rpc_buf_deinit(&plain);
	/* A bomb stops at the limit, not behind it. */
	CHECK_INT(rpc_gunzip(rpc_buf_data(&packed), packed.len, MIB, &plain), -E2BIG);
	CHECK(plain.cap <= 4 * MIB);
	rpc_buf_deinit(&plain);
	for (size_t cut = 0; cut < packed.len; cut += packed.len / 7) {
		CHECK_INT(rpc_gunzip(rpc_buf_data(&packed), cut, n, &plain), -EBADMSG);
		rpc_buf_deinit(&plain);
	}
	rpc_buf_add(&packed, "x", 1);
	CHECK_INT(rpc_gunzip(rpc_buf_data(&packed), packed.len, n, &plain), -EBADMSG);
	rpc_buf_deinit(&plain);
	rpc_buf_deinit(&packed);
}

static int decode(const void *data, size_t len)
{
	ProtobufCMessage *msg = NULL;
	struct rpc_arena arena;
	int r;

	rpc_arena_init(&arena, len);
	r = rpc_message_decode(&test__msg__descriptor, data, len, &arena, &msg);
	CHECK(r == 0 ? msg != NULL : msg == NULL);
	rpc_arena_deinit(&arena);
	return r;
}

static void hostile_messages(void)
{
	size_t n = 16 * MIB - 1, depth = LIMIT_RPC_NESTING + 1;
	auto_free uint8_t *many = calloc(1, n + 1);
	uint8_t deep[4 * (LIMIT_RPC_NESTING + 2)], *p;

	CHECK_INT(decode("", 0), 0);
	CHECK_INT(decode("\x0a\x02hi", 4), 0);
	CHECK_INT(decode("\x0a\x02h\xff", 4), -EILSEQ);
	CHECK_INT(decode("\x0a\x02h\0", 4), -EILSEQ);
	CHECK_INT(decode("\x12\x02h\xff", 4), 0); /* bytes */
	CHECK_INT(decode("\x2a\x04\x0a\x02h\xff", 6), -EILSEQ);
	CHECK_INT(decode("\x32\x01\xff", 3), -EILSEQ); /* repeated */
	CHECK_INT(decode("\x0a\x05h", 3), -EBADMSG);
	CHECK_INT(decode("\x0b", 1), -EBADMSG);
	CHECK_INT(decode("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11), -EBADMSG);
	/* Eight million empty submessages in 16 MiB: LIMIT_RPC_DECODED. */
	for (size_t i = 0; i + 1 < n; i += 2)
		many[i] = 0x2a;
	CHECK_INT(decode(many, n & ~(size_t)1), -E2BIG);
	/* 256 KiB of them: far below that, but above 1 MiB and LIMIT_RPC_DECODED_RATIO times their
	 * bytes only if the ratio did not hold. */
	CHECK_INT(decode(many, 256 * KIB), -E2BIG);
	/* A few thousand are fine. */
	CHECK_INT(decode(many, 8000), 0);
	/* One in the other, one level too deep; and one level less. */
	p = deep + sizeof(deep);
	for (size_t i = 0, len = 0; i < depth; i++) {
		size_t start;

		if (len > 127)
			*--p = (uint8_t)(len >> 7), *--p = (uint8_t)(len | 0x80);
		else
			*--p = (uint8_t)len;
		*--p = 0x2a;
		start = (size_t)(deep + sizeof(deep) - p);
		if (i + 2 == depth)
			CHECK_INT(decode(p, start), 0);
		len = start;
	}
	CHECK_INT(decode(p, (size_t)(deep + sizeof(deep) - p)), -E2BIG);
}

TEST_MAIN(TEST(percent), TEST(base64), TEST(timeouts), TEST(words), TEST(binary_metadata),
	TEST(gzip), TEST(hostile_messages))
