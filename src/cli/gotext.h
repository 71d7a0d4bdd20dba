/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of Go's templates (pkg.go.dev/text/template) that people write behind --format: text
 * with
 * {{.Field}}, {{.A.B}}, {{.}}, {{json .A}} and {{index .A "key"}} in it, on a JSON value. "\t" and
 * "\n" are a tab and a line's end, as Docker has it.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/strbuf.h"

/* Appends what the template makes of the value. 0, -EINVAL with err (a field that is not there, or
 * what is not understood), -ENOMEM. */
int gotext_format(const char *format, const json_t *value, struct strbuf *out, struct err *err);
