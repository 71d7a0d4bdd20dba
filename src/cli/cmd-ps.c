/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/boxes.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/target.h"

#define COMMAND_MAX 20 /* characters of COMMAND, as Docker */

struct ps {
	bool all, latest, no_trunc, quiet;
	unsigned last;
	int format;
};

#define AT(field) offsetof(struct ps, field)
static const struct opt opts[] = {
	{ "all", 'a', OPT_FLAG, AT(all), NULL, "show all sandboxes, not only those that run" },
	{ "format", 0, OPT_WORD, AT(format), "FORMAT", "how to print", .words = output_words },
	{ "last", 'n', OPT_UINT, AT(last), "N", "show the N youngest, whatever their state",
		.min = 1, .max = 1000000 },
	{ "latest", 'l', OPT_FLAG, AT(latest), NULL, "show the youngest, whatever its state" },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "show ids and commands whole" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const heading[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS",
	"PORTS", "NAMES", "HOST", NULL };
static const char *const keys[] = { "ID", "Image", "Command", "RunningFor", "Status", "Ports",
	"Names", "Host" };
#define COLUMNS_MAX ARRAY_SIZE(keys)
static_assert(ARRAY_SIZE(heading) == COLUMNS_MAX + 1, "a key for each column");

/* The last is for those of a server. */
static size_t columns(const struct cli *cli)
{
	return cli->remote ? COLUMNS_MAX : COLUMNS_MAX - 1;
}

static int add_row(
	struct cli *cli, const struct sandbox *box, const struct ps *ps, struct strv *cells)
{
	auto_strbuf struct strbuf command = STRBUF_INIT, ports = STRBUF_INIT;
	char span[32], status[64];

	output_command(&box->config.args, ps->no_trunc ? 0 : COMMAND_MAX, &command);
	target_ports(box, &ports);
	return strv_addf(cells, "%.*s", ps->no_trunc ? ID_LEN : ID_SHOWN_LEN, box->config.id) < 0 ||
			       strv_add(cells, box->config.image ? box->config.image : "") < 0 ||
			       strv_add(cells, command.data) < 0 ||
			       strv_addf(cells, "%s ago",
				       output_duration(clock_realtime() - box->config.created_ns,
					       span, sizeof(span))) < 0 ||
			       strv_add(cells, target_status(box, status, sizeof(status))) < 0 ||
			       strv_add(cells, ports.data ? ports.data : "") < 0 ||
			       strv_add(cells, box->config.name) < 0 ||
			       (cli->remote && strv_add(cells, remote_host(cli->remote,
								       box->config.id)) < 0)
		       ? -ENOMEM
		       : 0;
}

static void print_json(struct cli *cli, const struct sandbox *box, const struct strv *cells)
{
	size_t n = columns(cli);
	json_t *o = json_object();
	char when[40];

	for (size_t i = 0; i < n; i++)
		json_object_set_new(o, keys[i], output_string(cells->v[cells->n - n + i]));
	json_object_set_new(o, "State", json_string(sandbox_phase_name(box->state.phase)));
	json_object_set_new(o, "CreatedAt",
		json_string(output_time(box->config.created_ns, when, sizeof(when))));
	output_json(o);
}

/* Docker lists what runs; a dead one needs somebody to look at it, so it is listed too. */
static bool wanted(const struct sandbox *box, const struct ps *ps)
{
	return ps->all || ps->last || ps->latest || target_alive(box) ||
	       box->state.phase == SANDBOX_DEAD;
}

static int show(struct cli *cli, const struct sandbox *box, const struct ps *ps, struct strv *cells)
{
	int r;

	if (!wanted(box, ps))
		return 0;
	if (ps->quiet) {
		printf("%.*s\n", ps->no_trunc ? ID_LEN : ID_SHOWN_LEN, box->config.id);
		return 0;
	}
	r = add_row(cli, box, ps, cells);
	if (r == 0 && ps->format == OUTPUT_JSON)
		print_json(cli, box, cells);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct ps *ps = values;
	auto_strv struct strv ids = STRV_INIT, cells = STRV_INIT;
	size_t most;
	int r = boxes_list(cli, &ids, err), code = 0;

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < columns(cli); i++)
		r = strv_add(&cells, heading[i]);
	if (r < 0)
		return err_errno(err, -r, "cannot list the sandboxes");
	most = ps->latest ? 1 : ps->last ? ps->last : ids.n;
	for (size_t i = 0; i < ids.n && i < most; i++) {
		struct sandbox box;
		struct err why = ERR_INIT;

		r = target_open(cli, ids.v[i], false, &box, &why);
		if (r == -ENOENT)
			continue; /* removed meanwhile */
		if (r < 0) {
			cli_complain(&why);
			code = EXIT_MICROPOD;
			continue;
		}
		r = show(cli, &box, ps, &cells);
		sandbox_deinit(&box);
		if (r < 0)
			return err_errno(err, -r, "cannot list the sandboxes");
	}
	if (!ps->quiet && ps->format == OUTPUT_TABLE)
		output_table(&cells, columns(cli));
	return code;
}

const struct verb verb_ps = {
	.name = "ps",
	.remote = VERB_HERE,
	.usage = "[OPTIONS]",
	.summary = "List sandboxes",
	.opts = opts,
	.values_size = sizeof(struct ps),
	.run = run,
};
