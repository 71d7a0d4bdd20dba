/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crilog.h"
#include "test.h"

static void lines_and_parts(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	crilog_format(&sb, 0, 1700000000123456789, "one\ntwo", 7);
	crilog_format(&sb, 1, 1700000001000000000, "\n", 1);
	crilog_format(&sb, 0, 1700000002000000001, "", 0);
	crilog_format(&sb, 0, 1700000002000000001, "a\0b\r\n", 5);
	CHECK_INT(sb.len, 4 * 40 + 3 + 3 + 0 + 4 + 4);
	CHECK(strncmp(sb.data,
		      "2023-11-14T22:13:20.123456789Z stdout F one\n2023-11-14T22:13:20.123456789Z "
		      "stdout P two\n"
		      "2023-11-14T22:13:21.000000000Z stderr F \n2023-11-14T22:13:22.000000001Z "
		      "stdout F a",
		      sb.len - 4) == 0);
	CHECK(memcmp(sb.data + sb.len - 4, "\0b\r\n", 4) == 0);
}

static void bytes_are_counted(void)
{
	static const char cut[] = "2023-11-14T22:13:20.123456789Z stdout F on";
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	uint64_t bytes[2] = { 5, 0 };

	crilog_format(&sb, 0, 1700000000123456789, "one\ntwo", 7);
	crilog_format(&sb, 1, 1700000001000000000, "\n", 1);
	crilog_format(&sb, 0, 1700000002000000001, "a\0b\r\nstderr F \n", 15);
	strbuf_add(&sb, cut, sizeof(cut) - 1);
	crilog_count(sb.data, sb.len, bytes);
	CHECK_INT(bytes[0], 5 + 7 + 15);
	CHECK_INT(bytes[1], 1);
	crilog_count("\n  \nx\n", 6, bytes);
	CHECK_INT(bytes[0] + bytes[1], 28);
}

TEST_MAIN(TEST(lines_and_parts), TEST(bytes_are_counted))
