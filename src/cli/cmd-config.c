/* SPDX-License-Identifier: Apache-2.0 */
/* config show: what is set, and where. */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/output.h"

struct config {
	const char *format;
};

static const struct opt opts[] = {
	{ "format", 0, OPT_STRING, offsetof(struct config, format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ NULL },
};

static const char *const heading[] = { "KEY", "VALUE", "FROM", NULL };
static const char *const keys[] = { "Key", "Value", "From", NULL };

/* As it could be written into the file; empty: not set. */
static json_t *value_of(const struct settings *s, const struct opt *o)
{
	const char *field = (const char *)s + o->offset;
	char size[32];

	switch (o->type) {
	case OPT_WORD:
		return json_string(o->words[*(const int *)field]);
	case OPT_FLAG:
		return json_string(*(const bool *)field ? "true" : "false");
	case OPT_SIZE:
		return json_string(
			*(const uint64_t *)field
				? output_binary_size(*(const uint64_t *)field, size, sizeof(size))
				: "");
	case OPT_MILLI:
		return *(const uint64_t *)field
			       ? json_sprintf("%g", (double)*(const uint64_t *)field / 1000)
			       : json_string("");
	default:
		return output_string(
			*(const char *const *)field ? *(const char *const *)field : "");
	}
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct settings *s = &cli->settings;
	struct output_rows rows;
	int r = output_rows_begin(
		&rows, ((const struct config *)values)->format, keys, heading, err);

	for (size_t i = 0; r == 0 && settings_opts[i].name; i++) {
		json_t *row = json_object();
		char key[64];

		settings_spell(settings_opts[i].name, false, key, sizeof(key));
		json_object_set_new(row, "Key", json_string(key));
		json_object_set_new(row, "Value", value_of(s, &settings_opts[i]));
		json_object_set_new(
			row, "From", output_string(s->from[i] ? s->from[i] : "default"));
		r = output_rows_add(&rows, row, err);
	}
	output_rows_end(&rows);
	return r;
}

const struct verb verb_config_show = {
	.name = "config show",
	.no_root = true,
	.usage = "[OPTIONS]",
	.summary = "Show the settings, and where each was set",
	.opts = opts,
	.values_size = sizeof(struct config),
	.run = run,
};
