/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP (QEMU's docs/interop/qmp-spec.txt): JSON objects, one a line, over a connected socket on our
 * loop. QEMU may have been taken over by its guest, so what it says is bounded and checked, and
 * every command has a deadline.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "io/loop.h"

enum qmp_kind { QMP_GREETING, QMP_EVENT, QMP_RETURN, QMP_ERROR, QMP_KIND_MAX };

/* One message, taken apart; everything is borrowed from root, which json_decref() releases. */
struct qmp_message {
	enum qmp_kind kind;
	json_t *root;
	const char *name; /* event's name, or error's class */
	const char *desc; /* error's text */
	json_t *data;	  /* event's data or the returned value; NULL: none */
	uint64_t id;	  /* of the command that is answered; 0: none */
};

/* Reads one line (without its newline). 0, -EPROTO for what is no QMP message, -ENOMEM. */
int qmp_message_parse(const char *line, size_t len, struct qmp_message *ret_msg);

struct qmp;

/* Callbacks may free the client. */
struct qmp_events {
	/* data is borrowed, NULL if there is none. */
	void (*event)(struct qmp *qmp, const char *name, json_t *data, void *arg);
	/* The connection has ended or broke the protocol; comes once, after every open command was
	 * answered with an error. */
	void (*closed)(struct qmp *qmp, const struct err *err, void *arg);
	void *arg;
};

/* value is borrowed; on failure it is NULL and err says why (QEMU's own words, -ETIMEDOUT, ...). */
typedef void (*qmp_done)(json_t *value, const struct err *err, void *arg);

/* Takes over fd. Negotiates by itself; commands given before are sent after. 0 or -errno (fd closed
 * then too). */
int qmp_new(struct loop *loop, int fd, const struct qmp_events *events, struct qmp **ret_qmp);

/* Open commands are forgotten without a call. Returns NULL. */
struct qmp *qmp_free(struct qmp *qmp);

/*
 * Sends a command; done comes once, never from within this call. args is consumed, NULL for none;
 * done may be NULL. deadline: CLOCK_MONOTONIC ns. 0, or -errno (-EAGAIN: LIMIT_QMP_PENDING are
 * open, -EPIPE: closed) and no call.
 */
int qmp_command(struct qmp *qmp, const char *name, json_t *args, int64_t deadline, qmp_done done,
	void *arg);

/*
 * The same, and a duplicate of fd goes with the command (SCM_RIGHTS), as `getfd` wants it. One at a
 * time: -EBUSY until the one before has been sent.
 */
int qmp_command_fd(struct qmp *qmp, const char *name, json_t *args, int fd, int64_t deadline,
	qmp_done done, void *arg);

/* Handles all that has come already, without waiting: for the last events of a QEMU that has ended.
 * May free, as above. */
void qmp_drain(struct qmp *qmp);
