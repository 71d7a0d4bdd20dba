/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/failure.h"

#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *f, enum failure_kind kind, int code, const char *step,
	const char *object, const char *fmt, ...)
{
	va_list ap;

	f->kind = kind;
	f->err.code = code;
	snprintf(f->step, sizeof(f->step), "%s", step ? step : "");
	snprintf(f->object, sizeof(f->object), "%s", object ? object : "");
	va_start(ap, fmt);
	vsnprintf(f->err.msg, sizeof(f->err.msg), fmt, ap);
	va_end(ap);
	return -code;
}
