/* SPDX-License-Identifier: Apache-2.0 */
/* pod create, ls, rm, inspect, start, stop: VMs in which the containers of several sandboxes run.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/output.h"
#include "cli/pods.h"
#include "cli/runopts.h"
#include "cli/start.h"
#include "cli/target.h"
#include "cli/things.h"

/* ---- members ---- */

int pods_members(struct cli *cli, const char *pod, struct strv *ids, struct err *err)
{
	auto_strv struct strv all = STRV_INIT;
	int r = sandbox_list(cli->root, &all, err);

	for (size_t i = 0; r == 0 && i < all.n; i++) {
		struct sandbox box;
		struct err gone = ERR_INIT;

		if (sandbox_load(cli->root, all.v[i], &box, &gone) < 0)
			continue;
		if (box.config.pod && strcmp(box.config.pod, pod) == 0 &&
			strv_add(ids, box.config.id) < 0)
			r = err_errno(err, ENOMEM, "cannot list what is in the pod");
		sandbox_deinit(&box);
	}
	return r;
}

static int find(struct cli *cli, const char *word, struct sandbox *ret_pod, struct err *err)
{
	int r = target_load(cli, word, ret_pod, err);

	if (r == -ENOENT)
		return err_set(err, ENOENT, "no such pod: %.100s", word);
	if (r == 0 && !ret_pod->config.is_pod)
		return err_set(err, EINVAL, "'%s' is no pod (micropod pod create makes one)", word);
	return r;
}

static json_t *member_json(struct cli *cli, const char *id)
{
	auto_sandbox struct sandbox box = { 0 };
	struct err gone = ERR_INIT;

	if (sandbox_load(cli->root, id, &box, &gone) < 0)
		return NULL;
	return json_pack("{s:s, s:s, s:s}", "Id", box.config.id, "Name", box.config.name, "State",
		target_state(&box));
}

/* ---- create ---- */

#define AT(field) offsetof(struct run_opts, field)
static const struct opt create_opts[] = {
	{ "host-access", 0, OPT_FLAG, AT(host_access), NULL,
		"let it reach this host's loopback as its gateway" },
	{ "ip", 0, OPT_STRING, AT(ip), "ADDRESS", "its IPv4 address on a network with a name" },
	{ "name", 0, OPT_STRING, AT(name), "NAME", "name of the pod (default: made up)" },
	{ "network", 0, OPT_STRING, AT(network), "WHICH", "as with run" },
	{ "network-alias", 0, OPT_LIST, AT(aliases), "NAME",
		"one more name that others on its network find it by" },
	{ "publish", 'p', OPT_LIST, AT(publish), "[IP:]HOST:PORT",
		"make a port of what runs in it reachable on this host" },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "no progress and no notices" },
	{ NULL },
};
#undef AT

static int run_create_verb(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct run_opts opts = *(const struct run_opts *)values;
	char id[ID_LEN + 1];
	int r;

	if (n && opts.name)
		return err_set(
			err, EINVAL, "a pod has one name: '%s' or '%s'", opts.name, words[0]);
	if (n)
		opts.name = words[0];
	r = run_create_pod(cli, &opts, id, err);
	if (r == 0)
		printf("%s\n", id);
	return r;
}

/* ---- ls, inspect ---- */

struct ls {
	bool quiet;
	const char *format;
};

static const struct opt list_opts[] = {
	{ "format", 0, OPT_STRING, offsetof(struct ls, format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "quiet", 'q', OPT_FLAG, offsetof(struct ls, quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const heading[] = { "POD ID", "NAME", "STATUS", "CREATED", "SANDBOXES", NULL };
static const char *const keys[] = { "ID", "Name", "Status", "RunningFor", "Count", NULL };

static int describe(struct cli *cli, const struct sandbox *pod, json_t **ret, struct err *err)
{
	const struct sandbox_config *c = &pod->config;
	auto_strv struct strv ids = STRV_INIT;
	json_t *o, *members = json_array();
	char status[64], span[32], when[40];
	int r = pods_members(cli, c->id, &ids, err);

	for (size_t i = 0; i < ids.n; i++) {
		json_t *one = member_json(cli, ids.v[i]);

		if (one)
			json_array_append_new(members, one);
	}
	o = json_pack("{s:s, s:s%, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "Id", c->id, "ID", c->id,
		(size_t)ID_SHOWN_LEN, "Name", c->name, "State", target_state(pod), "Status",
		target_status(pod, status, sizeof(status)), "Created",
		output_time(c->created_ns, when, sizeof(when)), "RunningFor",
		json_sprintf("%s ago",
			output_duration(clock_realtime() - c->created_ns, span, sizeof(span))),
		"Count", json_sprintf("%zu", json_array_size(members)), "Containers", members);
	*ret = o;
	return r;
}

static int run_list(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct ls *l = values;
	auto_strv struct strv ids = STRV_INIT;
	struct output_rows rows;
	int r = sandbox_list(cli->root, &ids, err);

	if (r < 0)
		return r;
	r = output_rows_begin(&rows, l->quiet ? "{{.ID}}" : l->format, keys, heading, err);
	for (size_t i = 0; r == 0 && i < ids.n; i++) {
		auto_sandbox struct sandbox box = { 0 };
		struct err gone = ERR_INIT;
		json_t *o = NULL;

		if (sandbox_load(cli->root, ids.v[i], &box, &gone) < 0 || !box.config.is_pod)
			continue;
		r = describe(cli, &box, &o, err);
		if (r == 0)
			r = output_rows_add(&rows, o, err);
		else
			json_decref(o);
	}
	output_rows_end(&rows);
	return r;
}

struct inspect {
	const char *format;
};

static const struct opt inspect_opts[] = {
	{ "format", 'f', OPT_STRING, offsetof(struct inspect, format), "FORMAT",
		"how to print: json, or a template such as '{{.State}}'" },
	{ NULL },
};

static int describe_one(struct cli *cli, const char *word, json_t **ret, struct err *err)
{
	auto_sandbox struct sandbox pod = { 0 };
	int r = find(cli, word, &pod, err);

	if (r == 0)
		r = describe(cli, &pod, ret, err);
	if (r < 0)
		return r;
	json_object_del(*ret, "ID");
	json_object_del(*ret, "RunningFor");
	return 0;
}

static int run_inspect(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return things_inspect(
		cli, ((const struct inspect *)values)->format, words, n, describe_one, err);
}

/* ---- start, stop, rm ---- */

static int each(struct cli *cli, const char **words, size_t n,
	int (*fn)(struct cli *cli, const struct sandbox *pod, void *arg, struct err *err),
	void *arg)
{
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		auto_sandbox struct sandbox pod = { 0 };
		struct err why = ERR_INIT;

		if (find(cli, words[i], &pod, &why) == 0 && fn(cli, &pod, arg, &why) == 0) {
			printf("%s\n", words[i]);
		} else {
			cli_complain(&why);
			code = EXIT_MICROPOD;
		}
	}
	return code;
}

static int start_one(struct cli *cli, const char *id, struct err *err)
{
	struct start_opts opts = { .detached = true };
	int r = start_box(cli, id, &opts, err);

	return r == 0 || r == -EALREADY ? 0 : err->code ? -err->code : -EIO;
}

static int start_pod(struct cli *cli, const struct sandbox *pod, void *arg, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	int r = pods_members(cli, pod->config.id, &ids, err);

	if (r == 0)
		r = start_one(cli, pod->config.id, err);
	for (size_t i = 0; r == 0 && i < ids.n; i++)
		r = start_one(cli, ids.v[i], err);
	return r;
}

static int run_start(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return each(cli, words, n, start_pod, NULL);
}

/* First what runs in it, each with its own signal and grace. */
static int stop_pod(struct cli *cli, const struct sandbox *pod, void *arg, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	int r = pods_members(cli, pod->config.id, &ids, err);

	for (size_t i = 0; r == 0 && i < ids.n; i++)
		r = stop_box(cli, ids.v[i], arg, err);
	return r < 0 ? r : stop_box(cli, pod->config.id, arg, err);
}

static const struct opt stop_opts[] = {
	{ "time", 't', OPT_CALL, 0, "SECONDS",
		"before what does not end is killed (default: each its own)",
		.parse = stop_parse_timeout },
	{ NULL },
};

static int run_stop(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct stop_opts opts = *(const struct stop_opts *)values;

	return each(cli, words, n, stop_pod, &opts);
}

int pods_remove(struct cli *cli, const struct sandbox *pod, bool force, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	int r = pods_members(cli, pod->config.id, &ids, err);

	if (r == 0 && ids.n && !force)
		return err_set(err, EBUSY,
			"pod '%s' has %zu sandboxes: remove those first, or give -f",
			pod->config.name, ids.n);
	for (size_t i = 0; r == 0 && i < ids.n; i++)
		r = sandbox_remove(cli->root, ids.v[i], true, err);
	return r < 0 ? r : sandbox_remove(cli->root, pod->config.id, force, err);
}

static int rm_one(struct cli *cli, const struct sandbox *pod, void *arg, struct err *err)
{
	return pods_remove(cli, pod, *(bool *)arg, err);
}

struct rm {
	bool force;
};

static const struct opt rm_opts[] = {
	{ "force", 'f', OPT_FLAG, offsetof(struct rm, force), NULL,
		"kill what runs, and remove the sandboxes in it too" },
	{ NULL },
};

static int run_rm(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	bool force = ((const struct rm *)values)->force;

	return each(cli, words, n, rm_one, &force);
}

#define POD_VERB(verb_name, how, what, table, size, least, most, fn)                           \
	{                                                                                      \
		.name = "pod " verb_name, .remote = VERB_THERE, .usage = how, .summary = what, \
		.opts = table, .values_size = size, .min_words = least, .max_words = most,     \
		.run = fn                                                                      \
	}

const struct verb verb_pod_create = {
	.name = "pod create",
	.remote = VERB_THERE,
	.usage = "[OPTIONS] [NAME]",
	.summary = "Make a VM in which the containers of several sandboxes run",
	.opts = create_opts,
	.values_size = sizeof(struct run_opts),
	.defaults = &run_defaults,
	.settings = true,
	.max_words = 1,
	.run = run_create_verb,
};
const struct verb verb_pod_inspect =
	POD_VERB("inspect", "[OPTIONS] POD...", "Print all that is known of pods, as JSON",
		inspect_opts, sizeof(struct inspect), 1, WORDS_ANY, run_inspect);
const struct verb verb_pod_ls =
	POD_VERB("ls", "[OPTIONS]", "List pods", list_opts, sizeof(struct ls), 0, 0, run_list);
const struct verb verb_pod_rm = POD_VERB(
	"rm", "[OPTIONS] POD...", "Remove pods", rm_opts, sizeof(struct rm), 1, WORDS_ANY, run_rm);
const struct verb verb_pod_start = POD_VERB("start", "POD...",
	"Start pods and the sandboxes in them", NULL, 0, 1, WORDS_ANY, run_start);
const struct verb verb_pod_stop =
	POD_VERB("stop", "[OPTIONS] POD...", "Stop the sandboxes in pods, and the pods", stop_opts,
		sizeof(struct stop_opts), 1, WORDS_ANY, run_stop);
