/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "cli/doctor.h"
#include "cli/output.h"

struct doctor {
	int format;
};

static const struct opt opts[] = {
	{ "format", 0, OPT_WORD, offsetof(struct doctor, format), "FORMAT", "how to print",
		.words = output_words },
	{ NULL },
};

static void print(
	const struct doctor_finding *f, enum doctor_state state, const char *detail, int format)
{
	if (format == OUTPUT_JSON) {
		json_t *o = json_object();

		json_object_set_new(o, "ID", json_string(f->id));
		json_object_set_new(o, "State", json_string(doctor_state_name(state)));
		json_object_set_new(o, "Detail", output_string(detail));
		json_object_set_new(o, "Remedy", json_string(state == DOCTOR_OK ? "" : f->remedy));
		output_json(o);
		return;
	}
	printf("%-5s %-16s %s\n", doctor_state_name(state), f->id, detail);
	if (state != DOCTOR_OK)
		printf("%-5s %-16s -> %s\n", "", "", f->remedy);
	fflush(stdout);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct doctor *d = values;
	int code = 0;

	for (const struct doctor_finding *f = doctor_table; f->id; f++) {
		char detail[LIMIT_ERR_MESSAGE];
		enum doctor_state state = f->check(cli, detail);

		print(f, state, detail, d->format);
		if (state == DOCTOR_FAIL)
			code = 1;
	}
	return code;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.remote = VERB_THERE,
	.usage = "[OPTIONS]",
	.summary = "Say what this host has, lacks, and how to get it",
	.opts = opts,
	.values_size = sizeof(struct doctor),
	.run = run,
};
