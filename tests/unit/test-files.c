/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a process that serves files, which may be another's. */
#include <errno.h>
#include <string.h>

#include "agent/files.h"
#include "base/limits.h"
#include "test.h"

static void frames(void)
{
	static const struct {
		uint8_t data[8];
		size_t len;
		int r;
		size_t message;
	} cases[] = {
		{ { 0 }, 0, 0, 0 },
		{ { 'A', 0, 0, 0 }, 4, 0, 0 },
		{ { 'A', 0, 0, 0, 0 }, 5, 1, 0 },
		{ { 'F', 2, 0, 0, 0, 'x' }, 6, 0, 2 },
		{ { 'F', 2, 0, 0, 0, 'x', 'y', 'z' }, 8, 1, 2 },
		{ { 'B', 0, 0, 0, 0 }, 5, -EPROTO, 0 },
		{ { 'A', 0xff, 0xff, 0xff, 0xff }, 5, -EPROTO, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = 0;
		char kind = 0;

		CHECK_INT(files_frame(cases[i].data, cases[i].len, &kind, &len), cases[i].r);
		CHECK_INT(len, cases[i].message);
	}
}

static void longest(void)
{
	uint8_t head[FILES_HEAD] = { FILES_ANSWER };
	size_t len = 0;
	char kind;

	for (int i = 0; i < 4; i++)
		head[1 + i] = (uint8_t)(LIMIT_FILE_FRAME >> 8 * i);
	CHECK_INT(files_frame(head, sizeof(head), &kind, &len), 0);
	CHECK_INT(len, LIMIT_FILE_FRAME);
	head[1]++;
	CHECK_INT(files_frame(head, sizeof(head), &kind, &len), -EPROTO);
}

TEST_MAIN(TEST(frames), TEST(longest))
