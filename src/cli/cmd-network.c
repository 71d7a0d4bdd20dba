/* SPDX-License-Identifier: Apache-2.0 */
/* network create, ls, rm, inspect, prune: those of VMs. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/labels.h"
#include "cli/networks.h"
#include "cli/output.h"
#include "cli/target.h"
#include "cli/things.h"
#include "sandbox/manager.h"
#include "sandbox/network.h"

static json_t *address(uint32_t host, unsigned prefix)
{
	struct in_addr in = { htonl(host) };
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &in, text, sizeof(text));
	return prefix ? json_sprintf("%s/%u", text, prefix) : json_string(text);
}

/* The sandboxes that run on it: {ID: {"Name": ..., "IPv4Address": ...}} */
static json_t *members(struct cli *cli, const struct network *network)
{
	auto_strv struct strv ids = STRV_INIT;
	struct err err = ERR_INIT;
	json_t *o = json_object();

	if (sandbox_list(cli->root, &ids, &err) < 0)
		return o;
	for (size_t i = 0; i < ids.n; i++) {
		struct sandbox box;
		const struct sandbox_config *c = &box.config;

		if (sandbox_load(cli->root, ids.v[i], &box, &err) < 0)
			continue;
		if (target_alive(&box) && network_shared(c) &&
			strcmp(c->network, network->name) == 0)
			json_object_set_new(o, c->id,
				json_pack("{s:s, s:o, s:s, s:s}", "Name", c->name, "MacAddress",
					output_mac(c->mac), "IPv4Address", c->address,
					"IPv6Address", ""));
		sandbox_deinit(&box);
	}
	return o;
}

/* The keys are Docker's. */
static json_t *describe(const struct network *n)
{
	json_t *o = json_object();
	char when[40];

	json_object_set_new(o, "Name", json_string(n->name));
	json_object_set_new(o, "Id", json_string(n->id));
	json_object_set_new(o, "ID", json_stringn(n->id, ID_SHOWN_LEN));
	json_object_set_new(
		o, "Created", json_string(output_time(n->created_ns, when, sizeof(when))));
	json_object_set_new(o, "Scope", json_string("local"));
	json_object_set_new(o, "Driver", json_string(n->bridged ? "bridge" : "user"));
	json_object_set_new(o, "EnableIPv6", json_false());
	json_object_set_new(o, "IPAM",
		json_pack("{s:s, s:[{s:o, s:o}]}", "Driver", "default", "Config", "Subnet",
			address(n->subnet, n->prefix), "Gateway", address(n->subnet + 1, 0)));
	json_object_set_new(o, "Internal", json_boolean(n->internal));
	json_object_set_new(o, "Labels", output_pairs(&n->labels));
	return o;
}

/* create */

struct create {
	const char *driver, *subnet;
	bool internal;
	struct strv labels;
};

#define AT(field) offsetof(struct create, field)
static const struct opt create_opts[] = {
	{ "driver", 'd', OPT_STRING, AT(driver), "DRIVER",
		"user, or bridge (for root): a bridge of this host (default: user)" },
	{ "internal", 0, OPT_FLAG, AT(internal), NULL, "nothing outside of it is reached" },
	{ "label", 0, OPT_LIST, AT(labels), "KEY=VALUE", "note this down with it" },
	{ "subnet", 0, OPT_STRING, AT(subnet), "ADDRESS/BITS",
		"its addresses (default: a free one of 10.89.0.0/16)" },
	{ NULL },
};
#undef AT

static int run_create_network(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct create *c = values;
	bool bridged = c->driver && strcmp(c->driver, "bridge") == 0;
	int r = labels_check(&c->labels, err);

	if (r == 0 && c->driver && !bridged && strcmp(c->driver, "user") != 0)
		return err_set(err, ENOTSUP, "option '--driver' is '%.100s': give user or bridge",
			c->driver);
	if (r == 0)
		r = network_create(
			cli->root, words[0], c->subnet, c->internal, bridged, &c->labels, err);
	if (r == 0)
		printf("%s\n", words[0]);
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
	{ "filter", 'f', OPT_LIST, AT(filters), "KEY=VALUE",
		"only these: id, name, label, dangling" },
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "print ids only" },
	{ NULL },
};

static const char *const heading[] = { "NETWORK ID", "NAME", "DRIVER", "SCOPE", NULL };
static const char *const keys[] = { "ID", "Name", "Driver", "Scope", NULL };

static int check_filters(const struct strv *filters, struct err *err)
{
	static const char *const known[] = { "id=", "name=", "label=" };

	for (size_t i = 0; i < filters->n; i++) {
		const char *f = filters->v[i];
		bool ok = strcmp(f, "dangling=true") == 0 || strcmp(f, "dangling=false") == 0;

		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			ok |= strncmp(f, known[k], strlen(known[k])) == 0;
		if (!ok)
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': give id=, name=, label=, "
				"dangling=true or dangling=false",
				f);
	}
	return 0;
}

static bool passes(struct cli *cli, const struct network *n, const struct strv *filters)
{
	char by[LIMIT_NAME + 1];

	for (size_t i = 0; i < filters->n; i++) {
		const char *f = filters->v[i];

		if ((strncmp(f, "id=", 3) == 0 && strncmp(n->id, f + 3, strlen(f + 3)) != 0) ||
			(strncmp(f, "name=", 5) == 0 && !strstr(n->name, f + 5)) ||
			(strncmp(f, "label=", 6) == 0 && !labels_have(&n->labels, f + 6)) ||
			(strncmp(f, "dangling=", 9) == 0 &&
				network_used(cli->root, n->name, by) == (f[9] == 't')))
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
		r = network_list(cli->root, &names, err);
	if (r < 0)
		return r;
	r = output_rows_begin(&rows, l->quiet ? "{{.ID}}" : l->format, keys, heading, err);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		auto_network struct network network = { 0 };
		struct err gone = ERR_INIT;

		if (network_load(cli->root, names.v[i], &network, &gone) == 0 &&
			passes(cli, &network, &l->filters))
			r = output_rows_add(&rows, describe(&network), err);
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
	return things_remove(cli, words, n, ((const struct rm *)values)->force, network_remove);
}

/* inspect */

struct inspect {
	const char *format;
};

static const struct opt inspect_opts[] = {
	{ "format", 'f', OPT_STRING, offsetof(struct inspect, format), "FORMAT",
		"how to print: json, or a template such as '{{.Internal}}'" },
	{ NULL },
};

static int describe_one(struct cli *cli, const char *word, json_t **ret, struct err *err)
{
	auto_network struct network network = { 0 };
	int r = network_load(cli->root, word, &network, err);

	if (r < 0)
		return r;
	*ret = describe(&network);
	json_object_del(*ret, "ID");
	json_object_set_new(*ret, "Containers", members(cli, &network));
	return 0;
}

static int run_inspect(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return things_inspect(
		cli, ((const struct inspect *)values)->format, words, n, describe_one, err);
}

/* prune */

struct prune {
	bool force;
};

static const struct opt prune_opts[] = {
	{ "force", 'f', OPT_FLAG, offsetof(struct prune, force), NULL, "do not ask" },
	{ NULL },
};

int networks_prune(struct cli *cli, struct err *err)
{
	return things_prune(cli, "network", network_list, network_used, network_remove, err);
}

static int run_prune(
	struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	return ((const struct prune *)values)->force ||
			       cli_confirm("This removes all networks that no sandbox uses.")
		       ? networks_prune(cli, err)
		       : 0;
}

#define NETWORK_VERB(verb_name, how, what, table, size, least, most, fn)                           \
	{                                                                                          \
		.name = "network " verb_name, .remote = VERB_THERE, .usage = how, .summary = what, \
		.opts = table, .values_size = size, .min_words = least, .max_words = most,         \
		.run = fn                                                                          \
	}

const struct verb verb_network_create = NETWORK_VERB("create", "[OPTIONS] NETWORK",
	"Make a network on which sandboxes find each other by name", create_opts,
	sizeof(struct create), 1, 1, run_create_network);
const struct verb verb_network_inspect = NETWORK_VERB("inspect", "[OPTIONS] NETWORK...",
	"Print all that is known of networks, as JSON", inspect_opts, sizeof(struct inspect), 1,
	WORDS_ANY, run_inspect);
const struct verb verb_network_ls = NETWORK_VERB(
	"ls", "[OPTIONS]", "List networks", list_opts, sizeof(struct ls), 0, 0, run_list);
const struct verb verb_network_prune = NETWORK_VERB("prune", "[OPTIONS]",
	"Remove networks that no sandbox uses", prune_opts, sizeof(struct prune), 0, 0, run_prune);
const struct verb verb_network_rm = NETWORK_VERB("rm", "[OPTIONS] NETWORK...", "Remove networks",
	rm_opts, sizeof(struct rm), 1, WORDS_ANY, run_rm);
