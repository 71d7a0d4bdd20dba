/* SPDX-License-Identifier: Apache-2.0 */
/* template ls, rm and build. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/proc.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/runopts.h"
#include "cli/template.h"
#include "sandbox/machine.h"

#define KEY_SHOWN 12

struct template_values {
	struct template_opts build;
	bool no_trunc;
	int format;
};

#define AT(field) offsetof(struct template_values, field)
static const struct opt template_table[] = {
	{ "format", 0, OPT_WORD, AT(format), "FORMAT", "ls: how to print", .words = output_words },
	{ "no-network", 0, OPT_FLAG, AT(build.no_network), NULL,
		"build: for sandboxes without a network" },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "ls: show keys whole" },
	{ "quiet", 'q', OPT_FLAG, AT(build.quiet), NULL,
		"ls: print keys only; build: no progress" },
	{ "runtime", 0, OPT_WORD, AT(build.runtime), "NAME",
		"build: the container runtime in the guest", .words = run_runtimes },
	{ "volumes", 0, OPT_FLAG, AT(build.volumes), NULL, "build: for sandboxes with volumes" },
	{ NULL },
};

/* ls */

static const char *const heading[] = { "TEMPLATE", "MEMORY", "CPUS", "ACCEL", "NETWORK", "VOLUMES",
	"RUNTIME", "CREATED", "USED", "SIZE", NULL };
static const char *const keys[] = { "ID", "Memory", "CPUs", "Accel", "Network", "Volumes",
	"Runtime", "CreatedSince", "UsedSince", "Size" };
#define COLUMNS ARRAY_SIZE(keys)
static_assert(ARRAY_SIZE(heading) == COLUMNS + 1, "a key for each column");

static int add_ago(struct strv *cells, int64_t ns)
{
	char span[32];

	return strv_addf(cells, "%s ago",
		output_duration(MAX(clock_realtime() - ns, 0), span, sizeof(span)));
}

static int add_row(const struct template_info *t, bool no_trunc, struct strv *cells)
{
	char size[32];
	int r = strv_addn(cells, t->key, no_trunc ? TEMPLATE_KEY_LEN : KEY_SHOWN);

	if (r == 0)
		r = strv_addf(cells, "%lluMiB", (unsigned long long)(t->memory / MIB));
	if (r == 0)
		r = strv_addf(cells, "%u", t->cpus);
	if (r == 0)
		r = strv_add(cells, t->accel ? t->accel : "");
	if (r == 0)
		r = strv_add(cells, t->network ? "yes" : "no");
	if (r == 0)
		r = strv_add(cells, t->slots ? "yes" : "no");
	if (r == 0)
		r = strv_add(cells, t->runtime ? t->runtime : "");
	if (r == 0)
		r = add_ago(cells, t->created_ns);
	if (r == 0)
		r = add_ago(cells, t->used_ns);
	if (r == 0)
		r = strv_add(cells, output_size(t->bytes, size, sizeof(size)));
	return r;
}

static void print_json(const struct strv *cells)
{
	json_t *o = json_object();

	for (size_t i = 0; i < COLUMNS; i++)
		json_object_set_new(o, keys[i], output_string(cells->v[cells->n - COLUMNS + i]));
	output_json(o);
}

static int list(struct cli *cli, const struct template_values *v, struct err *err)
{
	auto_strv struct strv cells = STRV_INIT;
	struct template_info *infos = NULL;
	size_t n = 0;
	int r = template_list(cli->root, &infos, &n, err);

	if (r < 0)
		return r;
	r = strv_addv(&cells, heading);
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && v->build.quiet)
			printf("%.*s\n", v->no_trunc ? TEMPLATE_KEY_LEN : KEY_SHOWN, infos[i].key);
		else if (r == 0)
			r = add_row(&infos[i], v->no_trunc, &cells);
		if (r == 0 && !v->build.quiet && v->format == OUTPUT_JSON)
			print_json(&cells);
		template_info_deinit(&infos[i]);
	}
	free(infos);
	if (r < 0)
		return err_errno(err, -r, "cannot list the templates");
	if (!v->build.quiet && v->format == OUTPUT_TABLE)
		output_table(&cells, COLUMNS);
	return 0;
}

/* rm */

static int remove_all(struct cli *cli, const char **words, size_t n)
{
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		struct err err = ERR_INIT;

		if (template_remove(cli->root, words[i], &err) < 0) {
			cli_complain(&err);
			code = EXIT_MICROPOD;
		} else {
			printf("%s\n", words[i]);
		}
	}
	return code;
}

/* build */

static int order(struct cli *cli, const struct machine *machine, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	uint64_t limit = cli->settings.template_limit;
	int r = sandbox_program("micropod-shim", &program, err);

	if (r < 0)
		return r;
	r = strv_add(&argv, program);
	if (r == 0)
		r = machine_template_order(
			cli->root, machine, limit ? limit : TEMPLATE_LIMIT_DEFAULT, true, &argv);
	return r < 0 ? err_errno(err, -r, "cannot make a template")
		     : proc_run((const char *const *)strv_items(&argv), 4096, NULL, err);
}

/* The process that made it has left why, which says more than its exit status. */
static int explain(struct cli *cli, const char *key, struct err *err)
{
	char why[LIMIT_ERR_MESSAGE];

	if (template_failure(cli->root, key, why, sizeof(why)) == TEMPLATE_FAILED)
		return err_set(err, EIO, "cannot make the template: %s", why);
	return -err->code;
}

int template_make(struct cli *cli, const struct template_opts *opts,
	char ret_key[static TEMPLATE_KEY_LEN + 1], struct err *err)
{
	struct sandbox_config config = { .no_network = opts->no_network,
		.slots = opts->volumes,
		.runtime = (char *)run_runtimes[opts->runtime] };
	struct sandbox_guest guest = { 0 };
	struct accel_verdict verdict;
	struct machine machine;
	int r = guest_ensure(cli, opts->quiet, err);

	if (r == 0)
		r = run_set_machine(cli, &config, err);
	if (r == 0 && !(vmm_kind_find(config.vmm_kind)->abilities & VM_CAN_SNAPSHOT))
		r = err_set(err, ENOTSUP, "VMs of %s go on from no template: they boot",
			vmm_kind_find(config.vmm_kind)->title);
	if (r == 0)
		r = machine_choose(
			cli->root, &driver_qemu, &config, &guest, &machine, &verdict, err);
	if (r == 0)
		r = machine_key(&machine, ret_key, err);
	if (r == 0 && order(cli, &machine, err) < 0)
		r = explain(cli, ret_key, err);
	sandbox_guest_deinit(&guest);
	config.runtime = NULL; /* a constant */
	sandbox_config_deinit(&config);
	return r;
}

static int build(struct cli *cli, const struct template_opts *opts, struct err *err)
{
	char key[TEMPLATE_KEY_LEN + 1];
	int r = template_make(cli, opts, key, err);

	if (r == 0)
		printf("%.*s\n", KEY_SHOWN, key);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct template_values *v = values;

	if (strcmp(words[0], "ls") == 0 && n == 1)
		return list(cli, v, err);
	if (strcmp(words[0], "build") == 0 && n == 1)
		return build(cli, &v->build, err);
	if (strcmp(words[0], "rm") == 0 && n > 1)
		return remove_all(cli, words + 1, n - 1);
	return err_set(err, EINVAL,
		"'template %.40s' is wrong: use 'template ls', 'template build' or 'template rm "
		"TEMPLATE...'",
		words[0]);
}

const struct verb verb_template = {
	.name = "template",
	.remote = VERB_THERE,
	.usage = "ls | build | rm TEMPLATE... [OPTIONS]",
	.summary = "List, make and remove the saved VMs that sandboxes start from",
	.opts = template_table,
	.values_size = sizeof(struct template_values),
	.settings = true,
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
