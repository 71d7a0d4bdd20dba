/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: libcurl's multi interface in its event form. It tells which descriptors it waits on
 * and when it wants to be called without one; both are sources of the loop. What has ended is
 * looked for behind every call into it, and told from there, outside of its callbacks.
 */
#include "http/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/strbuf.h"

#define CONNECT_TIME_MS 10000L
#define HEADER_MAX	128 /* of a value that is kept; a longer one is cut */

struct http {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	struct list requests;
	char *unix_socket, *base;
};

struct http_request {
	struct list link;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct strbuf body;
	bool too_large, broken_off;
	const char *wanted; /* header of the answer */
	char value[HEADER_MAX];
	char error[CURL_ERROR_SIZE];
	int (*part)(void *arg, const char *data, size_t len);
	void (*done)(void *arg, const struct http_answer *answer, const struct err *err);
	void *arg;
};

struct watched {
	struct http *http;
	struct loop_fd src;
};

static void request_free(struct http_request *r)
{
	list_remove(&r->link);
	if (r->easy) {
		curl_multi_remove_handle(r->http->multi, r->easy);
		curl_easy_cleanup(r->easy);
	}
	curl_slist_free_all(r->headers);
	strbuf_deinit(&r->body);
	free(r);
}

/* Ends */

static int status_errno(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
		return EHOSTUNREACH;
	case CURLE_OUT_OF_MEMORY:
		return ENOMEM;
	default:
		return EIO;
	}
}

static void tell(struct http_request *r, CURLcode code)
{
	struct http_answer answer = {
		.body = r->body.data ? r->body.data : "", .len = r->body.len, .header = r->value
	};
	struct err err = ERR_INIT;
	long status = 0, os_errno = 0;

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &os_errno);
	answer.status = (int)status;
	/* What libcurl says of a socket that is a file names a host and a port. The code is one:
	 * ENOENT would be an answer. */
	if (code == CURLE_COULDNT_CONNECT && r->http->unix_socket)
		err_set(&err, ECONNREFUSED, "%s",
			os_errno ? strerror((int)os_errno) : "cannot connect");
	else if (r->too_large)
		err_set(&err, EMSGSIZE, "the answer is too large");
	else if (r->broken_off)
		err_set(&err, ECANCELED, "broken off");
	else if (strbuf_error(&r->body) < 0)
		err_set(&err, ENOMEM, "out of memory");
	else if (code != CURLE_OK)
		err_set(&err, status_errno(code), "%s",
			r->error[0] ? r->error : curl_easy_strerror(code));
	r->done(r->arg, err.code ? NULL : &answer, err.code ? &err : NULL);
}

static void look_for_ends(struct http *http)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(http->multi, &left))) {
		struct http_request *r = NULL;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &r);
		tell(r, code);
		request_free(r);
	}
}

static void act(struct http *http, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(http->multi, fd, events, &running);
	look_for_ends(http);
}

/* What libcurl waits for */

static void on_fd(struct loop_fd *src, uint32_t events)
{
	struct watched *w = container_of(src, struct watched, src);
	int what = 0;

	if (events & EPOLLIN)
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		what |= CURL_CSELECT_ERR;
	act(w->http, src->fd, what);
}

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct watched *w = socket_arg;
	struct http *http = arg;
	uint32_t events =
		(what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

	if (what == CURL_POLL_REMOVE) {
		if (w)
			loop_fd_remove(&w->src);
		free(w);
		curl_multi_assign(http->multi, fd, NULL);
		return 0;
	}
	if (w) {
		loop_fd_set(&w->src, events);
		return 0;
	}
	w = calloc(1, sizeof(*w));
	if (!w || loop_fd_add(http->loop, &w->src, fd, events, on_fd) < 0) {
		free(w);
		return -1;
	}
	w->http = http;
	curl_multi_assign(http->multi, fd, w);
	return 0;
}

static void on_time(struct loop_timer *timer)
{
	act(container_of(timer, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
	struct http *http = arg;

	if (ms < 0)
		loop_timer_disarm(&http->timer);
	else if (loop_timer_arm(
			 http->loop, &http->timer, deadline_in(ms * NSEC_PER_MSEC), on_time) < 0)
		return -1;
	return 0;
}

/* Requests */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	if (r->part && status >= 200 && status < 300) {
		r->broken_off = r->part(r->arg, data, len) < 0;
		return r->broken_off ? 0 : len;
	}
	r->too_large = len > LIMIT_HTTP_BODY - r->body.len;
	if (!r->too_large)
		strbuf_add(&r->body, data, len);
	return r->too_large || strbuf_error(&r->body) < 0 ? 0 : len;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	size_t len = size * n, name = strlen(r->wanted);

	if (len > name && line[name] == ':' && strncasecmp(line, r->wanted, name) == 0) {
		const char *value = line + name + 1, *end = line + len;

		while (value < end && *value == ' ')
			value++;
		while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
			end--;
		snprintf(r->value, sizeof(r->value), "%.*s", (int)(end - value), value);
	}
	return len;
}

static int add_header(struct http_request *r, const char *line)
{
	struct curl_slist *more = curl_slist_append(r->headers, line);

	if (!more)
		return -ENOMEM;
	r->headers = more;
	return 0;
}

static int set_headers(struct http_request *r, const struct http_request_opts *o)
{
	auto_free char *type = NULL;

	if (asprintf(&type, "Content-Type: %s", o->content_type ? o->content_type : "") < 0) {
		type = NULL;
		return -ENOMEM;
	}
	/* A body is sent at once: no server we talk to refuses one by its size. */
	if (add_header(r, "Expect:") < 0 || (o->content_type && add_header(r, type) < 0) ||
		(o->header && add_header(r, o->header) < 0))
		return -ENOMEM;
	return curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers) ? -ENOMEM : 0;
}

/* Setting an option fails only for lack of memory, and one that is not known to this libcurl. */
static int set_up(struct http_request *r, const struct http_request_opts *o)
{
	CURL *easy = r->easy = curl_easy_init();
	auto_free char *url = NULL;

	if (!easy || asprintf(&url, "%s%s", r->http->base, o->path) < 0) {
		url = NULL;
		return -ENOMEM;
	}
	curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
	if (o->answer_header) {
		r->wanted = o->answer_header;
		curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
		curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
	}
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIME_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(o->timeout / NSEC_PER_MSEC));
	/* The environment's proxies are for the web. */
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	if (strcmp(o->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (strcmp(o->method, "POST") == 0)
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
	if (curl_easy_setopt(easy, CURLOPT_URL, url) ||
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, o->method) ||
		(r->http->unix_socket &&
			curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, r->http->unix_socket)))
		return -ENOMEM;
	if (o->body || strcmp(o->method, "POST") == 0) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->len);
		if (curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, o->body ? o->body : ""))
			return -ENOMEM;
	}
	return set_headers(r, o);
}

int http_send(struct http *http, const struct http_request_opts *opts)
{
	struct http_request *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->http = http;
	r->part = opts->part;
	r->done = opts->done;
	r->arg = opts->arg;
	list_add_tail(&http->requests, &r->link);
	if (set_up(r, opts) < 0 || curl_multi_add_handle(http->multi, r->easy)) {
		request_free(r);
		return -ENOMEM;
	}
	return 0;
}

int http_new(
	struct loop *loop, const struct http_opts *opts, struct http **ret_http, struct err *err)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http || curl_global_init(CURL_GLOBAL_DEFAULT)) {
		free(http);
		return err_errno(err, ENOMEM, "cannot make an HTTP client");
	}
	http->loop = loop;
	list_init(&http->requests);
	http->multi = curl_multi_init();
	http->base = strdup(opts->base);
	http->unix_socket = opts->unix_socket ? strdup(opts->unix_socket) : NULL;
	if (!http->multi || !http->base || (opts->unix_socket && !http->unix_socket)) {
		http_free(http);
		return err_errno(err, ENOMEM, "cannot make an HTTP client");
	}
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	*ret_http = http;
	return 0;
}

struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	while (!list_empty(&http->requests))
		request_free(list_entry(http->requests.next, struct http_request, link));
	curl_multi_cleanup(http->multi);
	loop_timer_disarm(&http->timer);
	free(http->unix_socket);
	free(http->base);
	free(http);
	curl_global_cleanup();
	return NULL;
}

void http_escape(struct strbuf *out, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				    "-._~";

	for (; *text; text++) {
		if (strchr(plain, *text))
			strbuf_addc(out, *text);
		else
			strbuf_addf(out, "%%%02X", (unsigned char)*text);
	}
}
