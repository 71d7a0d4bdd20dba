/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/target.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"
#include "cli/boxes.h"
#include "cli/output.h"

#define ADOPT_TIME 40 /* seconds */

int target_each(struct cli *cli, const char **words, size_t n,
	int (*fn)(struct cli *cli, const char *word, const char *id, void *arg, struct err *err),
	void *arg)
{
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		struct err err = ERR_INIT;
		char id[ID_LEN + 1];
		int r = boxes_find(cli, words[i], id, &err);

		if (r == 0)
			r = fn(cli, words[i], id, arg, &err);
		if (r < 0) {
			cli_complain(&err);
			code = EXIT_MICROPOD;
		}
	}
	return code;
}

int target_load(struct cli *cli, const char *word, struct sandbox *ret_box, struct err *err)
{
	char id[ID_LEN + 1];
	int r = boxes_find(cli, word, id, err);

	return r < 0 ? r : target_open(cli, id, true, ret_box, err);
}

/* Whether the engine has it running: asked by a program that can talk to one. */
static bool engine_runs(struct cli *cli, const char *id)
{
	auto_free char *program = NULL;

	if (sandbox_program("micropod-docker-shim", &program, NULL) == 0) {
		const char *const argv[] = { program, "running", cli->root->path, id, NULL };

		return proc_run(argv, 0, NULL, NULL) == 0;
	}
	return false;
}

int target_open(
	struct cli *cli, const char *id, bool asked, struct sandbox *ret_box, struct err *err)
{
	struct sandbox_start_opts start = { .adopt = true,
		.detached = true,
		.timeout_s = ADOPT_TIME,
		.log_level = LOG_LEVEL_INFO };
	int code, r = boxes_load(cli, id, ret_box, err);
	enum sandbox_phase phase;

	if (r < 0 || !ret_box->config.engine || cli->remote)
		return r;
	phase = ret_box->state.phase;
	if (phase != SANDBOX_DEAD && !(asked && phase == SANDBOX_EXITED))
		return 0;
	if (!engine_runs(cli, id))
		return 0;
	sandbox_deinit(ret_box);
	*ret_box = (struct sandbox){ 0 };
	r = sandbox_start(cli->root, id, &start, &code, err);
	/* Another command line may have been quicker. */
	if (r < 0 && r != -EALREADY)
		return err_wrap(err, "the container runs, and its shim cannot be started again");
	return sandbox_load(cli->root, id, ret_box, err);
}

bool target_alive(const struct sandbox *box)
{
	enum sandbox_phase p = box->state.phase;

	return p == SANDBOX_STARTING || p == SANDBOX_RUNNING || p == SANDBOX_STOPPING ||
	       p == SANDBOX_RESTARTING;
}

const char *target_state(const struct sandbox *box)
{
	return box->state.phase == SANDBOX_RUNNING && box->state.paused
		       ? "paused"
		       : sandbox_phase_name(box->state.phase);
}

const char *target_status(const struct sandbox *box, char *buf, size_t size)
{
	const struct sandbox_state *st = &box->state;
	int64_t now = clock_realtime();
	char span[32];

	switch (st->phase) {
	case SANDBOX_CREATED:
		snprintf(buf, size, "Created");
		break;
	case SANDBOX_STARTING:
		snprintf(buf, size, "Starting");
		break;
	case SANDBOX_STOPPING:
		snprintf(buf, size, "Stopping");
		break;
	case SANDBOX_RUNNING:
		/* A foreground sandbox waits a moment for Start without having a start time. */
		if (st->started_ns)
			snprintf(buf, size, "Up %s%s",
				output_duration(now - st->started_ns, span, sizeof(span)),
				st->paused			       ? " (Paused)"
				: strcmp(st->health, "starting") == 0  ? " (health: starting)"
				: strcmp(st->health, "healthy") == 0   ? " (healthy)"
				: strcmp(st->health, "unhealthy") == 0 ? " (unhealthy)"
								       : "");
		else
			snprintf(buf, size, "Starting");
		break;
	case SANDBOX_RESTARTING:
		snprintf(buf, size, "Restarting (%d) %s ago", st->exit_code,
			output_duration(now - st->finished_ns, span, sizeof(span)));
		break;
	case SANDBOX_EXITED:
		snprintf(buf, size, "Exited (%d) %s ago", st->exit_code,
			output_duration(now - st->finished_ns, span, sizeof(span)));
		break;
	default:
		snprintf(buf, size, "Dead");
		break;
	}
	return buf;
}

void target_ports(const struct sandbox *box, struct strbuf *out)
{
	for (size_t i = 0; i < box->state.n_ports && target_alive(box); i++) {
		const struct sandbox_port *p = &box->state.ports[i];
		bool v6 = strchr(p->host_ip, ':') != NULL;

		strbuf_addf(out, "%s%s%s%s:%u->%u/%s", i ? ", " : "", v6 ? "[" : "",
			p->host_ip[0] ? p->host_ip : "0.0.0.0", v6 ? "]" : "", p->host, p->guest,
			p->udp ? "udp" : "tcp");
	}
}
