/* SPDX-License-Identifier: Apache-2.0 */
/* What failed, as the Failure message of agent.proto says it, before it is known how it will be
 * told. */
#pragma once

#include "base/err.h"
#include "base/strv.h"

/* Numbers of Failure.Kind. */
enum failure_kind {
	FAILURE_UNKNOWN,
	FAILURE_SPAWN,
	FAILURE_EXITED,
	FAILURE_SIGNALLED,
	FAILURE_OOM_KILLED,
	FAILURE_TIMEOUT,
	FAILURE_NOT_FOUND,
	FAILURE_CONFLICT,
	FAILURE_LIMIT,
	FAILURE_TUNNEL_LOST,
	FAILURE_INVALID
};

/* err.code (an errno value) gives the gRPC status unless kind rules it; err.msg is for people. */
struct failure {
	enum failure_kind kind;
	char step[64];	  /* SPAWN: what could not be done; LIMIT: which; INVALID: the field */
	char object[256]; /* what it was done to; cut where it is longer */
	struct err err;
};

#define FAILURE_INIT ((struct failure){ 0 })

/* Sets all of it; object may be NULL. Returns -code. */
int failure_set(struct failure *f, enum failure_kind kind, int code, const char *step,
	const char *object, const char *fmt, ...) PRINTF(6, 7);

/* labels: key, value, key, value, ... 0, or -E2BIG with f where they are more or longer than the
 * limits allow. */
int failure_check_labels(const struct strv *labels, struct failure *f);
