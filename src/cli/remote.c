/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fs.h"
#include "host.pb-c.h"
#include "server.pb-c.h"
#include "tls/tls.h"
#include "tunnel/url.h"

#define SERVER(name)   Micropod__Server__V1__##name
#define HOST(name)     Micropod__Host__V1__##name
#define TOKEN_FILE_MAX 4096
#define ASK_TIME       (30 * NSEC_PER_SEC)
#define REQUEST_ID_LEN 12

/* Where a sandbox was found. */
struct place {
	char id[ID_LEN + 1];
	char host[LIMIT_NAME + 1];
};

struct remote {
	struct loop *loop;
	struct rpc_channel *channel;
	struct tunnel_url url;
	struct tls *tls; /* NULL: plain */
	char *authorization;
	char request[REQUEST_ID_LEN + 1];
	const char *on;
	struct rpc_header headers[2]; /* of calls to the server itself */
	struct place *places;
	size_t n_places;
};

static const char *setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

/* MICROPOD_TOKEN, or the file that MICROPOD_TOKEN_FILE or the context names. */
static int read_token(const struct context *context, char **ret_token, struct err *err)
{
	const char *token = setting("MICROPOD_TOKEN", NULL);
	const char *path = setting("MICROPOD_TOKEN_FILE", context->token_file);
	int r = 0;

	if (token)
		*ret_token = strdup(token);
	else if (path)
		r = fs_read_file(AT_FDCWD, path, TOKEN_FILE_MAX, ret_token, NULL);
	else
		return err_set(err, EACCES,
			"a server wants a token: set MICROPOD_TOKEN or MICROPOD_TOKEN_FILE "
			"(micropod "
			"token create --user)");
	if (r < 0)
		return err_errno(err, -r, "cannot read the token in '%s'", path);
	if (!*ret_token)
		return err_errno(err, ENOMEM, "cannot read the token");
	(*ret_token)[strcspn(*ret_token, "\r\n")] = 0;
	return 0;
}

static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	return remote_dial(loop, ret_stream, arg, err);
}

int remote_dial(struct loop *loop, struct io_stream **ret_stream, const struct remote *remote,
	struct err *err)
{
	int fd = addr_connect(&remote->url.addr, err), r;

	if (fd < 0)
		return err_wrap(err, "the server");
	r = io_stream_new_fd(loop, fd, ret_stream);
	if (r == 0 && remote->tls)
		r = tls_wrap(loop, remote->tls, *ret_stream, remote->url.host, ret_stream);
	return r < 0 ? err_errno(err, -r, "cannot talk to the server") : 0;
}

const char *remote_authority(const struct remote *remote)
{
	return remote->url.authority;
}

int remote_open(
	const struct context *context, const char *on, struct remote **ret_remote, struct err *err)
{
	const char *url = context->server;
	struct remote *m = calloc(1, sizeof(*m));
	struct rpc_channel_opts opts = { .dial = dial, .arg = m, .no_redial = true };
	const char *plain = getenv("MICROPOD_INSECURE_PLAINTEXT");
	const struct tunnel_url_opts url_opts = { .tls = true, .resolve = tunnel_resolve };
	auto_free char *token = NULL;
	uint8_t random[REQUEST_ID_LEN / 2];
	int r = m ? tunnel_url_parse(url, &url_opts, &m->url, err) : -ENOMEM;

	if (r == 0 && m->url.exposed && !(plain && strcmp(plain, "1") == 0))
		r = err_set(err, EPERM,
			"the token would go to '%s' in plain: use https://, a loopback address or "
			"unix:///PATH, or allow it with MICROPOD_INSECURE_PLAINTEXT=1",
			url);
	if (r == 0)
		r = read_token(context, &token, err);
	if (r == 0 && m->url.tls)
		r = tls_new_client(
			&(struct tls_trust){ .pin = setting("MICROPOD_SERVER_PIN", context->pin),
				.ca_file = setting("MICROPOD_SERVER_CA", context->ca) },
			&m->tls, err);
	if (r < 0) {
		free(m);
		return r;
	}
	m->on = on;
	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), m->request);
	if (asprintf(&m->authorization, "Bearer %s", token) < 0)
		m->authorization = NULL;
	m->headers[0] = (struct rpc_header){ "authorization", m->authorization };
	m->headers[1] = (struct rpc_header){ "micropod-request-id", m->request };
	opts.authority = m->url.authority;
	opts.headers = m->headers;
	opts.n_headers = ARRAY_SIZE(m->headers);
	if (!m->authorization || loop_new(&m->loop) < 0 ||
		rpc_channel_new(m->loop, &opts, &m->channel) < 0) {
		remote_close(m);
		return err_errno(err, ENOMEM, "cannot talk to the server");
	}
	*ret_remote = m;
	return 0;
}

struct remote *remote_close(struct remote *m)
{
	if (!m)
		return NULL;
	rpc_channel_free(m->channel);
	loop_free(m->loop);
	tls_free(m->tls);
	free(m->authorization);
	free(m->places);
	free(m);
	return NULL;
}

/* Looking up */

static int ask(struct remote *m, const char *word, HOST(ListResponse) * *ret_list, struct err *err)
{
	HOST(ListRequest) req = MICROPOD__HOST__V1__LIST_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(ASK_TIME) };
	int r;

	req.word = (char *)word;
	r = rpc_channel_unary(m->channel, "/micropod.server.v1.Server/List", &req.base,
		&micropod__host__v1__list_response__descriptor, &opts,
		(ProtobufCMessage **)ret_list, NULL, err);
	return r < 0 ? err_wrap(err, "the server") : 0;
}

static int remember(struct remote *m, const HOST(Sandbox) * box)
{
	struct place *places, *p;

	for (size_t i = 0; i < m->n_places; i++) {
		if (strcmp(m->places[i].id, box->id) != 0)
			continue;
		snprintf(m->places[i].host, sizeof(m->places[i].host), "%s", box->host);
		return 0;
	}
	places = reallocarray(m->places, m->n_places + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	m->places = places;
	p = &places[m->n_places++];
	snprintf(p->id, sizeof(p->id), "%s", box->id);
	snprintf(p->host, sizeof(p->host), "%s", box->host);
	return 0;
}

const char *remote_host(const struct remote *m, const char *id)
{
	for (size_t i = 0; i < m->n_places; i++)
		if (strcmp(m->places[i].id, id) == 0)
			return m->places[i].host;
	return NULL;
}

static int find_one(
	struct remote *m, const char *word, HOST(ListResponse) * *ret_list, struct err *err)
{
	HOST(ListResponse) *list = NULL;
	int r = ask(m, word, &list, err);

	if (r < 0)
		return r;
	if (list->n_sandboxes > 1)
		r = err_set(err, ENOTUNIQ,
			"hosts '%s' and '%s' both have a sandbox '%s': give its id",
			list->sandboxes[0]->host, list->sandboxes[1]->host, word);
	else if (!list->n_sandboxes && list->n_silent)
		r = err_set(err, ENOENT,
			"no such sandbox: %s (host '%s' does not answer, and may have it)", word,
			list->silent[0]);
	else if (!list->n_sandboxes || strlen(list->sandboxes[0]->id) != ID_LEN)
		r = err_set(err, ENOENT, "no such sandbox: %s", word);
	else if (remember(m, list->sandboxes[0]) < 0)
		r = err_errno(err, ENOMEM, "cannot look for '%s'", word);
	if (r < 0)
		micropod__host__v1__list_response__free_unpacked(list, NULL);
	else
		*ret_list = list;
	return r;
}

int remote_find(struct remote *m, const char *word, char out[static ID_LEN + 1], struct err *err)
{
	HOST(ListResponse) *list = NULL;
	int r = find_one(m, word, &list, err);

	if (r < 0)
		return r;
	memcpy(out, list->sandboxes[0]->id, ID_LEN + 1);
	micropod__host__v1__list_response__free_unpacked(list, NULL);
	return 0;
}

int remote_list(struct remote *m, struct strv *ids, struct err *err)
{
	HOST(ListResponse) *list = NULL;
	int r = ask(m, "", &list, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < list->n_silent; i++)
		fprintf(stderr,
			"micropod: host '%s' does not answer: its sandboxes are missing here\n",
			list->silent[i]);
	for (size_t i = 0; r == 0 && i < list->n_sandboxes; i++) {
		if (strlen(list->sandboxes[i]->id) != ID_LEN)
			continue;
		r = remember(m, list->sandboxes[i]);
		if (r == 0)
			r = strv_add(ids, list->sandboxes[i]->id);
	}
	micropod__host__v1__list_response__free_unpacked(list, NULL);
	return r < 0 ? err_errno(err, -r, "cannot list the sandboxes") : 0;
}

int remote_load(struct remote *m, const char *id, struct sandbox *ret_box, struct err *err)
{
	HOST(ListResponse) *list = NULL;
	struct sandbox box = { 0 };
	const HOST(Sandbox) * entry;
	int r = find_one(m, id, &list, err);

	if (r < 0)
		return r;
	entry = list->sandboxes[0];
	r = sandbox_config_read(
		(const char *)entry->config.data, entry->config.len, &box.config, err);
	if (r == 0)
		r = sandbox_state_read(
			(const char *)entry->state.data, entry->state.len, &box.state, err);
	micropod__host__v1__list_response__free_unpacked(list, NULL);
	if (r < 0)
		sandbox_deinit(&box);
	else
		*ret_box = box;
	return r;
}

void remote_route(const struct remote *m, const char *id, struct remote_route *route)
{
	const char *host = remote_host(m, id);

	snprintf(route->sandbox, sizeof(route->sandbox), "%s", id);
	route->headers[0] = m->headers[0];
	route->headers[1] = m->headers[1];
	route->headers[2] = (struct rpc_header){ "micropod-sandbox", route->sandbox };
	route->headers[3] = (struct rpc_header){ "micropod-host", host };
	route->n_headers = host && *host ? 4 : 3;
}

/* Commands */

struct run {
	struct strbuf *out;
	bool by_lines; /* others write too: whole ones only */
	struct strbuf line;
	int code;
	bool done, have_code;
	struct err err;
};

static int write_lines(struct run *run, const void *data, size_t len)
{
	const char *end;
	size_t whole;
	int r;

	strbuf_add(&run->line, data, len);
	if (strbuf_error(&run->line) < 0 || run->line.len > LIMIT_RPC_MESSAGE)
		return -ENOMEM;
	end = memrchr(run->line.data, '\n', run->line.len);
	whole = end ? (size_t)(end + 1 - run->line.data) : 0;
	r = whole ? fd_write_full(STDOUT_FILENO, run->line.data, whole) : 0;
	strbuf_consume(&run->line, whole);
	return r;
}

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const HOST(CommandEvent) *ev = (const HOST(CommandEvent) *)msg;
	struct run *run = arg;

	if (ev->kind_case == MICROPOD__HOST__V1__COMMAND_EVENT__KIND_EXIT_CODE) {
		run->have_code = true;
		run->code = ev->exit_code;
	} else if (ev->kind_case == MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDERR) {
		fd_write_full(STDERR_FILENO, ev->stderr.data, ev->stderr.len);
	} else if (ev->kind_case == MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDOUT && run->out) {
		strbuf_add(run->out, ev->stdout.data, ev->stdout.len);
	} else if (ev->kind_case == MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDOUT &&
		   run->by_lines) {
		if (write_lines(run, ev->stdout.data, ev->stdout.len) < 0)
			rpc_call_cancel(call);
	} else if (ev->kind_case == MICROPOD__HOST__V1__COMMAND_EVENT__KIND_STDOUT &&
		   fd_write_full(STDOUT_FILENO, ev->stdout.data, ev->stdout.len) < 0) {
		rpc_call_cancel(call);
	}
}

static void on_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct run *run = arg;

	run->done = true;
	if (!run->have_code)
		rpc_status_to_err(status, &run->err);
}

static const struct rpc_call_ops run_ops = { .message = on_event, .done = on_done };

/* 0 or -errno with err; run tells the rest, from the loop. */
static int start_command(struct remote *m, const char *host, const struct strv *args,
	struct run *run, struct err *err)
{
	HOST(CommandRequest) req = MICROPOD__HOST__V1__COMMAND_REQUEST__INIT;
	HOST(CommandStart) start = MICROPOD__HOST__V1__COMMAND_START__INIT;
	struct rpc_call_opts opts = { .retry = RPC_RETRY_UNSENT };
	ProtobufCBinaryData *words = calloc(args->n + 1, sizeof(*words));
	struct rpc_call *call = NULL;

	if (!words || rpc_channel_call(m->channel, "/micropod.host.v1.Host/Command",
			      &micropod__host__v1__command_event__descriptor, &opts, &run_ops, run,
			      &call) < 0) {
		free(words);
		return err_errno(err, ENOMEM, "cannot ask the server");
	}
	for (size_t i = 0; i < args->n; i++)
		words[i] = (ProtobufCBinaryData){ strlen(args->v[i]), (uint8_t *)args->v[i] };
	start.args = words;
	start.n_args = args->n;
	req.kind_case = MICROPOD__HOST__V1__COMMAND_REQUEST__KIND_START;
	req.start = &start;
	if (host && *host)
		rpc_call_add_metadata(call, "micropod-host", host, strlen(host));
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
	free(words);
	return 0;
}

int remote_command(struct remote *m, const char *host, const struct strv *args, struct strbuf *out,
	struct err *err)
{
	struct run run = { .out = out };
	int r;

	fflush(stdout);
	r = start_command(m, host ? host : m->on, args, &run, err);
	if (r < 0)
		return r;
	while (r == 0 && !run.done)
		r = loop_once(m->loop, DEADLINE_NONE);
	if (r < 0)
		return err_errno(err, -r, "the event loop failed");
	if (run.have_code)
		return run.code;
	*err = run.err;
	return err_wrap(err, "the server");
}

static int find_hosts(struct remote *m, struct strv *hosts, struct err *err)
{
	SERVER(HostsRequest) req = MICROPOD__SERVER__V1__HOSTS_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(ASK_TIME),
		.retry = RPC_RETRY_UNSENT };
	ProtobufCMessage *answer = NULL;
	SERVER(HostsResponse) * list;
	int r = m->on ? strv_add(hosts, m->on) : 0;

	if (r < 0)
		return err_errno(err, -r, "cannot ask the server");
	if (m->on)
		return 0;
	r = rpc_channel_unary(m->channel, "/micropod.server.v1.Server/Hosts", &req.base,
		&micropod__server__v1__hosts_response__descriptor, &opts, &answer, NULL, err);
	if (r < 0)
		return err_wrap(err, "the server");
	list = (SERVER(HostsResponse) *)answer;
	for (size_t i = 0; r == 0 && i < list->n_hosts; i++)
		r = strv_add(hosts, list->hosts[i]->name);
	protobuf_c_message_free_unpacked(answer, NULL);
	if (r < 0)
		return err_errno(err, -r, "cannot ask the server");
	return hosts->n ? 0 : err_set(err, ENOENT, "no host has joined the server");
}

int remote_everywhere(
	struct remote *m, const char *verb, char *const *given, size_t n, struct err *err)
{
	auto_strv struct strv args = STRV_INIT, hosts = STRV_INIT;
	auto_free struct run *runs = NULL;
	size_t running = 0;
	int code = 0, r = find_hosts(m, &hosts, err);

	if (r < 0)
		return r;
	r = strv_add(&args, verb);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = strv_add(&args, given[i]);
	runs = calloc(hosts.n, sizeof(*runs));
	if (r < 0 || !runs)
		return err_errno(err, ENOMEM, "cannot ask the server");
	fflush(stdout);
	for (size_t i = 0; i < hosts.n && r == 0; i++) {
		runs[i].by_lines = true;
		r = start_command(m, hosts.v[i], &args, &runs[i], err);
	}
	do {
		running = 0;
		for (size_t i = 0; i < hosts.n; i++)
			running += !runs[i].done;
		r = r == 0 && running ? loop_once(m->loop, DEADLINE_NONE) : r;
	} while (r == 0 && running);
	for (size_t i = 0; i < hosts.n; i++) {
		if (!runs[i].have_code && runs[i].err.code) {
			err_wrap(&runs[i].err, "host '%s'", hosts.v[i]);
			cli_complain(&runs[i].err);
		}
		code = !runs[i].have_code ? EXIT_MICROPOD : runs[i].code ? runs[i].code : code;
		strbuf_deinit(&runs[i].line);
	}
	return r < 0 ? err_errno(err, -r, "the event loop failed") : code;
}

static int add_options(struct strv *args, const char *verb, char *const *given, size_t n,
	const char **words, size_t n_words)
{
	int r = strv_add(args, verb);

	for (size_t i = 0; r == 0 && i < n; i++) {
		bool word = false;

		for (size_t j = 0; j < n_words; j++)
			word |= words[j] == given[i];
		if (!word)
			r = strv_add(args, given[i]);
	}
	return r;
}

int remote_verb(struct remote *m, const char *verb, bool by_sandbox, char *const *given, size_t n,
	const char **words, size_t n_words, struct err *err)
{
	int code = 0;

	if (!by_sandbox) {
		auto_strv struct strv args = STRV_INIT;
		int r = strv_add(&args, verb);

		for (size_t i = 0; r == 0 && i < n; i++)
			r = strv_add(&args, given[i]);
		return r < 0 ? err_errno(err, -r, "cannot ask the server")
			     : remote_command(m, NULL, &args, NULL, err);
	}
	for (size_t i = 0; i < n_words; i++) {
		auto_strv struct strv args = STRV_INIT;
		struct err why = ERR_INIT;
		char id[ID_LEN + 1];
		int r = remote_find(m, words[i], id, &why);

		if (r == 0 && (add_options(&args, verb, given, n, words, n_words) < 0 ||
				      strv_add(&args, words[i]) < 0))
			r = err_errno(&why, ENOMEM, "cannot ask the server");
		if (r == 0 && !*remote_host(m, id))
			r = err_set(&why, ENOTSUP,
				"'%s' is an agent without a host: '%s' is for its own", words[i],
				verb);
		if (r == 0)
			r = remote_command(m, remote_host(m, id), &args, NULL, &why);
		if (r < 0)
			cli_complain(&why);
		code = r < 0 ? EXIT_MICROPOD : r ? r : code;
	}
	return code;
}
