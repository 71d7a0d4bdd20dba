/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/boxes.h"
#include "cli/filters.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/target.h"

#define COMMAND_MAX 20 /* characters of COMMAND, as Docker */

struct ps {
	bool all, latest, no_trunc, quiet;
	unsigned last;
	const char *format;
	struct strv filters;
};

#define AT(field) offsetof(struct ps, field)
static const struct opt opts[] = {
	{ "all", 'a', OPT_FLAG, AT(all), NULL, "show all sandboxes, not only those that run" },
	{ "filter", 'f', OPT_LIST, AT(filters), "KEY=VALUE",
		"only these: ancestor, exited, health, id, label, name, network, status, volume" },
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "last", 'n', OPT_UINT, AT(last), "N", "show the N youngest, whatever their state",
		.min = 1, .max = 1000000 },
	{ "latest", 'l', OPT_FLAG, AT(latest), NULL, "show the youngest, whatever its state" },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "show ids and commands whole" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const heading[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS",
	"PORTS", "NAMES", NULL };
static const char *const keys[] = { "ID", "Image", "Command", "RunningFor", "Status", "Ports",
	"Names", NULL };
/* Of a server. */
static const char *const heading_there[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED",
	"STATUS", "PORTS", "NAMES", "HOST", NULL };
static const char *const keys_there[] = { "ID", "Image", "Command", "RunningFor", "Status", "Ports",
	"Names", "Host", NULL };

static void set(json_t *o, const char *key, const char *value)
{
	json_object_set_new(o, key, output_string(value ? value : ""));
}

static json_t *describe(struct cli *cli, const struct sandbox *box, const struct ps *ps)
{
	auto_strbuf struct strbuf command = STRBUF_INIT, ports = STRBUF_INIT, labels = STRBUF_INIT;
	const struct sandbox_config *c = &box->config;
	json_t *o = json_object();
	char span[32], status[64], when[40];

	output_command(&c->args, ps->no_trunc ? 0 : COMMAND_MAX, &command);
	target_ports(box, &ports);
	for (size_t i = 0; i < c->labels.n; i++)
		strbuf_addf(&labels, "%s%s", i ? "," : "", c->labels.v[i]);
	json_object_set_new(o, "ID", json_stringn(c->id, ps->no_trunc ? ID_LEN : ID_SHOWN_LEN));
	set(o, "Image", c->image);
	set(o, "Command", command.data);
	json_object_set_new(o, "RunningFor",
		json_sprintf("%s ago",
			output_duration(clock_realtime() - c->created_ns, span, sizeof(span))));
	set(o, "Status", target_status(box, status, sizeof(status)));
	set(o, "Ports", ports.data);
	set(o, "Names", c->name);
	if (cli->remote)
		set(o, "Host", remote_host(cli->remote, c->id));
	set(o, "State", target_state(box));
	set(o, "Labels", labels.data);
	set(o, "CreatedAt", output_time(c->created_ns, when, sizeof(when)));
	return o;
}

/* Docker lists what runs; a dead one needs somebody to look at it, so it is listed too. */
static bool wanted(const struct sandbox *box, const struct ps *ps)
{
	return ps->all || ps->last || ps->latest || filters_ask_for_ended(&ps->filters) ||
	       target_alive(box) || box->state.phase == SANDBOX_DEAD;
}

static int show(struct cli *cli, const struct sandbox *box, const struct ps *ps,
	struct output_rows *rows, struct err *err)
{
	if (box->config.is_pod || !wanted(box, ps) || !filters_match(&ps->filters, box))
		return 0;
	if (ps->quiet) {
		printf("%.*s\n", ps->no_trunc ? ID_LEN : ID_SHOWN_LEN, box->config.id);
		return 0;
	}
	return output_rows_add(rows, describe(cli, box, ps), err);
}

/* -ENOENT: removed meanwhile. */
static int show_one(struct cli *cli, const char *id, const struct ps *ps, struct output_rows *rows,
	int *code, struct err *err)
{
	struct err why = ERR_INIT;
	struct sandbox box;
	int r = target_open(cli, id, false, &box, &why);

	if (r < 0) {
		if (r != -ENOENT) {
			cli_complain(&why);
			*code = EXIT_MICROPOD;
		}
		return 0;
	}
	r = show(cli, &box, ps, rows, err);
	sandbox_deinit(&box);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct ps *ps = values;
	auto_strv struct strv ids = STRV_INIT;
	struct output_rows rows;
	int code = 0, r = filters_check(&ps->filters, err);
	size_t most;

	if (r == 0)
		r = boxes_list(cli, &ids, err);
	if (r < 0)
		return r;
	r = output_rows_begin(&rows, ps->format, cli->remote ? keys_there : keys,
		cli->remote ? heading_there : heading, err);
	most = ps->latest ? 1 : ps->last ? ps->last : ids.n;
	for (size_t i = 0; r == 0 && i < ids.n && i < most; i++)
		r = show_one(cli, ids.v[i], ps, &rows, &code, err);
	if (ps->quiet || r < 0)
		strv_deinit(&rows.cells);
	output_rows_end(&rows);
	return r < 0 ? r : code;
}

#define PS_VERB(verb_name, what)                                                               \
	{                                                                                      \
		.name = verb_name, .remote = VERB_HERE, .usage = "[OPTIONS]", .summary = what, \
		.opts = opts, .values_size = sizeof(struct ps), .run = run                     \
	}

const struct verb verb_ps = PS_VERB("ps", "List sandboxes");
const struct verb verb_list = PS_VERB("list", "The same as ps");
