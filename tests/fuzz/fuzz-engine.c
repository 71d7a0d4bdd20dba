/* SPDX-License-Identifier: Apache-2.0 */
/* A Docker Engine that answers anything: the first byte says whether it agrees on a version, the
 * rest is what comes back to a call, head and all. */
#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/docker/engine.h"
#include "io/addr.h"

static int listener = -1;
static char host[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t answer[65536];
static size_t answer_len;

static size_t copy_answer(uint8_t *out)
{
	size_t len;

	pthread_mutex_lock(&lock);
	len = answer_len;
	memcpy(out, answer, len);
	pthread_mutex_unlock(&lock);
	return len;
}

/* In a thread: libcurl waits for nothing but its sockets, and its loop is the fuzzer's. */
static void *serve(void *arg)
{
	for (;;) {
		static uint8_t copy[sizeof(answer)];
		char request[4096];
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, request, sizeof(request) - 1);

		if (n > 0) {
			static const char pong[] =
				"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nConnection: "
				"close\r\nContent-Length: 2\r\n\r\nOK";
			size_t len = copy_answer(copy);
			bool ping = n > 11 && memcmp(request, "GET /_ping ", 11) == 0;

			if (ping && len && copy[0] & 1)
				(void)!write(fd, pong, sizeof(pong) - 1);
			else if (len > 1)
				(void)!write(fd, copy + 1, len - 1);
			shutdown(fd, SHUT_WR);
		}
		if (fd >= 0)
			close(fd);
	}
	return arg;
}

static void forget(void)
{
	unlink(host + 5);
}

static void start(void)
{
	struct addr addr;
	pthread_t thread;

	snprintf(host, sizeof(host), "unix:/tmp/fuzz-engine-%d.sock", getpid());
	if (addr_parse(host, &addr, NULL) < 0)
		abort();
	listener = addr_listen(&addr, 0600, NULL);
	if (listener < 0 || fcntl(listener, F_SETFL, 0) < 0 ||
		pthread_create(&thread, NULL, serve, NULL) != 0)
		abort();
	atexit(forget);
}

static void on_item(void *arg, json_t *item)
{
	if (!item)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct engine_request request = { .method = "GET",
		.path = "/x",
		.timeout = 2 * NSEC_PER_SEC,
		.item = size && data[0] & 2 ? on_item : NULL };
	struct engine *engine = NULL;
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	json_t *json = NULL;

	if (listener < 0)
		start();
	pthread_mutex_lock(&lock);
	answer_len = MIN(size, sizeof(answer));
	memcpy(answer, data, answer_len);
	pthread_mutex_unlock(&lock);
	if (loop_new(&loop) < 0 || engine_new(loop, host, &engine, &err) < 0)
		abort();
	if (engine_wait(loop, engine, &request, &json, &err) < 0 &&
		(!err.msg[0] || strchr(err.msg, '\n')))
		abort();
	json_decref(json);
	engine_free(engine);
	loop_free(loop);
	return 0;
}
