/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unit test harness: TAP on stdout, as `meson test` reads it. A test is a void function in a
 * table; a CHECK that fails prints file, line and values, and the test counts as failed (it runs on
 * to its end).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

struct test {
	const char *name;
	void (*fn)(void);
};

static struct {
	bool failed;
	const char *skipped; /* why */
} test_state;

#define CHECK(cond)                                                                   \
	do {                                                                          \
		if (!(cond)) {                                                        \
			printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
			test_state.failed = true;                                     \
		}                                                                     \
	} while (0)

#define CHECK_INT(a, b)                                                                            \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_) {                                                                    \
			printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_); \
			test_state.failed = true;                                                  \
		}                                                                                  \
	} while (0)

#define CHECK_STR(a, b)                                                                       \
	do {                                                                                  \
		const char *a_ = (a), *b_ = (b);                                              \
		if (!a_ || !b_ || strcmp(a_, b_) != 0) {                                      \
			printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a, \
				a_ ? a_ : "(null)", b_ ? b_ : "(null)");                      \
			test_state.failed = true;                                             \
		}                                                                             \
	} while (0)

/* Stops the test program: for what later checks need. */
#define REQUIRE(cond)                                                                         \
	do {                                                                                  \
		if (!(cond)) {                                                                \
			printf("Bail out! %s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                                              \
		}                                                                             \
	} while (0)

/* Ends a test that cannot run here; the reason must be on the list in tests/skips.txt. */
#define SKIP(why)                           \
	do {                                \
		test_state.skipped = (why); \
		return;                     \
	} while (0)

static inline int test_main(const struct test *tests, size_t n)
{
	int failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		memset(&test_state, 0, sizeof(test_state));
		tests[i].fn();
		printf("%sok %zu - %s%s%s\n", test_state.failed ? "not " : "", i + 1, tests[i].name,
			test_state.skipped ? " # SKIP " : "",
			test_state.skipped ? test_state.skipped : "");
		failures += test_state.failed;
	}
	return failures ? 1 : 0;
}

#define TEST_MAIN(...)                                              \
	int main(void)                                              \
	{                                                           \
		static const struct test tests[] = { __VA_ARGS__ }; \
		return test_main(tests, ARRAY_SIZE(tests));         \
	}
#define TEST(fn)        \
	{               \
#fn, fn \
	}
