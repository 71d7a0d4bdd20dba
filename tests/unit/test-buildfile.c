/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/strbuf.h"
#include "image/buildfile.h"
#include "test.h"

/* The names, in a line; or the error. */
static char *bases(const char *text, const char *arg, char out[static 512])
{
	auto_strv struct strv args = STRV_INIT, names = STRV_INIT;
	struct err err = ERR_INIT;

	out[0] = 0;
	if (arg)
		REQUIRE(strv_add(&args, arg) == 0);
	if (buildfile_bases(text, strlen(text), &args, &names, &err) < 0)
		snprintf(out, 512, "%s", err.msg);
	for (size_t i = 0; i < names.n; i++) {
		size_t len = strlen(out);

		snprintf(out + len, 512 - len, "%s%s", i ? " " : "", names.v[i]);
	}
	return out;
}

static void what_it_starts_from(void)
{
	static const struct {
		const char *text, *arg, *names;
	} cases[] = {
		{ "FROM nginx\n", NULL, "nginx" },
		{ "# syntax=docker/dockerfile:1\n\n  from nginx:1 as web\n", NULL, "nginx:1" },
		{ "\xef\xbb\xbf"
		  "FROM a\r\nRUN x\r\nFROM b\r\n",
			NULL, "a b" },
		{ "FROM scratch\nCOPY --from=tools:2 /a /b\n", NULL, "tools:2" },
		{ "FROM a AS one\nFROM one\nCOPY --chown=1 --from=ONE x y\nCOPY --from=0 x y\n",
			NULL, "a" },
		{ "FROM a\nFROM a\nFROM b\n", NULL, "a b" },
		{ "FROM --platform=$BUILDPLATFORM golang AS g\n", NULL, "golang" },
		{ "ARG V=3.1\nFROM alpine:$V\n", NULL, "alpine:3.1" },
		{ "ARG V=3.1\nFROM alpine:${V}\n", "V=4", "alpine:4" },
		{ "FROM alpine:${V:-9}\n", "V=4", "alpine:9" }, /* not declared */
		{ "ARG V\nFROM alpine${V:+:edge}\n", "V=1", "alpine:edge" },
		{ "ARG A=a B=\"b c\"\nFROM $A$A\n", NULL, "aa" },
		{ "ARG R=reg:5000\nARG I=$R/x\nFROM $I\nARG R=other\nFROM $R\n", NULL,
			"reg:5000/x reg:5000" },
		{ "FROM \\\n # why\n  a \\\n  AS b\n", NULL, "a" },
		{ "# escape=`\nFROM a`\n:1\n", NULL, "a:1" },
		{ "FROM a\nRUN --mount=type=bind,from=build-tools,target=/t make\n", NULL,
			"a build-tools" },
		{ "FROM a\nRUN echo --mount=from=no\nLABEL x=FROM\n", NULL, "a" },
		{ "RUN x\n", NULL, "the Dockerfile has no FROM" },
		{ "", NULL, "the Dockerfile has no FROM" },
		{ "FROM\n", NULL, "" },
		{ "FROM ${unclosed\n", NULL, "${unclosed" },
	};
	char out[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_STR(bases(cases[i].text, cases[i].arg, out), cases[i].names);
}

/* LIMIT_BUILD_BASES */
static void no_end_of_images(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	auto_strv struct strv args = STRV_INIT, names = STRV_INIT;
	struct err err = ERR_INIT;

	for (int i = 0; i < LIMIT_BUILD_BASES; i++)
		strbuf_addf(&sb, "FROM x%d\n", i);
	CHECK_INT(buildfile_bases(sb.data, sb.len, &args, &names, &err), 0);
	CHECK_INT(names.n, LIMIT_BUILD_BASES);
	strbuf_adds(&sb, "FROM more\n");
	CHECK_INT(buildfile_bases(sb.data, sb.len, &args, &names, &err), -EINVAL);
	CHECK_INT(buildfile_bases("FROM a\0b", 8, &args, &names, &err), -EINVAL);
}

TEST_MAIN(TEST(what_it_starts_from), TEST(no_end_of_images))
