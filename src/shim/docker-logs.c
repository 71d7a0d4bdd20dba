/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of a container without a session to an agent, as the engine has it: its whole log from
 * the begin, of which is skipped what an earlier shim or start has kept already, and then what
 * comes. A stream of frames, eight bytes of head with the length in the last four; of a terminal
 * just the bytes (docs.docker.com/reference/api/engine, attach).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "shim/docker.h"

#define HEAD 8

static void take_output(struct docker *d, unsigned stream, const char *data, size_t len)
{
	size_t skip = (size_t)MIN((uint64_t)len, d->log.skip[stream]);

	d->log.skip[stream] -= skip;
	data += skip;
	len -= skip;
	while (len) {
		size_t n = MIN(len, (size_t)LIMIT_OUTPUT_CHUNK);

		shim_log(d->shim, stream, data, n);
		data += n;
		len -= n;
	}
}

static int on_part(void *arg, const char *data, size_t len)
{
	struct docker *d = arg;
	struct docker_log *log = &d->log;

	if (d->shim->box.config.tty) {
		take_output(d, 0, data, len);
		return 0;
	}
	while (len) {
		size_t n;

		if (!log->left && log->have < HEAD) {
			log->head[log->have++] = (uint8_t)*data++;
			len--;
			if (log->have < HEAD)
				continue;
			if (log->head[0] > 2)
				return -EPROTO;
			log->left = (uint32_t)log->head[4] << 24 | (uint32_t)log->head[5] << 16 |
				    (uint32_t)log->head[6] << 8 | log->head[7];
		}
		n = MIN(len, (size_t)log->left);
		take_output(d, log->head[0] == 2, data, n);
		log->left -= (uint32_t)n;
		data += n;
		len -= n;
		if (!log->left)
			log->have = 0;
	}
	return 0;
}

static void on_end(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	if (err)
		log_error("the container's output: %s", err->msg);
	d->log.open = false;
	docker_on_log_end(d);
}

int docker_logs_follow(struct docker *d)
{
	auto_free char *path = NULL;
	struct engine_request request = {
		.method = "GET", .part = on_part, .done = on_end, .arg = d
	};
	int r;

	if (asprintf(&path, "/containers/%s/logs?follow=1&stdout=1&stderr=1", d->record.container) <
		0) {
		path = NULL;
		return -ENOMEM;
	}
	d->log = (struct docker_log){ .skip = { d->shim->log_offset[0], d->shim->log_offset[1] } };
	request.path = path;
	r = engine_send(d->engine, &request);
	d->log.open = r == 0;
	return r;
}
