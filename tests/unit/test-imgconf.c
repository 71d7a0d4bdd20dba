/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "oci/imgconf.h"
#include "test.h"

static int parse(const char *json, struct image_config *c)
{
	struct err err = ERR_INIT;
	int r = image_config_parse(json, strlen(json), c, &err);

	CHECK(r == 0 || err.msg[0]);
	return r;
}

#define IMAGE(config)                                                                          \
	"{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2023-11-14T22:13:20.5+01:" \
	"00\","                                                                                \
	"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:1\"]},\"config\":" config "}"

static void configurations(void)
{
	static const char *const wrong[] = { "", "[]", "{}", "{\"rootfs\":{},\"os\":\"linux\"}",
		IMAGE("[]"), IMAGE("{\"Env\":[1]}"), IMAGE("{\"Env\":[\"=x\"]}"),
		IMAGE("{\"Env\":[\"\"]}"), IMAGE("{\"Cmd\":\"sh\"}"), IMAGE("{\"User\":1}"),
		IMAGE("{\"Labels\":{\"a\":1}}"), IMAGE("{\"Volumes\":[]}"),
		IMAGE("{\"Healthcheck\":{\"Retries\":-1}}"), IMAGE("{\"Cmd\":[\"a\\u0000b\"]}") };
	auto_image_config struct image_config c = { 0 };

	REQUIRE(parse(IMAGE("{\"Entrypoint\":[\"/"
			    "e\",\"\"],\"Cmd\":null,\"Env\":[\"A=1\"],\"User\":\"\",\"WorkingDir\":"
			    "\"/w\","
			    "\"StopSignal\":\"SIGQUIT\",\"Volumes\":{\"/b\":{},\"/"
			    "a\":{}},\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"k\":\"v\"},"
			    "\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":5000000000,"
			    "\"Retries\":3}}"),
			&c) == 0);
	CHECK_INT(c.entrypoint.n, 2);
	CHECK_STR(c.entrypoint.v[1], "");
	CHECK_INT(c.cmd.n, 0);
	CHECK(!c.user);
	CHECK_STR(c.working_dir, "/w");
	CHECK_STR(c.stop_signal, "SIGQUIT");
	CHECK_STR(c.volumes.v[0], "/a");
	CHECK_STR(c.exposed_ports.v[0], "80/tcp");
	CHECK_STR(c.labels.v[0], "k=v");
	CHECK_INT(c.healthcheck.interval_ns, 5000000000);
	CHECK_INT(c.healthcheck.retries, 3);
	CHECK_INT(c.created, 1700000000 - 3600);
	CHECK_INT(c.diff_ids.n, 1);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct image_config bad = { 0 };

		CHECK(parse(wrong[i], &bad) < 0);
	}
}

static char *join(const struct strv *sv, char *out, size_t size)
{
	out[0] = 0;
	for (size_t i = 0; i < sv->n; i++)
		snprintf(out + strlen(out), size - strlen(out), "%s%s", i ? "|" : "", sv->v[i]);
	return out;
}

static void commands(void)
{
	static const char *const args[] = { "x", "y", NULL };
	static const struct {
		const char *config, *entrypoint;
		bool args;
		const char *argv; /* NULL: refused */
	} cases[] = {
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", NULL, false, "e|c" },
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", NULL, true, "e|x|y" },
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "n", false, "n" },
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "n", true, "n|x|y" },
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "", false, NULL },
		{ "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"]}", "", true, "x|y" },
		{ "{\"Cmd\":[\"c\"]}", NULL, false, "c" },
		{ "{\"Cmd\":[\"c\"]}", NULL, true, "x|y" },
		{ "{\"Entrypoint\":[\"/bin/sh\",\"-c\",\"a b\"]}", NULL, false, "/bin/sh|-c|a b" },
		{ "{}", NULL, false, NULL },
		{ "null", NULL, true, "x|y" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct imgconf_overrides o = { .entrypoint = cases[i].entrypoint,
			.args = cases[i].args ? args : NULL };
		auto_image_config struct image_config c = { 0 };
		auto_imgconf_process struct imgconf_process p = { 0 };
		struct err err = ERR_INIT;
		char json[512], out[256];

		snprintf(json, sizeof(json), IMAGE("%s"), cases[i].config);
		REQUIRE(parse(json, &c) == 0);
		CHECK_INT(imgconf_process(&c, &o, &p, &err), cases[i].argv ? 0 : -EINVAL);
		CHECK_STR(join(&p.argv, out, sizeof(out)), cases[i].argv ? cases[i].argv : "");
	}
}

#define PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void environments(void)
{
	static const char *const env[] = { "B=new", "C=3", "D", "A", NULL };
	struct imgconf_overrides o = { .env = env, .tty = true };
	auto_image_config struct image_config c = { 0 }, own = { 0 };
	auto_imgconf_process struct imgconf_process p = { 0 }, q = { 0 };
	struct err err = ERR_INIT;
	char out[256];

	REQUIRE(parse(IMAGE("{\"Cmd\":[\"c\"],\"Env\":[\"A=1\",\"B=2\"]}"), &c) == 0);
	CHECK_INT(imgconf_process(&c, &o, &p, &err), 0);
	CHECK_STR(join(&p.env, out, sizeof(out)), PATH "|TERM=xterm|B=new|C=3");
	REQUIRE(parse(IMAGE("{\"Cmd\":[\"c\"],\"Env\":[\"X=\",\"PATH=/p\"]}"), &own) == 0);
	CHECK_INT(imgconf_process(&own, &(struct imgconf_overrides){ 0 }, &q, &err), 0);
	CHECK_STR(join(&q.env, out, sizeof(out)), "PATH=/p|X=");
}

static void places(void)
{
	static const struct {
		const char *image, *given, *cwd;
	} cases[] = {
		{ "", NULL, "/" },
		{ "/w", NULL, "/w" },
		{ "w", NULL, "/w" },
		{ "/w", "/g", "/g" },
		{ "/w", "g", NULL },
		{ "/w", "", "/w" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct imgconf_overrides o = { .working_dir = cases[i].given,
			.user = i ? "7:8" : NULL };
		auto_image_config struct image_config c = { 0 };
		auto_imgconf_process struct imgconf_process p = { 0 };
		struct err err = ERR_INIT;
		char json[512];

		snprintf(json, sizeof(json),
			IMAGE("{\"Cmd\":[\"c\"],\"User\":\"u\",\"WorkingDir\":\"%s\"}"),
			cases[i].image);
		REQUIRE(parse(json, &c) == 0);
		CHECK_INT(imgconf_process(&c, &o, &p, &err), cases[i].cwd ? 0 : -EINVAL);
		if (!cases[i].cwd)
			continue;
		CHECK_STR(p.cwd, cases[i].cwd);
		CHECK_STR(p.user, i ? "7:8" : "u");
	}
}

static void large_configuration(void)
{
	auto_image_config struct image_config c = { 0 };
	auto_free char *json = malloc(LIMIT_MANIFEST + 1);
	struct err err = ERR_INIT;

	REQUIRE(json);
	memset(json, ' ', LIMIT_MANIFEST + 1);
	memcpy(json, IMAGE("{\"Cmd\":[\"c\"]}"), strlen(IMAGE("{\"Cmd\":[\"c\"]}")));
	CHECK_INT(image_config_parse(json, LIMIT_MANIFEST + 1, &c, &err), -EFBIG);
	CHECK_INT(image_config_parse(json, LIMIT_MANIFEST, &c, &err), 0);
}

TEST_MAIN(TEST(configurations), TEST(large_configuration), TEST(commands), TEST(environments),
	TEST(places))
