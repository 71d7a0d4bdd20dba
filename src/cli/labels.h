/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of what is no sandbox: KEY=VALUE words. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/strv.h"

/* Words of --label: 0, or -EINVAL with err. */
int labels_check(const struct strv *labels, struct err *err);

/* Whether KEY or KEY=VALUE is among them. */
bool labels_have(const struct strv *labels, const char *wanted);
