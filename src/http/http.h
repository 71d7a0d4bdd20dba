/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 requests to one server, over TCP or a unix socket, on the loop (libcurl). Nothing
 * blocks. */
#pragma once

#include "base/err.h"
#include "io/loop.h"

struct http;

struct http_opts {
	const char *unix_socket; /* path; NULL: over TCP, to what base names */
	const char *base;	 /* "http://HOST[:PORT]", in front of each path */
};

/* All copied. 0, or -errno with err. */
int http_new(
	struct loop *loop, const struct http_opts *opts, struct http **ret_http, struct err *err);
/* Requests still open are dropped without a word. Not from a callback. Returns NULL. */
struct http *http_free(struct http *http);

struct http_answer {
	int status;	  /* 200, ... */
	const char *body; /* NUL-terminated, borrowed until return; "" where it went to `part` */
	size_t len;
	const char *header; /* the value of the header that was asked for; "": it was not sent */
};

struct http_request_opts {
	const char *method;		   /* "GET" */
	const char *path;		   /* with its query, encoded already */
	const char *content_type, *header; /* header: one more, "Name: value"; NULL: none */
	const void *body;		   /* NULL: none; copied */
	size_t len;
	int64_t timeout;	   /* ns for all of it; 0: none */
	const char *answer_header; /* name of a header of the answer that is wanted, borrowed; NULL:
				      none */
	/* Parts of the body of a 2xx answer as they come; less than 0 ends it. NULL: it is
	 * collected, up to LIMIT_HTTP_BODY. */
	int (*part)(void *arg, const char *data, size_t len);
	/* Once: the answer, or why there is none. */
	void (*done)(void *arg, const struct http_answer *answer, const struct err *err);
	void *arg;
};

/* 0 or -ENOMEM. */
int http_send(struct http *http, const struct http_request_opts *opts);

/* Appends text as part of a path or query (RFC 3986 section 2.1). */
struct strbuf;
void http_escape(struct strbuf *out, const char *text);
