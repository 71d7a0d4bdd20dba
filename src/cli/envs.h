/* SPDX-License-Identifier: Apache-2.0 */
/* -e and --env-file, as Docker reads them. */
#pragma once

#include "base/err.h"
#include "base/strv.h"

/*
 * Files first, then the options, appended to ret_env as KEY=VALUE, later ones replacing earlier
 * ones. KEY alone takes its value from our environment; if it has none, an option keeps it as KEY,
 * which removes it, and a file's line is left out. 0 or -errno with err naming option, or file and
 * line.
 */
int envs_build(const struct strv *files, const struct strv *options, struct strv *ret_env,
	struct err *err);
