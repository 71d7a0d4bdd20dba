/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"

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

int failure_check_labels(const struct strv *labels, struct failure *f)
{
	if (labels->n / 2 > LIMIT_LABELS)
		return failure_set(
			f, FAILURE_LIMIT, E2BIG, "labels", "", "more than %d labels", LIMIT_LABELS);
	for (size_t i = 0; i + 1 < labels->n; i += 2)
		if (strlen(labels->v[i]) + strlen(labels->v[i + 1]) > LIMIT_LABEL_BYTES)
			return failure_set(f, FAILURE_LIMIT, E2BIG, "labels", labels->v[i],
				"the label '%.64s' is longer than %d bytes with its value",
				labels->v[i], (int)LIMIT_LABEL_BYTES);
	return 0;
}
