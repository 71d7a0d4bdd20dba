/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/trace.h"
#include "cli/boxes.h"
#include "cli/console.h"
#include "cli/relay.h"
#include "cli/remote.h"
#include "cli/term.h"
#include "oci/signal.h"

#define STOP_SPARE                                                                                \
	(60 * NSEC_PER_SEC) /* beyond the grace: for the kill, the guest's shutdown, the VM's end \
			     */

#define START_TIME     60 /* seconds: an emulated guest on a busy host */
#define START_TIME_MAX 86400

static enum log_level shim_level(void)
{
	return log_enabled(LOG_LEVEL_DEBUG) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

static int attach(struct cli *cli, const char *id, struct start_opts *opts,
	const struct detach_keys *keys, struct err *err)
{
	struct relay_opts relay = { .sig_proxy = opts->sig_proxy, .keys = *keys };
	struct sandbox box;
	int code = boxes_load(cli, id, &box, err);

	if (code < 0)
		return code;
	relay.input = opts->input && box.config.open_stdin;
	code = relay_attach(cli, &box, &relay, err);
	opts->started = relay.started;
	opts->left = relay.left;
	sandbox_deinit(&box);
	return code;
}

static int start_time(unsigned *ret_seconds, struct err *err)
{
	const char *value = getenv("MICROPOD_START_TIMEOUT");

	*ret_seconds = START_TIME;
	if (!value || !*value || parse_uint(value, 1, START_TIME_MAX, ret_seconds) == 0)
		return 0;
	return err_set(err, EINVAL,
		"variable MICROPOD_START_TIMEOUT is '%.100s': give seconds, from 1 to %d", value,
		START_TIME_MAX);
}

static void show_notice(const char *text)
{
	fprintf(stderr, "micropod: %s\n", text);
}

/* By the host that has it. Whoever reads along comes next: it waits for that. */
static int start_there(struct cli *cli, const char *id, const struct start_opts *opts,
	const struct sandbox_start_opts *start, struct err *err)
{
	const char *host = remote_host(cli->remote, id);
	auto_strbuf struct strbuf out = STRBUF_INIT;
	auto_strv struct strv args = STRV_INIT;
	int r = strv_add(&args, "start");

	if (r == 0 && !opts->detached)
		r = strv_add(&args, "--awaited");
	if (r == 0 && start->rows)
		r = strv_addf(&args, "--window=%ux%u", start->rows, start->columns);
	if (r == 0)
		r = strv_add(&args, id);
	if (r < 0)
		return err_errno(err, -r, "cannot start the sandbox");
	return remote_command(cli->remote, host, &args, &out, err);
}

/* The pod of a sandbox runs before it does. */
static int start_pod(struct cli *cli, const char *id, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 }, pod = { 0 };
	struct start_opts opts = { .detached = true };
	int r = sandbox_load(cli->root, id, &box, err);

	if (r < 0 || !box.config.pod)
		return r;
	r = sandbox_load(cli->root, box.config.pod, &pod, err);
	if (r == -ENOENT)
		return err_set(err, ENOENT, "the pod of sandbox '%s' is gone", box.config.name);
	if (r < 0 || target_alive(&pod))
		return r;
	r = start_box(cli, box.config.pod, &opts, err);
	return r == -EALREADY ? 0 : r;
}

int start_box(struct cli *cli, const char *id, struct start_opts *opts, struct err *err)
{
	struct sandbox_start_opts start = {
		.detached = opts->detached, .log_level = shim_level(), .notice = show_notice
	};
	int code = EXIT_MICROPOD, r = start_time(&start.timeout_s, err);
	struct detach_keys keys;
	uint32_t rows, columns;

	opts->started = opts->left = false;
	if (r == 0)
		r = detach_keys_parse(
			opts->detach_keys ? opts->detach_keys : DETACH_KEYS_DEFAULT, &keys, err);
	if (r < 0)
		return r;
	start.rows = opts->rows;
	start.columns = opts->columns;
	if (!opts->detached && !opts->awaited && term_size(&rows, &columns)) {
		start.rows = rows;
		start.columns = columns;
	}
	if (cli->remote) {
		r = start_there(cli, id, opts, &start, err);
		if (r != 0)
			return r;
		if (!opts->detached)
			return attach(cli, id, opts, &keys, err);
		opts->started = true;
		return 0;
	}
	r = start_pod(cli, id, err);
	if (r != 0)
		return r;
	r = sandbox_start(cli->root, id, &start, &code, err);
	trace_step("verdict heard");
	if (r < 0 && code == EXIT_MICROPOD && r != -EALREADY)
		console_show_tail(cli->root, id, stderr);
	if (r < 0)
		return r == -EALREADY ? r : code;
	if (!opts->detached && !opts->awaited)
		return attach(cli, id, opts, &keys, err);
	opts->started = true;
	return 0;
}

int stop_parse_timeout(const char *value, void *field, struct err *err)
{
	struct stop_opts *o = field;

	o->timeout_set = true;
	o->timeout_ns = -1;
	if (strcmp(value, "-1") == 0)
		return 0;
	return parse_duration(value, &o->timeout_ns) < 0
		       ? err_set(err, EINVAL, "give seconds, or -1 to wait for ever")
		       : 0;
}

int stop_check_signal(const char *word, struct err *err)
{
	int number;

	if (!word || oci_signal_parse(word, &number) == 0)
		return 0;
	return err_set(err, EINVAL,
		"option '--signal' is '%.100s': give a signal's name or number, such as TERM",
		word);
}

static int stop_running(
	struct cli *cli, const struct sandbox *box, const struct stop_opts *o, struct err *err)
{
	Micropod__Sandbox__V1__StopRequest req = MICROPOD__SANDBOX__V1__STOP_REQUEST__INIT;
	auto_client struct client client = { 0 };
	int64_t grace = o->timeout_set ? o->timeout_ns : box->config.stop_grace_ns;
	int r = client_open(cli, box, &client, err);

	if (r < 0)
		return r;
	req.signal = (char *)(o->signal ? o->signal : "");
	req.grace_ns = grace;
	return client_unary(&client, SANDBOX_METHOD("Stop"), &req.base,
		&micropod__sandbox__v1__stop_response__descriptor,
		grace < 0 ? 0 : grace + STOP_SPARE, NULL, NULL, err);
}

int stop_box(struct cli *cli, const char *id, const struct stop_opts *opts, struct err *err)
{
	struct err lost = ERR_INIT;
	struct sandbox box;
	int r = target_open(cli, id, true, &box, err);

	if (r < 0)
		return r;
	if (box.state.phase == SANDBOX_DEAD)
		r = client_not_running(&box, err);
	else if (target_alive(&box))
		r = stop_running(cli, &box, opts, &lost);
	/* The host's part, there. */
	if (cli->remote && lost.code)
		r = err_set(err, lost.code, "%s", lost.msg);
	else if (cli->remote)
		;
	/* It may have ended by itself meanwhile; only what is on the disk counts. */
	else if (lost.code) {
		r = sandbox_wait_gone(
			cli->root, id, deadline_in(lost.code == ETIMEDOUT ? 0 : START_REMOVE_TIME));
		if (r == -ETIMEDOUT)
			r = err_set(err, lost.code,
				"%.400s: remove it by force (micropod rm -f %s)", lost.msg,
				box.config.name);
	} else if (r == 0 && target_alive(&box)) {
		r = sandbox_wait_gone(cli->root, id, deadline_in(START_REMOVE_TIME));
		if (r < 0)
			err_errno(err, -r, "sandbox '%s' has stopped, but its shim does not end",
				box.config.name);
	}
	sandbox_deinit(&box);
	return r;
}
