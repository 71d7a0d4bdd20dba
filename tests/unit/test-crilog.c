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

TEST_MAIN(TEST(lines_and_parts))
