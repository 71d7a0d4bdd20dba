/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start: the container is made (once), the agent put into it, the token armed, the container
 * started; the program runs from then, and the sandbox is ready when the agent has registered and
 * answered. From the start on the engine is asked to tell of the container's end, whatever brings
 * it about.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/trace.h"
#include "driver/docker/host.h"
#include "http/http.h"
#include "sandbox/events.h"
#include "shim/docker.h"

#define CALL_TIME  (60 * NSEC_PER_SEC)
#define WORDS_TIME (10 * NSEC_PER_SEC)
#define WORDS_MAX  2048

static struct docker *docker_of(const struct shim *shim)
{
	return shim->backend_data;
}

void docker_ask(struct docker *d, const char *method, const char *before, const char *after,
	json_t *body, int64_t timeout, engine_done done)
{
	auto_free char *path = NULL;
	struct engine_request request = {
		.method = method, .body = body, .timeout = timeout, .done = done, .arg = d
	};
	struct err err = ERR_INIT;
	int r = -ENOMEM;

	if (asprintf(&path, "%s%s%s", before, d->record.container, after) < 0) {
		path = NULL;
		json_decref(body);
	} else {
		request.path = path;
		r = engine_send(d->engine, &request);
	}
	if (r < 0) {
		err_errno(&err, -r, "cannot ask the engine");
		done(d, NULL, &err);
	}
}

static void fail(struct docker *d, const char *phase, const struct err *why)
{
	struct err err = *why;

	err_wrap(&err, "%s", phase);
	shim_fail(d->shim, 125, &err);
}

/* Once: whoever hears of it first. */
static void tell_gone(struct docker *d, const char *why)
{
	if (d->gone)
		return;
	d->gone = true;
	shim_gone(d->shim, "the container", why);
}

/* The end of the container */

static int on_words(void *arg, const char *data, size_t len)
{
	struct docker *d = arg;

	strbuf_add(&d->words, data, len);
	return d->words.len > WORDS_MAX ? -EMSGSIZE : 0;
}

/* The last line of a multiplexed stream: frames of eight bytes of head, the length in the last four
 * (docs.docker.com/reference/api/engine, attach). */
static void last_line(const struct docker *d, char *out, size_t size)
{
	auto_strbuf struct strbuf text = STRBUF_INIT;
	const uint8_t *p = (const uint8_t *)d->words.data;
	size_t left = d->words.len, end;

	while (left >= 8 && p[0] <= 2) {
		size_t n = (size_t)p[4] << 24 | (size_t)p[5] << 16 | (size_t)p[6] << 8 | p[7];

		n = MIN(n, left - 8);
		strbuf_add(&text, p + 8, n);
		p += 8 + n;
		left -= 8 + n;
	}
	strbuf_add(&text, left ? (const void *)p : "", left);
	end = text.data ? text.len : 0;
	while (end && (text.data[end - 1] == '\n' || text.data[end - 1] == '\r'))
		end--;
	left = end;
	while (left && text.data[left - 1] != '\n')
		left--;
	snprintf(out, size, "%.*s", (int)(end - left), text.data ? text.data + left : "");
}

static void on_all_words(void *arg, json_t *answer, const struct err *ignored)
{
	struct docker *d = arg;
	struct err err = ERR_INIT;
	char line[256];
	/* As the agent has it: what could not be executed, and what was not found. */
	bool known = d->exit_code == 126 || d->exit_code == 127;

	if (d->shim->ending)
		return;
	last_line(d, line, sizeof(line));
	err_set(&err, d->exit_code == 127 ? ENOENT : EIO,
		"the container ended with %d before its agent had registered%s%s", d->exit_code,
		line[0] ? ": " : "", line);
	shim_fail(d->shim, known ? d->exit_code : 125, &err);
}

static void ask_for_words(struct docker *d)
{
	auto_free char *path = NULL;
	struct engine_request request = { .method = "GET",
		.timeout = WORDS_TIME,
		.part = on_words,
		.done = on_all_words,
		.arg = d };
	struct err err = ERR_INIT;

	if (asprintf(&path, "/containers/%s/logs?stdout=1&stderr=1&tail=5", d->record.container) <
		0)
		path = NULL;
	request.path = path;
	if (!path || engine_send(d->engine, &request) < 0) {
		err_errno(&err, ENOMEM, "cannot ask the engine");
		on_all_words(d, NULL, &err);
	}
}

static void on_ended_state(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	const json_t *state = json_object_get(answer, "State");
	Micropod__Agent__V1__Exit exit = MICROPOD__AGENT__V1__EXIT__INIT;

	if (d->shim->ending)
		return;
	/* Its agent had no time to tell: killed from outside, or out of memory. */
	d->shim->gone = true;
	exit.code = d->exit_code;
	exit.oom_killed = json_is_true(json_object_get(state, "OOMKilled"));
	d->exit = exit;
	d->exit_known = true;
	if (!d->log.open)
		shim_container_exited(d->shim, &exit);
}

void docker_on_log_end(struct docker *d)
{
	if (!d->shim->ending && d->exit_known)
		shim_container_exited(d->shim, &d->exit);
}

static void on_exited(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	const json_t *code = json_object_get(answer, "StatusCode");

	if (d->removing)
		return; /* on_removed() tells */
	if (err) {
		/* Without the engine nobody can tell what the container does. */
		log_error("%s", err->msg);
		d->running = err->code != ENOENT;
		if (!d->shim->ending)
			shim_lost(d->shim, err->msg);
		else
			tell_gone(d, err->msg);
		return;
	}
	d->running = false;
	d->exit_code = (int)json_integer_value(code);
	log_info("the container has ended code=%d", d->exit_code);
	if (d->shim->ending)
		tell_gone(d, "as it should");
	else if (!d->shim->started)
		ask_for_words(d);
	else
		docker_ask(d, "GET", "/containers/", "/json", NULL, CALL_TIME, on_ended_state);
}

/* Start, in the order of its steps from the end */

static void be_started(struct shim *shim)
{
	shim->started = true;
	if (!shim->box.state.started_ns)
		shim->box.state.started_ns = clock_realtime();
	shim_limits_start(shim);
	shim->box.state.phase = SANDBOX_RUNNING;
	shim_save_state(shim);
	if (!shim->adopt)
		sandbox_event(shim->root, &shim->box.config, "start", NULL, NULL);
	shim_verdict(shim, 0, NULL);
}

static void on_info(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	const Micropod__Agent__V1__InfoResponse *info =
		(const Micropod__Agent__V1__InfoResponse *)answer;
	struct err err = ERR_INIT;

	if (shim->ending)
		return;
	if (!info) {
		rpc_status_to_err(status, &err);
		fail(docker_of(shim), "the agent has registered and does not answer", &err);
		return;
	}
	free(shim->agent_version);
	free(shim->runtime);
	free(shim->kernel);
	shim->agent_version = strdup(info->agent_version);
	shim->runtime = strdup("docker");
	shim->kernel = strdup(info->kernel);
	shim->api_generation = info->api_generation;
	loop_timer_disarm(&shim->timer);
	be_started(shim);
	shim_attach(shim);
}

static void on_resized(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	if (!answer)
		log_warning("cannot set the terminal's size: %s", status->message);
}

static void set_size(struct shim *shim)
{
	Micropod__Agent__V1__ResizeRequest req = MICROPOD__AGENT__V1__RESIZE_REQUEST__INIT;
	Micropod__Agent__V1__WindowSize size = MICROPOD__AGENT__V1__WINDOW_SIZE__INIT;

	size.rows = shim->rows;
	size.columns = shim->columns;
	req.container_id = (char *)SANDBOX_CONTAINER_ID;
	req.window = &size;
	shim_agent_call(shim, "Resize", &req.base,
		&micropod__agent__v1__resize_response__descriptor, SHIM_CALL_DEADLINE, on_resized);
}

void docker_on_session(struct docker *d)
{
	Micropod__Agent__V1__InfoRequest req = MICROPOD__AGENT__V1__INFO_REQUEST__INIT;
	struct shim *shim = d->shim;
	struct err err = ERR_INIT;

	if (shim->ending)
		return;
	trace_step("agent registered");
	if (shim->offsets_fd < 0 && shim_keep_offsets(shim, d->same_run, &err) < 0)
		log_error("%s", err.msg);
	if (shim->started) {
		log_warning("the session with the agent is up again");
		shim_attach(shim);
		return;
	}
	if (shim->box.config.tty && shim->rows && shim->columns)
		set_size(shim);
	shim_agent_call(shim, "Info", &req.base, &micropod__agent__v1__info_response__descriptor,
		SHIM_CALL_DEADLINE, on_info);
}

static void on_no_agent(struct loop_timer *timer)
{
	struct docker *d = docker_of(container_of(timer, struct shim, timer));
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT, "the agent did not register in time%s",
		d->refused ? ": somebody else has used its token" : "");
	fail(d, "the container runs", &err);
}

/* Without an agent to wait for. */
static void be_ready(struct docker *d)
{
	struct shim *shim = d->shim;
	struct err err = ERR_INIT;

	d->running = true;
	docker_ask(d, "POST", "/containers/", "/wait", NULL, 0, on_exited);
	loop_timer_disarm(&shim->timer);
	free(shim->runtime);
	shim->runtime = strdup("docker");
	/* The engine's log has every run of the container. */
	if (shim_keep_offsets(shim, !d->made, &err) < 0)
		log_error("%s", err.msg);
	if (docker_logs_follow(d) < 0)
		log_error("out of memory: the container's output is not kept");
	be_started(shim);
}

static void await_agent(struct docker *d)
{
	if (d->direct) {
		be_ready(d);
		return;
	}
	d->running = true;
	loop_timer_arm(d->shim->loop, &d->shim->timer,
		MIN(d->shim->start_deadline, deadline_in(DOCKER_ARMED_TIME)), on_no_agent);
	docker_ask(d, "POST", "/containers/", "/wait", NULL, 0, on_exited);
	docker_tunnel_want(d);
}

/* The ports as they were bound. */
static void keep_ports(struct docker *d, const json_t *inspected)
{
	const json_t *ports =
		json_object_get(json_object_get(inspected, "NetworkSettings"), "Ports");
	const struct sandbox_config *c = &d->shim->box.config;
	struct sandbox_state *st = &d->shim->box.state;

	free(st->ports);
	st->n_ports = 0;
	st->ports = calloc(c->n_ports + 1, sizeof(*st->ports));
	for (size_t i = 0; st->ports && i < c->n_ports; i++) {
		const json_t *bound;
		const char *host;
		char key[32];

		snprintf(key, sizeof(key), "%u/%s", c->ports[i].guest,
			c->ports[i].udp ? "udp" : "tcp");
		bound = json_array_get(json_object_get(ports, key), 0);
		host = json_string_value(json_object_get(bound, "HostPort"));
		st->ports[i] = c->ports[i];
		if (!st->ports[i].host && host)
			st->ports[i].host = (uint16_t)strtoul(host, NULL, 10);
		st->n_ports++;
	}
}

/* "2026-11-27T23:02:38.832618291Z" to ns since the epoch; 0: it is none. */
static int64_t parse_time(const char *text)
{
	struct tm tm = { 0 };
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	int64_t ns = 0, digit = NSEC_PER_SEC;

	if (!rest)
		return 0;
	if (*rest == '.')
		while (*++rest >= '0' && *rest <= '9')
			ns += (*rest - '0') * (digit /= 10);
	return *rest == 'Z' ? timegm(&tm) * NSEC_PER_SEC + ns : 0;
}

static void keep_facts(struct docker *d, const json_t *inspected)
{
	const json_t *state = json_object_get(inspected, "State");
	struct sandbox_state *st = &d->shim->box.state;

	keep_ports(d, inspected);
	st->started_ns = parse_time(json_string_value(json_object_get(state, "StartedAt")));
	/* Of its process 1, as this host counts; what it uses is what the sandbox costs. */
	st->vmm_pid = (int32_t)json_integer_value(json_object_get(state, "Pid"));
	if (st->vmm_pid <= 0 || proc_start_time(st->vmm_pid, &st->vmm_start) < 0)
		st->vmm_pid = 0;
}

static void on_inspected(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	if (d->shim->ending)
		return;
	if (err) {
		fail(d, "the container was started", err);
		return;
	}
	keep_facts(d, answer);
	shim_save_state(d->shim);
}

static void on_started(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	if (d->shim->ending)
		return;
	if (err) {
		fail(d, "cannot start the container", err);
		return;
	}
	trace_step("container started");
	await_agent(d);
	docker_ask(d, "GET", "/containers/", "/json", NULL, CALL_TIME, on_inspected);
}

static void start(struct docker *d)
{
	docker_tunnel_arm(d);
	docker_ask(d, "POST", "/containers/", "/start", NULL, CALL_TIME, on_started);
}

static void on_copied(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	strbuf_deinit(&d->tar);
	if (d->shim->ending)
		return;
	if (err) {
		fail(d, "cannot copy the agent into the container", err);
		return;
	}
	trace_step("agent copied");
	start(d);
}

static void on_folder(void *arg, json_t *answer, const struct err *missing)
{
	struct docker *d = arg;
	const struct sandbox_config *c = &d->shim->box.config;
	auto_free char *file = NULL, *path = NULL;
	struct engine_request request = {
		.method = "PUT", .timeout = CALL_TIME, .done = on_copied, .arg = d
	};
	struct err err = ERR_INIT;
	int r;

	if (d->shim->ending)
		return;
	r = docker_agent_file(c, &file, &err);
	if (r == 0)
		r = docker_agent_tar(c, file, missing != NULL, &d->tar, &err);
	if (r == 0 && asprintf(&path, "/containers/%s/archive?path=%%2F", d->record.container) < 0)
		path = NULL;
	request.path = path;
	request.tar = d->tar.data;
	request.tar_len = d->tar.len;
	if (r == 0 && (!path || engine_send(d->engine, &request) < 0))
		r = err_set(&err, ENOMEM, "out of memory");
	if (r < 0)
		fail(d, "cannot copy the agent into the container", &err);
}

/* Where the container does not let it be put, it lies beside the socket. */
static int put_beside_socket(struct docker *d, struct err *err)
{
	const struct sandbox_config *c = &d->shim->box.config;
	auto_free char *file = NULL, *data = NULL;
	size_t len;
	int r = docker_agent_file(c, &file, err);

	if (r < 0)
		return r;
	r = fs_read_file(AT_FDCWD, file, DOCKER_AGENT_MAX, &data, &len);
	if (r == 0)
		r = fs_replace_file(
			d->shim->dfd, DOCKER_FOLDER "/" DOCKER_AGENT_NAME, data, len, 0755, false);
	/* Our umask is not for it. */
	if (r == 0 && fchmodat(d->shim->dfd, DOCKER_FOLDER "/" DOCKER_AGENT_NAME, 0755, 0) < 0)
		r = -errno;
	return r < 0 ? err_errno(err, -r, "cannot copy the agent '%s'", file) : 0;
}

static void copy_agent(struct docker *d)
{
	const struct sandbox_config *c = &d->shim->box.config;
	auto_strbuf struct strbuf path = STRBUF_INIT;
	auto_free char *folder = strdup(c->agent_path);
	struct err err = ERR_INIT;

	if (c->no_agent || docker_place_is_hidden(c)) {
		start(d);
		return;
	}
	/* The engine makes folders that are missing for root alone. */
	if (folder) {
		*strrchr(folder, '/') = 0;
		strbuf_adds(&path, "/archive?path=");
		http_escape(&path, folder[0] ? folder : "/");
	}
	if (!folder || strbuf_error(&path) < 0) {
		err_set(&err, ENOMEM, "out of memory");
		fail(d, "cannot copy the agent into the container", &err);
		return;
	}
	docker_ask(d, "HEAD", "/containers/", path.data, NULL, CALL_TIME, on_folder);
}

static void make(struct docker *d);

static void on_own_removed(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	free(take_ptr(d->record.container));
	if (d->shim->ending)
		return;
	if (err && err->code != ENOENT)
		fail(d, "cannot remove what an earlier start has left", err);
	else
		make(d);
}

/* A shim that was killed between the engine's work and its note of it has left one behind. */
static void on_namesake(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	const char *id = docker_is_ours(answer, &d->shim->box.config);

	if (d->shim->ending)
		return;
	d->record.container = id ? strdup(id) : NULL;
	if (d->record.container)
		docker_ask(d, "DELETE", "/containers/", "?force=1&v=1", NULL, CALL_TIME,
			on_own_removed);
	else
		fail(d, "cannot make the container", &d->conflict);
}

static void look_for_namesake(struct docker *d)
{
	auto_free char *path = NULL;
	struct engine_request request = {
		.method = "GET", .timeout = CALL_TIME, .done = on_namesake, .arg = d
	};

	d->looked = true;
	if (asprintf(&path, "/containers/%s/json", d->shim->box.config.name) < 0)
		path = NULL;
	request.path = path;
	if (!path || engine_send(d->engine, &request) < 0)
		fail(d, "cannot make the container", &d->conflict);
}

static void on_made(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	const char *id = json_string_value(json_object_get(answer, "Id"));
	const json_t *warning = json_array_get(json_object_get(answer, "Warnings"), 0);
	struct err failed = ERR_INIT;

	d->making = false;
	if (!err && (!id || strlen(id) > LIMIT_ID || !(d->record.container = strdup(id))))
		err_set(&failed, EPROTO, "the engine's answer has no id");
	if (!err && !failed.code) {
		d->made = true;
		docker_record_write(d->shim->dfd, &d->record, &failed);
	}
	if (d->shim->ending) {
		/* Stopped meanwhile: what is there now is not wanted. */
		if (d->made)
			d->shim->backend->kill(d->shim);
		else
			tell_gone(d, "it was not made");
		return;
	}
	if (err && err->code == EEXIST && !d->looked) {
		d->conflict = *err;
		look_for_namesake(d);
		return;
	}
	if (err || failed.code) {
		fail(d, "cannot make the container", err ? err : &failed);
		return;
	}
	if (json_is_string(warning))
		shim_notice(d->shim, json_string_value(warning));
	trace_step("container made");
	copy_agent(d);
}

static int new_token(struct docker *d, char token[static DOCKER_TOKEN_LEN + 1])
{
	uint8_t random[DOCKER_TOKEN_LEN / 2];
	char digest[DIGEST_SIZE];

	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), token);
	docker_record_deinit(&d->record);
	if (digest_of(token, DOCKER_TOKEN_LEN, digest) < 0)
		return -ENOMEM;
	d->record.token = strdup(digest);
	return d->record.token ? 0 : -ENOMEM;
}

static int send_make(struct docker *d, struct err *err)
{
	const struct sandbox_config *c = &d->shim->box.config;
	auto_free char *folder = sandbox_path(d->shim->root, c->id, DOCKER_FOLDER);
	auto_strbuf struct strbuf path = STRBUF_INIT;
	char token[DOCKER_TOKEN_LEN + 1];
	struct engine_request request = {
		.method = "POST", .timeout = CALL_TIME, .done = on_made, .arg = d
	};
	int r = 0;

	if (!c->no_agent && docker_place_is_hidden(c))
		r = d->direct ? err_set(err, EROFS,
					"'%s' is read-only or hidden in the container: give a "
					"place that is not with --agent-path",
					c->agent_path)
			      : put_beside_socket(d, err);
	if (r < 0)
		return r;
	if (!folder || new_token(d, token) < 0)
		return err_set(err, ENOMEM, "out of memory");
	request.body = docker_container(d->shim, folder, token, err);
	explicit_bzero(token, sizeof(token));
	if (!request.body)
		return -err->code;
	strbuf_addf(&path, "/containers/create?name=%s", c->name);
	request.path = path.data;
	if (strbuf_error(&path) < 0) {
		json_decref(request.body);
		return err_set(err, ENOMEM, "out of memory");
	}
	r = engine_send(d->engine, &request);
	d->making = r == 0;
	return r < 0 ? err_errno(err, -r, "cannot ask the engine") : 0;
}

static void on_network_made(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	char notice[256];

	if (d->shim->ending)
		return;
	/* Somebody was quicker. */
	if (err && err->code != EEXIST) {
		fail(d, "cannot make its network", err);
		return;
	}
	snprintf(notice, sizeof(notice),
		"network '%.100s' was not there: it is made, and goes with its last sandbox",
		d->shim->box.config.network);
	if (!err)
		shim_notice(d->shim, notice);
	d->network_there = true;
	make(d);
}

static void on_network(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	struct engine_request request = { .method = "POST",
		.path = "/networks/create",
		.timeout = CALL_TIME,
		.done = on_network_made,
		.arg = d };
	struct err failed = ERR_INIT;

	if (d->shim->ending)
		return;
	if (!err) {
		d->network_there = true;
		make(d);
		return;
	}
	if (err->code != ENOENT) {
		fail(d, "cannot look for its network", err);
		return;
	}
	request.body = docker_network_body(&d->shim->box.config);
	if (!request.body || engine_send(d->engine, &request) < 0) {
		err_set(&failed, ENOMEM, "out of memory");
		fail(d, "cannot make its network", &failed);
	}
}

static int look_for_network(struct docker *d, struct err *err)
{
	auto_strbuf struct strbuf path = STRBUF_INIT;
	struct engine_request request = {
		.method = "GET", .timeout = CALL_TIME, .done = on_network, .arg = d
	};

	if (docker_network_path(&d->shim->box.config, &path) < 0)
		return err_set(err, ENOMEM, "out of memory");
	request.path = path.data;
	return engine_send(d->engine, &request) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static void make(struct docker *d)
{
	struct err err = ERR_INIT;

	if (docker_network_is_named(&d->shim->box.config) && !d->network_there) {
		if (look_for_network(d, &err) < 0)
			fail(d, "cannot look for its network", &err);
		return;
	}
	if (send_make(d, &err) < 0)
		fail(d, "cannot make the container", &err);
}

/* One that is there already: started again, or taken over from a shim that has died. */
static void on_found(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;
	const json_t *state = json_object_get(answer, "State");

	if (d->shim->ending)
		return;
	if (err && err->code == ENOENT) {
		log_warning("the container has been removed: it is made anew");
		make(d);
	} else if (err) {
		fail(d, "cannot find the container", err);
	} else if (json_is_true(json_object_get(state, "Running"))) {
		log_warning("the container runs: taken over");
		docker_tunnel_arm(d);
		keep_facts(d, answer);
		await_agent(d);
	} else if (d->shim->adopt) {
		/* It has ended since whoever started us has looked. */
		d->shim->started = true;
		d->exit_code = (int)json_integer_value(json_object_get(state, "ExitCode"));
		on_ended_state(d, answer, NULL);
		shim_verdict(d->shim, 0, NULL);
	} else {
		start(d);
	}
}

/* Whom the agent can be reached by, if not by us. */
static void be_direct(struct docker *d)
{
	const struct sandbox_config *c = &d->shim->box.config;

	d->direct = c->no_agent || !engine_is_local(c->engine);
	if (c->no_agent)
		d->shim->no_agent = "it was made with --no-agent";
	else if (d->direct)
		d->shim->no_agent = "its agent dials another server: give that with --server";
}

static void boot(struct shim *shim)
{
	struct docker *d = calloc(1, sizeof(*d));
	struct err err = ERR_INIT;
	int r = d ? 0 : err_errno(&err, ENOMEM, "cannot start");

	if (r == 0) {
		d->shim = shim;
		shim->backend_data = d;
		r = docker_record_read(shim->dfd, &d->record, &err);
	}
	if (r == 0)
		r = engine_new(shim->loop, shim->box.config.engine, &d->engine, &err);
	if (r == 0)
		be_direct(d);
	if (r == 0 && !d->direct)
		r = docker_tunnel_open(d, &err);
	if (r < 0)
		shim_fail(shim, 125, &err);
	else if (d->record.container)
		docker_ask(d, "GET", "/containers/", "/json", NULL, CALL_TIME, on_found);
	else
		make(d);
}

/* The rest of the backend */

static bool runs(const struct shim *shim)
{
	const struct docker *d = docker_of(shim);

	if (d && d->making)
		return true;
	if (!d || !d->record.container || d->gone)
		return false;
	return d->running || shim->remove || (d->made && !shim->started);
}

static void on_pruned(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	if (err)
		log_warning("the container's network may be left: %s", err->msg);
	tell_gone(d, "removed");
}

static void drop_network(struct docker *d)
{
	const struct sandbox_config *c = &d->shim->box.config;
	auto_strbuf struct strbuf path = STRBUF_INIT;
	struct engine_request request = {
		.method = "POST", .timeout = CALL_TIME, .done = on_pruned, .arg = d
	};

	if (!docker_network_is_named(c) || docker_network_is_wanted(d->shim->root, c)) {
		tell_gone(d, "removed");
		return;
	}
	if (docker_network_prune_path(c, &path) == 0)
		request.path = path.data;
	if (!request.path || engine_send(d->engine, &request) < 0)
		tell_gone(d, "removed");
}

static void on_removed(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	if (err && err->code != ENOENT)
		log_error("cannot remove the container: %s", err->msg);
	else
		unlinkat(d->shim->dfd, DOCKER_RECORD, 0);
	drop_network(d);
}

static void on_killed(void *arg, json_t *answer, const struct err *err)
{
	struct docker *d = arg;

	/* Its end the engine tells, on_exited(). */
	if (err && d->running) {
		log_error("cannot kill the container: %s", err->msg);
		tell_gone(d, err->msg);
	}
}

static void kill_container(struct shim *shim)
{
	struct docker *d = docker_of(shim);

	if (d->making)
		return; /* on_made() goes on */
	/* What was made for a start that failed goes as well. */
	d->removing = shim->remove || (d->made && !shim->started);
	if (d->removing)
		docker_ask(
			d, "DELETE", "/containers/", "?force=1&v=1", NULL, CALL_TIME, on_removed);
	else
		docker_ask(d, "POST", "/containers/", "/kill", NULL, CALL_TIME, on_killed);
}

static void clean_up(struct shim *shim)
{
	struct docker *d = docker_of(shim);

	if (d)
		docker_tunnel_close(d);
}

static void reconnect(struct shim *shim)
{
	docker_tunnel_want(docker_of(shim));
}

static void fill_status(struct shim *shim, Micropod__Sandbox__V1__StatusResponse *resp)
{
	resp->transport = (char *)"tunnel";
	resp->vmm = (char *)"docker";
	resp->accel = (char *)"";
}

const struct shim_backend shim_docker = {
	.boot = boot,
	.runs = runs,
	.kill = kill_container,
	.clean_up = clean_up,
	.reconnect = reconnect,
	.fill_status = fill_status,
	.stop = docker_stop,
	.signal = docker_signal,
	.change = docker_change,
	.check_limits = docker_check_limits,
};
