/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/docker/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/strbuf.h"
#include "driver/docker/host.h"
#include "http/http.h"

#define VERSION_TIME (20 * NSEC_PER_SEC)
#define API_NEWEST   44 /* 1.44: what we have been written for */
#define API_OLDEST   24

struct engine {
	struct loop *loop;
	struct http *http;
	char *host;
	unsigned minor; /* of the API's version 1.x; 0: not agreed on yet */
	bool asking;
	struct list waiting; /* calls, for the version */
	struct list calls;   /* sent */
};

struct engine_call {
	struct list link;
	struct engine *engine;
	char *method, *path, *header;
	char *body; /* sent as it is */
	size_t len;
	const char *type;
	int64_t timeout;
	struct strbuf line; /* of a stream, not whole yet */
	void (*item)(void *arg, json_t *item);
	int (*part)(void *arg, const char *data, size_t len);
	engine_done done;
	void *arg;
};

static void call_free(struct engine_call *c)
{
	list_remove(&c->link);
	strbuf_deinit(&c->line);
	free(c->method);
	free(c->path);
	free(c->header);
	free(c->body);
	free(c);
}

static void end_call(struct engine_call *c, json_t *answer, const struct err *err)
{
	engine_done done = c->done;
	void *arg = c->arg;

	call_free(c);
	done(arg, answer, err);
}

/* Answers */

static int status_errno(int status)
{
	switch (status) {
	case 400:
		return EINVAL;
	case 401:
	case 403:
		return EACCES;
	case 404:
		return ENOENT;
	case 409:
		return EEXIST;
	default:
		return EIO;
	}
}

/* The engine's words without what would break a line. */
static void set_words(struct err *err, int code, const char *words)
{
	err_set(err, code, "the engine says: %.*s", (int)strcspn(words, "\r\n"), words);
}

static void set_status(
	const struct engine_call *c, const struct http_answer *answer, struct err *err)
{
	json_t *body = json_loadb(answer->body, answer->len, 0, NULL);
	const char *message = json_string_value(json_object_get(body, "message"));

	if (message && *message)
		set_words(err, status_errno(answer->status), message);
	else
		err_set(err, status_errno(answer->status), "%s %s: the engine answers %d",
			c->method, c->path, answer->status);
	json_decref(body);
}

static void on_answer(void *arg, const struct http_answer *answer, const struct err *err)
{
	struct engine_call *c = arg;
	struct err failed = ERR_INIT;
	json_t *json = NULL;

	if (err) {
		err_set(&failed, err->code, "cannot talk to the engine at %s: %s", c->engine->host,
			err->msg);
	} else if (answer->status >= 300 && answer->status != 304) {
		set_status(c, answer, &failed);
	} else if (answer->len && !c->item && !c->part) {
		json = json_loadb(answer->body, answer->len, JSON_DECODE_ANY, NULL);
		if (!json && answer->status == 200)
			err_set(&failed, EPROTO, "%s %s: the engine's answer is no JSON", c->method,
				c->path);
	}
	end_call(c, json, failed.code ? &failed : NULL);
	json_decref(json);
}

/* A stream of JSON objects, a line each. */
static int on_lines(void *arg, const char *data, size_t len)
{
	struct engine_call *c = arg;
	char *nl;

	strbuf_add(&c->line, data, len);
	while (c->line.data && (nl = memchr(c->line.data, '\n', c->line.len))) {
		json_t *item = json_loadb(c->line.data, (size_t)(nl - c->line.data), 0, NULL);

		if (item)
			c->item(c->arg, item);
		json_decref(item);
		strbuf_consume(&c->line, (size_t)(nl + 1 - c->line.data));
	}
	return strbuf_error(&c->line) < 0 || c->line.len > LIMIT_ENGINE_LINE ? -EMSGSIZE : 0;
}

static int on_part(void *arg, const char *data, size_t len)
{
	struct engine_call *c = arg;

	return c->part(c->arg, data, len);
}

/* Requests */

static void submit(struct engine_call *c)
{
	auto_free char *path = NULL;
	struct http_request_opts opts = { .method = c->method,
		.content_type = c->type,
		.header = c->header,
		.body = c->body,
		.len = c->len,
		.timeout = c->timeout,
		.part = c->part	  ? on_part
			: c->item ? on_lines
				  : NULL,
		.done = on_answer,
		.arg = c };
	struct err err = ERR_INIT;
	int r = -ENOMEM;

	list_remove(&c->link);
	list_add_tail(&c->engine->calls, &c->link);
	if (asprintf(&path, "/v1.%u%s", c->engine->minor, c->path) >= 0) {
		opts.path = path;
		r = http_send(c->engine->http, &opts);
	} else {
		path = NULL;
	}
	if (r < 0) {
		err_errno(&err, -r, "cannot ask the engine");
		end_call(c, NULL, &err);
	}
}

/* The newest that both know. */
static void agree(struct engine *e, const struct http_answer *answer, struct err *err)
{
	unsigned minor = 0;
	char rest;

	if (sscanf(answer->header, "1.%3u%c", &minor, &rest) != 1)
		err_set(err, EPROTO, "what answers at %s is no Docker Engine", e->host);
	else if (minor < API_OLDEST)
		err_set(err, EPROTONOSUPPORT,
			"the engine at %s is too old: it speaks version %.20s of the API, 1.%d is "
			"needed",
			e->host, answer->header, API_OLDEST);
	else
		e->minor = MIN(minor, (unsigned)API_NEWEST);
}

static void on_ping(void *arg, const struct http_answer *answer, const struct err *err)
{
	struct engine *e = arg;
	struct err failed = ERR_INIT;

	e->asking = false;
	if (err)
		err_set(&failed, err->code,
			"cannot reach the engine at %s: %s (is it running, and may you use it?)",
			e->host, err->msg);
	else
		agree(e, answer, &failed);
	while (!list_empty(&e->waiting)) {
		struct engine_call *c = list_entry(e->waiting.next, struct engine_call, link);

		if (failed.code)
			end_call(c, NULL, &failed);
		else
			submit(c);
	}
}

/* Not /version, for which Docker runs programs. */
static int ask_version(struct engine *e)
{
	struct http_request_opts opts = { .method = "GET",
		.path = "/_ping",
		.answer_header = "Api-Version",
		.timeout = VERSION_TIME,
		.done = on_ping,
		.arg = e };
	int r = e->asking ? 0 : http_send(e->http, &opts);

	e->asking = r == 0;
	return r;
}

static int fill_call(struct engine_call *c, const struct engine_request *r)
{
	c->method = strdup(r->method);
	c->path = strdup(r->path);
	c->header = r->header ? strdup(r->header) : NULL;
	if (!c->method || !c->path || (r->header && !c->header))
		return -ENOMEM;
	if (r->tar) {
		c->type = "application/x-tar";
		c->body = malloc(r->tar_len + 1);
		if (!c->body)
			return -ENOMEM;
		memcpy(c->body, r->tar, r->tar_len);
		c->len = r->tar_len;
	} else if (r->body) {
		c->type = "application/json";
		c->body = json_dumps(r->body, JSON_COMPACT);
		if (!c->body)
			return -ENOMEM;
		c->len = strlen(c->body);
	}
	return 0;
}

int engine_send(struct engine *e, const struct engine_request *request)
{
	struct engine_call *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c) {
		list_init(&c->link);
		c->engine = e;
		c->timeout = request->timeout;
		c->item = request->item;
		c->part = request->part;
		c->done = request->done;
		c->arg = request->arg;
		r = fill_call(c, request);
	}
	json_decref(request->body);
	if (r == 0 && !e->minor)
		r = ask_version(e);
	if (r < 0) {
		if (c)
			call_free(c);
		return r;
	}
	list_add_tail(&e->waiting, &c->link);
	if (e->minor)
		submit(c);
	return 0;
}

/* The engine */

int engine_new(struct loop *loop, const char *host, struct engine **ret_engine, struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	auto_free char *base = NULL;
	struct http_opts opts = { .base = "http://localhost" };
	const char *name = strstr(host, "://");
	int r;

	if (!e || !(e->host = strdup(host))) {
		free(e);
		return err_errno(err, ENOMEM, "cannot reach the engine");
	}
	e->loop = loop;
	list_init(&e->waiting);
	list_init(&e->calls);
	name = name ? name + 3 : host;
	if (engine_is_local(host)) {
		opts.unix_socket = strncmp(host, "unix://", 7) == 0 ? name : host + 5;
	} else if (strncmp(host, "tcp://", 6) == 0 || strncmp(host, "http://", 7) == 0) {
		if (asprintf(&base, "http://%s", name) < 0)
			base = NULL;
		opts.base = base;
	} else {
		engine_free(e);
		return err_set(err, EINVAL,
			"'%s' is no engine: give unix:///PATH or tcp://HOST:PORT", host);
	}
	r = opts.base ? http_new(loop, &opts, &e->http, err)
		      : err_errno(err, ENOMEM, "cannot reach the engine");
	if (r < 0) {
		engine_free(e);
		return r;
	}
	*ret_engine = e;
	return 0;
}

struct engine *engine_free(struct engine *e)
{
	if (!e)
		return NULL;
	while (!list_empty(&e->waiting))
		call_free(list_entry(e->waiting.next, struct engine_call, link));
	while (!list_empty(&e->calls))
		call_free(list_entry(e->calls.next, struct engine_call, link));
	http_free(e->http);
	free(e->host);
	free(e);
	return NULL;
}

/* Waiting */

struct waited {
	bool done;
	json_t *answer;
	struct err err;
	const struct engine_request *request;
};

static void on_waited(void *arg, json_t *answer, const struct err *err)
{
	struct waited *w = arg;

	w->done = true;
	w->answer = json_incref(answer);
	if (err)
		w->err = *err;
}

static void on_waited_item(void *arg, json_t *item)
{
	const struct waited *w = arg;

	w->request->item(w->request->arg, item);
}

int engine_wait(struct loop *loop, struct engine *engine, const struct engine_request *request,
	json_t **ret_answer, struct err *err)
{
	struct engine_request mine = *request;
	struct waited w = { .request = request };
	int r;

	mine.done = on_waited;
	mine.arg = &w;
	if (request->item)
		mine.item = on_waited_item;
	r = engine_send(engine, &mine);
	while (r == 0 && !w.done)
		r = loop_once(loop, DEADLINE_NONE);
	if (r < 0)
		return err_errno(err, -r, "cannot ask the engine");
	if (w.err.code) {
		*err = w.err;
		return -err->code;
	}
	if (ret_answer)
		*ret_answer = w.answer;
	else
		json_decref(w.answer);
	return 0;
}
