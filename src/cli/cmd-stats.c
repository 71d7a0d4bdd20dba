/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a round asks each sandbox' agent what its container uses and /proc what the sandbox
 * costs the host; rates come from two rounds. What does not answer within its time is shown with
 * dashes, so that one that hangs does not hide the others.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/boxes.h"
#include "cli/client.h"
#include "cli/output.h"
#include "sandbox/cost.h"

#define ROUND	    NSEC_PER_SEC
#define ANSWER_TIME (2 * NSEC_PER_SEC)

struct stats {
	bool all, no_stream, no_trunc;
	const char *format;
};

#define AT(field) offsetof(struct stats, field)
static const struct opt opts[] = {
	{ "all", 'a', OPT_FLAG, AT(all), NULL, "show all sandboxes, not only those that run" },
	{ "format", 0, OPT_STRING, AT(format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ "no-stream", 0, OPT_FLAG, AT(no_stream), NULL, "print once and leave" },
	{ "no-trunc", 0, OPT_FLAG, AT(no_trunc), NULL, "show ids whole" },
	{ NULL },
};

static const char *const heading[] = { "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT",
	"MEM %", "HOST MEM", "HOST CPU %", "NET I/O", "BLOCK I/O", "PIDS", NULL };
static const char *const keys[] = { "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "HostMem",
	"HostCPUPerc", "NetIO", "BlockIO", "PIDs", NULL };
#define COLUMNS (ARRAY_SIZE(keys) - 1)
static_assert(ARRAY_SIZE(heading) == ARRAY_SIZE(keys), "a key for each column");

/* Of one sandbox at one time. */
struct sample {
	char id[ID_LEN + 1];
	int64_t at, guest_at; /* 0: nothing is known */
	uint64_t cpu_ns;
	struct sandbox_cost cost;
};

struct samples {
	struct sample *v;
	size_t n;
};

/* What the container uses, from the agent. -errno: it does not say. */
static int ask(
	struct cli *cli, const struct sandbox *box, Micropod__Agent__V1__StatsResponse **ret_answer)
{
	Micropod__Agent__V1__StatsRequest req = MICROPOD__AGENT__V1__STATS_REQUEST__INIT;
	auto_client struct client client = { 0 };
	struct err err = ERR_INIT;
	int r = client_open(cli, box, &client, &err);

	req.container_id = client.container;
	return r < 0 ? r
		     : client_unary(&client, AGENT_METHOD("Stats"), &req.base,
			       &micropod__agent__v1__stats_response__descriptor, ANSWER_TIME,
			       (ProtobufCMessage **)ret_answer, NULL, &err);
}

static const struct sample *find(const struct samples *samples, const char *id)
{
	for (size_t i = 0; i < samples->n; i++)
		if (strcmp(samples->v[i].id, id) == 0)
			return &samples->v[i];
	return NULL;
}

static double percent(uint64_t now, uint64_t before, int64_t time)
{
	return time > 0 && now > before ? 100.0 * (double)(now - before) / (double)time : 0;
}

static int add_sizes(
	struct strv *cells, uint64_t a, uint64_t b, const char *(*print)(uint64_t, char *, size_t))
{
	char x[32], y[32];

	return strv_addf(cells, "%s / %s", print(a, x, sizeof(x)), print(b, y, sizeof(y)));
}

static int add_known(struct strv *cells, const struct sandbox *box,
	const Micropod__Agent__V1__StatsResponse *s, const struct sample *now,
	const struct sample *before)
{
	uint64_t limit = s->memory_limit_bytes ? MIN(s->memory_limit_bytes, box->config.memory)
					       : box->config.memory;
	bool two = before && before->at;
	char host[32];

	return strv_addf(cells, "%.2f%%",
		       two && before->guest_at ? percent(now->cpu_ns, before->cpu_ns,
							 now->guest_at - before->guest_at)
					       : 0.0) < 0 ||
			       add_sizes(cells, s->memory_bytes, limit, output_binary_size) < 0 ||
			       strv_addf(cells, "%.2f%%",
				       limit ? 100.0 * (double)s->memory_bytes / (double)limit
					     : 0.0) < 0 ||
			       strv_add(cells, output_binary_size(now->cost.memory_bytes, host,
						       sizeof(host))) < 0 ||
			       strv_addf(cells, "%.2f%%",
				       two ? percent(now->cost.cpu_ns, before->cost.cpu_ns,
						     now->at - before->at)
					   : 0.0) < 0 ||
			       add_sizes(cells, s->net_rx_bytes, s->net_tx_bytes, output_size) <
				       0 ||
			       add_sizes(cells, s->io_read_bytes, s->io_write_bytes, output_size) <
				       0 ||
			       strv_addf(cells, "%llu", (unsigned long long)s->pids) < 0
		       ? -ENOMEM
		       : 0;
}

static int add_unknown(struct strv *cells)
{
	int r = 0;

	for (size_t i = 2; i < COLUMNS && r == 0; i++)
		r = strv_add(cells, "--");
	return r;
}

static int add_row(struct cli *cli, const struct sandbox *box, const struct stats *o,
	const struct samples *before, struct sample *now, struct strv *cells)
{
	Micropod__Agent__V1__StatsResponse *answer = NULL;
	struct err err = ERR_INIT;
	int r;

	memcpy(now->id, box->config.id, sizeof(now->id));
	r = strv_addf(cells, "%.*s", o->no_trunc ? ID_LEN : ID_SHOWN_LEN, box->config.id);
	if (r == 0)
		r = strv_add(cells, box->config.name);
	if (r < 0)
		return r;
	if (!target_alive(box) || ask(cli, box, &answer) < 0)
		return add_unknown(cells);
	if (sandbox_cost(&box->state, &now->cost, &err) == 0)
		now->at = clock_monotonic();
	now->guest_at = answer->time_ns;
	now->cpu_ns = answer->cpu_usage_ns;
	r = add_known(cells, box, answer, now, find(before, box->config.id));
	protobuf_c_message_free_unpacked(&answer->base, NULL);
	return r;
}

/* Those named, or all. */
static int choose(struct cli *cli, const char **words, size_t n, struct strv *ids, struct err *err)
{
	char id[ID_LEN + 1];

	if (!n)
		return boxes_list(cli, ids, err);
	for (size_t i = 0; i < n; i++) {
		int r = boxes_find(cli, words[i], id, err);

		if (r == 0 && strv_add(ids, id) < 0)
			r = err_errno(err, ENOMEM, "cannot look at the sandboxes");
		if (r < 0)
			return r;
	}
	return 0;
}

/* One round over all of them. cells gets a row each. */
static int look(struct cli *cli, const char **words, size_t n, const struct stats *o,
	struct samples *samples, struct strv *cells, struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	struct samples now = { 0 };
	int r = choose(cli, words, n, &ids, err);

	if (r < 0)
		return r;
	now.v = calloc(ids.n + 1, sizeof(*now.v));
	if (!now.v)
		r = err_errno(err, ENOMEM, "cannot look at the sandboxes");
	for (size_t i = 0; i < ids.n && r == 0; i++) {
		auto_sandbox struct sandbox box = { 0 };
		struct err why = ERR_INIT;

		/* Removed meanwhile. */
		if (target_open(cli, ids.v[i], false, &box, &why) < 0)
			continue;
		if ((o->all || n || target_alive(&box)) &&
			add_row(cli, &box, o, samples, &now.v[now.n++], cells) < 0)
			r = err_errno(err, ENOMEM, "cannot look at the sandboxes");
	}
	free(samples->v);
	*samples = now;
	return r;
}

static int show(const struct stats *o, const struct strv *cells, struct err *err)
{
	struct output_rows rows;
	int r = output_rows_begin(&rows, o->format, keys, heading, err);

	for (size_t i = 0; r == 0 && i < cells->n; i += COLUMNS) {
		json_t *row = json_object();

		for (size_t k = 0; k < COLUMNS; k++)
			json_object_set_new(row, keys[k], output_string(cells->v[i + k]));
		r = output_rows_add(&rows, row, err);
	}
	/* Over the last one: home, and what was there is erased. */
	if (r == 0 && rows.columns && !o->no_stream && isatty(STDOUT_FILENO))
		fputs("\033[H\033[J", stdout);
	output_rows_end(&rows);
	fflush(stdout);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct stats *o = values;
	struct samples samples = { 0 };
	int64_t next = clock_monotonic();
	int r = 0;

	/* A rate needs two: the first is not shown. */
	for (unsigned round = 0; r == 0 && !ferror(stdout); round++) {
		auto_strv struct strv cells = STRV_INIT;

		r = look(cli, words, n, o, &samples, &cells, err);
		if (r == 0 && round)
			r = show(o, &cells, err);
		if (round && o->no_stream)
			break;
		next = MAX(next + ROUND, clock_monotonic());
		while (r == 0 && clock_monotonic() < next)
			poll(NULL, 0, deadline_poll_ms(next));
	}
	free(samples.v);
	return r;
}

const struct verb verb_stats = {
	.name = "stats",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] [SANDBOX...]",
	.summary = "Show what sandboxes use, and what they cost this host",
	.opts = opts,
	.values_size = sizeof(struct stats),
	.max_words = WORDS_ANY,
	.run = run,
};
