/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/client.h"
#include "cli/output.h"

struct top {
	const char *format;
};

static const struct opt opts[] = {
	{ "format", 0, OPT_STRING, offsetof(struct top, format), "FORMAT", OUTPUT_FORMAT_HELP },
	{ NULL },
};

/* As ps -ef has them, which is what Docker shows. */
static const char *const heading[] = { "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD",
	NULL };
#define COLUMNS (ARRAY_SIZE(heading) - 1)

/* Of the last hours the time of day, else the day. */
static void add_start(struct strv *cells, int64_t started_ns)
{
	time_t t = (time_t)(started_ns / NSEC_PER_SEC);
	bool today = clock_realtime() - started_ns < 24 * 3600 * NSEC_PER_SEC;
	struct tm tm;
	char text[16];

	localtime_r(&t, &tm);
	strftime(text, sizeof(text), today ? "%H:%M" : "%b%d", &tm);
	(void)strv_add(cells, text);
}

/* Minor number in two parts (makedev(3)): 136 and on are pts/0 and on, 4:64 and on ttyS0 and on. */
static void add_terminal(struct strv *cells, uint32_t number)
{
	unsigned major = number >> 8 & 0xfff, minor = (number & 0xff) | (number >> 12 & 0xfff00);

	if (!number)
		(void)strv_add(cells, "?");
	else if (major >= 136 && major < 144)
		(void)strv_addf(cells, "pts/%u", (major - 136) * 256 + minor);
	else if (major == 5 && minor == 1)
		(void)strv_add(cells, "console");
	else if (major == 4)
		(void)strv_addf(
			cells, minor < 64 ? "tty%u" : "ttyS%u", minor < 64 ? minor : minor - 64);
	else
		(void)strv_addf(cells, "%u:%u", major, minor);
}

static void add_command(struct strv *cells, const Micropod__Agent__V1__Task *t)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;

	if (!t->n_args)
		strbuf_addf(&out, "[%.*s]", (int)t->name.len, (const char *)t->name.data);
	for (size_t i = 0; i < t->n_args; i++)
		strbuf_addf(&out, "%s%.*s", i ? " " : "", (int)t->args[i].len,
			(const char *)t->args[i].data);
	/* What a program calls itself does not steer the terminal. */
	for (size_t i = 0; i < out.len; i++)
		if ((unsigned char)out.data[i] < 0x20 || out.data[i] == 0x7f)
			out.data[i] = '?';
	(void)strv_add(cells, out.data ? out.data : "");
}

static void add_task(struct strv *cells, const Micropod__Agent__V1__Task *t)
{
	int64_t age = clock_realtime() - t->started_ns, seconds = t->cpu_ns / NSEC_PER_SEC;

	(void)strv_addf(cells, "%u", t->uid);
	(void)strv_addf(cells, "%u", t->pid);
	(void)strv_addf(cells, "%u", t->parent);
	(void)strv_addf(
		cells, "%d", age > 0 ? (int)MIN((double)t->cpu_ns * 100 / (double)age, 99) : 0);
	add_start(cells, t->started_ns);
	add_terminal(cells, t->terminal);
	(void)strv_addf(cells, "%02lld:%02lld:%02lld", (long long)(seconds / 3600),
		(long long)(seconds / 60 % 60), (long long)(seconds % 60));
	add_command(cells, t);
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	Micropod__Agent__V1__ListTasksRequest req = MICROPOD__AGENT__V1__LIST_TASKS_REQUEST__INIT;
	const struct top *top = values;
	const Micropod__Agent__V1__ListTasksResponse *list;
	auto_client struct client client = { 0 };
	auto_sandbox struct sandbox box = { 0 };
	auto_strv struct strv cells = STRV_INIT;
	ProtobufCMessage *answer = NULL;
	struct output_rows rows;
	int r = target_load(cli, words[0], &box, err);

	if (r == 0)
		r = client_open(cli, &box, &client, err);
	req.container_id = client.container;
	if (r == 0)
		r = client_unary(&client, AGENT_METHOD("ListTasks"), &req.base,
			&micropod__agent__v1__list_tasks_response__descriptor, CLIENT_CALL_TIME,
			&answer, NULL, err);
	if (r < 0)
		return r;
	list = (const Micropod__Agent__V1__ListTasksResponse *)answer;
	for (size_t i = 0; i < list->n_tasks; i++)
		add_task(&cells, list->tasks[i]);
	if (list->cut)
		fprintf(stderr, "micropod: there are more processes than %zu, which are shown\n",
			list->n_tasks);
	protobuf_c_message_free_unpacked(answer, NULL);
	if (cells.n % COLUMNS)
		return err_errno(err, ENOMEM, "cannot list the processes");
	r = output_rows_begin(&rows, top->format, heading, heading, err);
	for (size_t i = 0; r == 0 && i < cells.n; i += COLUMNS) {
		json_t *o = json_object();

		for (size_t k = 0; k < COLUMNS; k++)
			json_object_set_new(o, heading[k], output_string(cells.v[i + k]));
		r = output_rows_add(&rows, o, err);
	}
	output_rows_end(&rows);
	return r;
}

const struct verb verb_top = {
	.name = "top",
	.remote = VERB_HERE,
	.usage = "[OPTIONS] SANDBOX",
	.summary = "List the processes of a running sandbox",
	.opts = opts,
	.values_size = sizeof(struct top),
	.min_words = 1,
	.max_words = 1,
	.run = run,
};
