/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a sandbox, changed while it runs or for its next start. How it works: the options are
 * read as those of `run` are, into the same struct, and what was given is put over what is there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/container.h"
#include "cli/target.h"

struct update {
	struct run_opts o;
	uint64_t memory, cpu_milli;
};

#define AT(field) offsetof(struct update, field)
static const struct opt opts[] = {
	{ "cpu-period", 0, OPT_UINT, AT(o.cpu_period), "MICROSECONDS",
		"what --cpu-quota is of (default: 100000)", .min = 1000, .max = 1000000 },
	{ "cpu-quota", 0, OPT_UINT, AT(o.cpu_quota), "MICROSECONDS",
		"CPU time of each --cpu-period, in place of --cpus", .min = 1000,
		.max = 100000000 },
	{ "cpu-shares", 'c', OPT_UINT, AT(o.cpu_shares), "SHARES",
		"its weight where CPUs are short: 2 to 262144, others have 1024", .min = 2,
		.max = 262144 },
	{ "cpus", 0, OPT_MILLI, AT(cpu_milli), "N", "CPUs, such as 0.5 or 2" },
	{ "cpuset-cpus", 0, OPT_STRING, AT(o.cpuset), "CPUS",
		"CPUs that it runs on, such as 0-1,3" },
	{ "memory", 'm', OPT_SIZE, AT(memory), "SIZE", "memory of the sandbox, such as 512m" },
	{ "memory-swap", 0, OPT_STRING, AT(o.memory_swap), "SIZE",
		"memory and swap together, -1: no limit (a VM has no swap)" },
	{ "pids-limit", 0, OPT_STRING, AT(o.pids_limit), "N",
		"processes it may have at once, -1: no limit" },
	{ "restart", 0, OPT_STRING, AT(o.restart), "POLICY",
		"start it again when it has ended: no, on-failure[:TIMES], always, "
		"unless-stopped" },
	{ NULL },
};

/* What the options say of a sandbox that exists. */
static int read_limits(struct cli *cli, const struct update *u, const struct sandbox *box,
	Micropod__Sandbox__V1__UpdateRequest *req, struct sandbox_config *c, struct err *err)
{
	struct run_opts o = u->o;
	int r;

	o.remove = box->config.remove;
	cli->settings.memory = u->memory ? u->memory : box->config.memory;
	cli->settings.cpu_milli = u->cpu_milli;
	r = container_set_limits(cli, &o, c, err);
	if (r == 0)
		r = container_set_restart(&o, c, err);
	if (r < 0)
		return r;
	req->memory_bytes = u->memory;
	req->memory_swap_bytes = c->memory_swap;
	req->cpu_milli = cli->settings.cpu_milli;
	req->cpu_shares = c->cpu_shares;
	req->cpuset = c->cpuset ? c->cpuset : (char *)"";
	req->pids = c->pids_limit;
	if (u->o.restart)
		req->restart = c->restart ? c->restart : (char *)"no";
	req->restart_max = c->restart_max;
	return 0;
}

static int replace(char **field, const char *value)
{
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

/* One that does not run: for its next start. */
static int write_down(struct cli *cli, struct sandbox_config *c,
	const Micropod__Sandbox__V1__UpdateRequest *req, struct err *err)
{
	auto_close int lock = sandbox_lock(cli->root, c->id, err);
	int r = 0;

	if (lock < 0)
		return lock;
	if (req->memory_bytes)
		c->memory = req->memory_bytes;
	if (req->memory_swap_bytes)
		c->memory_swap = req->memory_swap_bytes;
	if (req->cpu_milli)
		c->cpu_milli = req->cpu_milli;
	if (req->cpu_shares)
		c->cpu_shares = req->cpu_shares;
	if (req->pids)
		c->pids_limit = req->pids;
	if (*req->cpuset)
		r = replace(&c->cpuset, req->cpuset);
	if (r == 0 && *req->restart) {
		c->restart_max = req->restart_max;
		r = replace(&c->restart, strcmp(req->restart, "no") == 0 ? NULL : req->restart);
	}
	if (r < 0)
		return err_errno(err, -r, "cannot change sandbox '%s'", c->name);
	if (!c->engine)
		r = container_check_cpus(c, (unsigned)((c->cpu_milli + 999) / 1000), err);
	return r < 0 ? r : sandbox_save_config(cli->root, c, err);
}

static bool changes_limits(const Micropod__Sandbox__V1__UpdateRequest *req)
{
	return req->memory_bytes || req->memory_swap_bytes || req->cpu_milli || req->cpu_shares ||
	       req->pids || *req->cpuset;
}

static int update_one(struct cli *cli, const char *word, const char *id, void *arg, struct err *err)
{
	Micropod__Sandbox__V1__UpdateRequest req = MICROPOD__SANDBOX__V1__UPDATE_REQUEST__INIT;
	struct sandbox_config wanted = { 0 };
	auto_client struct client client = { 0 };
	auto_sandbox struct sandbox box = { 0 };
	int r = target_open(cli, id, true, &box, err);

	if (r == 0 && !box.config.engine && ((const struct update *)arg)->memory)
		r = run_check_memory(((const struct update *)arg)->memory, err);
	if (r == 0)
		r = read_limits(cli, arg, &box, &req, &wanted, err);
	if (r == 0 && !target_alive(&box) && box.config.engine && changes_limits(&req)) {
		r = err_set(err, EINVAL,
			"the limits of sandbox '%s' are its engine's, and are changed while it "
			"runs: start it first",
			word);
	} else if (r == 0 && !target_alive(&box)) {
		r = write_down(cli, &box.config, &req, err);
	} else if (r == 0) {
		r = client_open(cli, &box, &client, err);
		if (r == 0)
			r = client_unary(&client, SANDBOX_METHOD("Update"), &req.base,
				&micropod__sandbox__v1__update_response__descriptor,
				CLIENT_CALL_TIME, NULL, NULL, err);
	}
	sandbox_config_deinit(&wanted);
	if (r == 0)
		printf("%s\n", word);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct update u = *(const struct update *)values;

	return target_each(cli, words, n, update_one, &u);
}

const struct verb verb_update = {
	.name = "update",
	.remote = VERB_BY_SANDBOX,
	.usage = "[OPTIONS] SANDBOX...",
	.summary = "Change limits of sandboxes",
	.opts = opts,
	.values_size = sizeof(struct update),
	.min_words = 1,
	.max_words = WORDS_ANY,
	.run = run,
};
