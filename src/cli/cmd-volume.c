/* SPDX-License-Identifier: Apache-2.0 */
/* volume create, ls, rm, inspect, prune. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "cli/cli.h"
#include "cli/labels.h"
#include "cli/output.h"
#include "cli/things.h"
#include "sandbox/volume.h"

static json_t *describe(const struct volume *v)
{
	json_t *o = json_object();
	char when[40];

	json_object_set_new(
		o, "CreatedAt", json_string(output_time(v->created_ns, when, sizeof(when))));
	json_object_set_new(o, "Driver", json_string("local"));
	json_object_set_new(o, "Labels", output_pairs(&v->labels));
	json_object_set_new(o, "Mountpoint", output_string(v->path));
	json_object_set_new(o, "Name", json_string(v->name));
	json_object_set_new(o, "Scope", json_string("local"));
	return o;
}

/* create */

struct create {
	struct strv labels;
};

static const struct opt create_opts[] = {
	{ "label", 0, OPT_LIST, offsetof(struct create, labels), "KEY=VALUE",
		"note this down with it" },
	{ NULL },
};

static int run_create(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct create *c = values;
	auto_volume struct volume v = { 0 };
	char id[ID_LEN + 1];
	int r;

	id_generate(id);
	r = labels_check(&c->labels, err);
	if (r == 0)
		r = volume_create(cli->root, n ? words[0] : id, &c->labels, &v, err);
	if (r == 0)
		printf("%s\n", v.name);
	return r;
}

/* ls */

struct ls {
	bool quiet;
	const char *format;
	struct strv filters;
};

#define AT(field) offsetof(struct ls, field)
static const struct opt list_opts[] = {
	{ "filter", 'f', OPT_LIST, AT(filters), "KEY=VALUE", "only these: name, label, dangling" },
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print names only" },
	{ NULL },
};

static const char *const heading[] = { "DRIVER", "VOLUME NAME", NULL };
static const char *const keys[] = { "Driver", "Name", NULL };

static int check_filters(const struct strv *filters, struct err *err)
{
	for (size_t i = 0; i < filters->n; i++) {
		const char *f = filters->v[i];

		if (strncmp(f, "name=", 5) != 0 && strncmp(f, "label=", 6) != 0 &&
			strcmp(f, "dangling=true") != 0 && strcmp(f, "dangling=false") != 0)
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': give name=, label=, dangling=true "
				"or dangling=false",
				f);
	}
	return 0;
}

static bool passes(struct cli *cli, const struct volume *v, const struct strv *filters)
{
	char by[LIMIT_NAME + 1];

	for (size_t i = 0; i < filters->n; i++) {
		const char *f = filters->v[i];

		if (strncmp(f, "name=", 5) == 0 && !strstr(v->name, f + 5))
			return false;
		if (strncmp(f, "label=", 6) == 0 && !labels_have(&v->labels, f + 6))
			return false;
		if (strncmp(f, "dangling=", 9) == 0 &&
			volume_used(cli->root, v->name, by) == (f[9] == 't'))
			return false;
	}
	return true;
}

static int run_list(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct ls *l = values;
	auto_strv struct strv names = STRV_INIT;
	struct output_rows rows;
	int r = check_filters(&l->filters, err);

	if (r == 0)
		r = volume_list(cli->root, &names, err);
	if (r < 0)
		return r;
	r = output_rows_begin(&rows, l->quiet ? "{{.Name}}" : l->format, keys, heading, err);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		auto_volume struct volume v = { 0 };
		struct err gone = ERR_INIT;

		if (volume_load(cli->root, names.v[i], &v, &gone) == 0 &&
			passes(cli, &v, &l->filters))
			r = output_rows_add(&rows, describe(&v), err);
	}
	output_rows_end(&rows);
	return r;
}

/* rm */

struct rm {
	bool force;
};

static const struct opt rm_opts[] = {
	{ "force", 'f', OPT_FLAG, offsetof(struct rm, force), NULL,
		"one that is not there is no error" },
	{ NULL },
};

static int run_rm(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return things_remove(cli, words, n, ((const struct rm *)values)->force, volume_remove);
}

/* inspect */

struct inspect {
	const char *format;
};

static const struct opt inspect_opts[] = {
	{ "format", 'f', OPT_STRING, offsetof(struct inspect, format), "FORMAT",
		"how to print: json, or a template such as '{{.Mountpoint}}'" },
	{ NULL },
};

static int describe_one(struct cli *cli, const char *word, json_t **ret, struct err *err)
{
	auto_volume struct volume v = { 0 };
	int r = volume_load(cli->root, word, &v, err);

	if (r == 0)
		*ret = describe(&v);
	return r;
}

static int run_inspect(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return things_inspect(
		cli, ((const struct inspect *)values)->format, words, n, describe_one, err);
}

/* prune */

struct prune {
	bool all, force;
};

static const struct opt prune_opts[] = {
	{ "all", 'a', OPT_FLAG, offsetof(struct prune, all), NULL,
		"those with names, too: all have one" },
	{ "force", 'f', OPT_FLAG, offsetof(struct prune, force), NULL, "do not ask" },
	{ NULL },
};

static int run_prune(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return ((const struct prune *)values)->force ||
			       cli_confirm("This removes all volumes that no sandbox uses, with "
					   "what is in them.")
		       ? things_prune(cli, "volume", volume_list, volume_used, volume_remove, err)
		       : 0;
}

#define VOLUME_VERB(verb_name, how, what, table, size, least, most, fn)                           \
	{                                                                                         \
		.name = "volume " verb_name, .remote = VERB_THERE, .usage = how, .summary = what, \
		.opts = table, .values_size = size, .min_words = least, .max_words = most,        \
		.run = fn                                                                         \
	}

const struct verb verb_volume_create = VOLUME_VERB("create", "[OPTIONS] [NAME]", "Make a volume",
	create_opts, sizeof(struct create), 0, 1, run_create);
const struct verb verb_volume_inspect =
	VOLUME_VERB("inspect", "[OPTIONS] VOLUME...", "Print all that is known of volumes, as JSON",
		inspect_opts, sizeof(struct inspect), 1, WORDS_ANY, run_inspect);
const struct verb verb_volume_ls = VOLUME_VERB(
	"ls", "[OPTIONS]", "List volumes", list_opts, sizeof(struct ls), 0, 0, run_list);
const struct verb verb_volume_prune = VOLUME_VERB("prune", "[OPTIONS]",
	"Remove volumes that no sandbox uses", prune_opts, sizeof(struct prune), 0, 0, run_prune);
const struct verb verb_volume_rm = VOLUME_VERB("rm", "[OPTIONS] VOLUME...",
	"Remove volumes with what is in them", rm_opts, sizeof(struct rm), 1, WORDS_ANY, run_rm);
