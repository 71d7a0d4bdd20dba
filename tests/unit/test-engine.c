/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the Docker Engine against one that answers as no engine should: fixed bytes over a
 * unix socket. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/strbuf.h"
#include "driver/docker/engine.h"
#include "driver/docker/host.h"
#include "io/addr.h"
#include "test.h"

struct fake {
	char dir[32], host[64];
	pid_t pid;
	struct loop *loop;
	struct engine *engine;
};

static void put(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

/* The first request is for the version, each other gets `rest`, with its head; then the connection
 * ends. */
static void answer(int fd, const char *rest, size_t len)
{
	char request[4096];
	ssize_t n = read(fd, request, sizeof(request) - 1);

	if (n <= 0)
		return;
	request[n] = 0;
	if (strncmp(request, "GET /_ping ", 11) == 0) {
		static const char pong[] =
			"HTTP/1.1 200 OK\r\nConnection: close\r\napi-version:  1.41 \r\n"
			"Content-Length: 2\r\n\r\nOK";

		put(fd, pong, sizeof(pong) - 1);
	} else {
		put(fd, rest, len);
	}
}

static void fake_start(struct fake *f, const char *rest, size_t len)
{
	struct addr addr;
	int fd;

	snprintf(f->dir, sizeof(f->dir), "/tmp/test-engine.XXXXXX");
	REQUIRE(mkdtemp(f->dir));
	snprintf(f->host, sizeof(f->host), "unix:%s/sock", f->dir);
	REQUIRE(addr_parse(f->host, &addr, NULL) == 0);
	fd = addr_listen(&addr, 0600, NULL);
	REQUIRE(fd >= 0);
	f->pid = fork();
	REQUIRE(f->pid >= 0);
	if (f->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		for (;;) {
			int one = accept(fd, NULL, NULL);

			if (one < 0)
				usleep(1000);
			else
				answer(one, rest, len);
			close(one);
		}
	}
	close(fd);
	REQUIRE(loop_new(&f->loop) == 0);
	REQUIRE(engine_new(f->loop, f->host, &f->engine, NULL) == 0);
}

static void fake_stop(struct fake *f)
{
	engine_free(f->engine);
	loop_free(f->loop);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	unlink(f->host + 5);
	rmdir(f->dir);
}

#define FAKE(name) __attribute__((cleanup(fake_stop))) struct fake name = { 0 }

static unsigned items;

static void on_item(void *arg, json_t *item)
{
	items++;
}

static int ask(struct fake *f, bool stream, json_t **ret_answer, struct err *err)
{
	struct engine_request request = { .method = "GET",
		.path = "/containers/x/json",
		.timeout = 10 * NSEC_PER_SEC,
		.item = stream ? on_item : NULL };

	*err = ERR_INIT;
	return engine_wait(f->loop, f->engine, &request, ret_answer, err);
}

#define HEAD(status) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n"

static void answers(void)
{
	static const struct {
		const char *rest;
		int code;
		const char *message;
	} cases[] = {
		{ HEAD("200 OK") "{\"Id\":\"abc\"}", 0, NULL },
		{ HEAD("204 No Content"), 0, NULL },
		{ HEAD("304 Not Modified"), 0, NULL },
		{ HEAD("404 Not Found") "{\"message\":\"No such container: x\"}", ENOENT,
			"the engine says: No such container: x" },
		{ HEAD("409 Conflict") "{\"message\":\"two\\nlines\"}", EEXIST,
			"the engine says: two" },
		{ HEAD("500 Oops") "<html>", EIO,
			"GET /containers/x/json: the engine answers 500" },
		{ HEAD("403 No") "{\"message\":7}", EACCES,
			"GET /containers/x/json: the engine answers 403" },
		{ HEAD("200 OK") "<html>", EPROTO,
			"GET /containers/x/json: the engine's answer is no JSON" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", EIO, NULL },
		{ "\r\n\r\n", EIO, NULL },
		{ "nonsense", EIO, NULL },
		{ "", EIO, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FAKE(f);
		struct err err = ERR_INIT;
		json_t *json = NULL;

		fake_start(&f, cases[i].rest, strlen(cases[i].rest));
		CHECK_INT(ask(&f, false, &json, &err), -cases[i].code);
		if (cases[i].message)
			CHECK_STR(err.msg, cases[i].message);
		else if (cases[i].code)
			CHECK(strstr(err.msg, "cannot talk to the engine at unix:/tmp/"));
		CHECK(!json == (i != 0));
		json_decref(json);
	}
}

static void too_much(void)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	static char block[65536];
	struct err err = ERR_INIT;
	json_t *json = NULL;

	memset(block, ' ', sizeof(block));
	strbuf_adds(&sb, HEAD("200 OK"));
	for (size_t n = 0; n <= LIMIT_HTTP_BODY; n += sizeof(block))
		strbuf_add(&sb, block, sizeof(block));
	{
		FAKE(f);

		fake_start(&f, sb.data, sb.len);
		CHECK_INT(ask(&f, false, &json, &err), -EMSGSIZE);
		CHECK(strstr(err.msg, "the answer is too large"));
		/* The same as one line of a stream, which is cut off much earlier. */
		CHECK_INT(ask(&f, true, &json, &err), -ECANCELED);
		CHECK(sb.len > LIMIT_ENGINE_LINE);
	}
}

static void streams(void)
{
	static const char rest[] = HEAD("200 OK") "{\"a\":1}\nnonsense\n\n{\"b\":2}\r\n{\"cut\"";
	struct err err = ERR_INIT;
	FAKE(f);

	fake_start(&f, rest, sizeof(rest) - 1);
	items = 0;
	CHECK_INT(ask(&f, true, NULL, &err), 0);
	CHECK_INT(items, 2);
}

static void hosts(void)
{
	struct engine *e = NULL;
	struct loop *loop = NULL;
	struct err err = ERR_INIT;

	REQUIRE(loop_new(&loop) == 0);
	CHECK_INT(engine_new(loop, "ftp://x", &e, &err), -EINVAL);
	CHECK_INT(engine_new(loop, "tcp://127.0.0.1:1", &e, &err), 0);
	e = engine_free(e);
	unsetenv("CODEPOD_DOCKER_HOST");
	unsetenv("DOCKER_HOST");
	CHECK_STR(engine_host(), "unix:///var/run/docker.sock");
	setenv("DOCKER_HOST", "tcp://a:1", 1);
	CHECK_STR(engine_host(), "tcp://a:1");
	CHECK(!engine_is_local(engine_host()));
	setenv("CODEPOD_DOCKER_HOST", "unix:///b", 1);
	CHECK_STR(engine_host(), "unix:///b");
	CHECK(engine_is_local(engine_host()));
	loop_free(loop);
}

TEST_MAIN(TEST(answers), TEST(too_much), TEST(streams), TEST(hosts))
