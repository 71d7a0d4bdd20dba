/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the Docker Engine API (docs.docker.com/reference/api/engine), which Podman has too.
 * What is sent and answered is JSON as documented there; errors carry the engine's own words.
 * Nothing blocks but engine_wait().
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "io/loop.h"

struct engine;

/* host: as driver/docker/host.h has it, unix:///PATH, tcp://HOST:PORT or http://HOST:PORT. Does not
 * connect yet. 0, or -errno with err. */
int engine_new(struct loop *loop, const char *host, struct engine **ret_engine, struct err *err);
/* Calls still open are dropped. Not from a callback. Returns NULL. */
struct engine *engine_free(struct engine *engine);

/* The end of a call: answer (borrowed; NULL where there is none), or err. */
typedef void (*engine_done)(void *arg, json_t *answer, const struct err *err);

struct engine_request {
	const char *method, *path; /* path: without the version, with its query */
	json_t *body;		   /* stolen; NULL: none */
	const void *tar;	   /* instead of body; borrowed */
	size_t tar_len;
	const char *header; /* one more, "Name: value"; NULL: none */
	int64_t timeout;    /* ns; 0: none */
	/* Each JSON object of a stream of them; the last is not answered then. NULL: one answer. */
	void (*item)(void *arg, json_t *item);
	/* Bytes of a stream as they come. */
	int (*part)(void *arg, const char *data, size_t len);
	engine_done done;
	void *arg;
};

/* The API's version is agreed on before the first. Errors come by done too, out of memory apart: 0
 * or -ENOMEM. */
int engine_send(struct engine *engine, const struct engine_request *request);

/* The same (without part), and runs the loop until it is done: for a program that does nothing
 * else. *ret_answer (may be NULL) is the caller's (json_decref()). 0, or -errno with err. */
int engine_wait(struct loop *loop, struct engine *engine, const struct engine_request *request,
	json_t **ret_answer, struct err *err);
