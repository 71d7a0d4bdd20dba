/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors that a person reads. A caller-owned struct with a code (a positive errno value) and one
 * line that says what failed, on which object, why, and what to do. No allocation, nothing to
 * release. Set once where the error arises; callers above may put what they were doing in front.
 */
#pragma once

#include "base/limits.h"
#include "base/macro.h"

struct err {
	int code;
	char msg[LIMIT_ERR_MESSAGE];
};

#define ERR_INIT ((struct err){ 0 })

/* Sets code (positive errno) and message, replacing what was there. Returns -code. err may be NULL.
 */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* err_set with ": <strerror(code)>" behind the message. Returns -code. */
int err_errno(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* Puts "<prefix>: " in front of the message. Returns -err->code (or -EIO if none was set). */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF(2, 3);
