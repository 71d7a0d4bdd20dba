/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/labels.h"

#include <errno.h>
#include <string.h>

#include "base/limits.h"

int labels_check(const struct strv *labels, struct err *err)
{
	for (size_t i = 0; i < labels->n; i++)
		if (!labels->v[i][0] || labels->v[i][0] == '=' ||
			strlen(labels->v[i]) > LIMIT_LABEL_BYTES)
			return err_set(err, EINVAL,
				"option '--label' is '%.100s': give KEY=VALUE, of at most %d bytes",
				labels->v[i], (int)LIMIT_LABEL_BYTES);
	return 0;
}

bool labels_have(const struct strv *labels, const char *wanted)
{
	size_t len = strlen(wanted);

	for (size_t i = 0; i < labels->n; i++)
		if (strcmp(labels->v[i], wanted) == 0 ||
			(!strchr(wanted, '=') && strncmp(labels->v[i], wanted, len) == 0 &&
				labels->v[i][len] == '='))
			return true;
	return false;
}
