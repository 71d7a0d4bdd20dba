/* SPDX-License-Identifier: Apache-2.0 */
/* What `micropod doctor` looks at: a table of findings. docs/troubleshooting.md has a section for
 * each id. */
#pragma once

#include "cli/cli.h"

enum doctor_state {
	DOCTOR_OK,
	DOCTOR_WARN, /* it works, but not as well as it could */
	DOCTOR_FAIL, /* no sandbox starts like this */
	DOCTOR_STATE_MAX
};

struct doctor_finding {
	const char *id;
	const char *remedy; /* what to do when it is not ok; detail may say more */
	/* Fills detail (LIMIT_ERR_MESSAGE bytes, one line). May block shortly. */
	enum doctor_state (*check)(struct cli *cli, char *detail);
};

extern const struct doctor_finding doctor_table[];	/* ends with a NULL id */
const char *doctor_state_name(enum doctor_state state); /* "ok", "warn", "fail" */
