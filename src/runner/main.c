/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-runner: what `micropod runner` starts. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.desc.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "host.desc.h"
#include "runner/runner.h"
#include "sandbox.desc.h"
#include "tls/tls.h"
#include "tunnel/dialer.h"

#define TOKEN_FILE_MAX 4096
#define GENERATION     1
#define LEAVE_TIME     (2 * NSEC_PER_SEC)

static const char usage[] =
	"usage: micropod runner --server URL (--token-file FILE | --token TOKEN) [OPTIONS]\n"
	"\n"
	"Joins this host to a server, which then can use its sandboxes and make others, as the "
	"user\n"
	"that runs this.\n"
	"\n"
	"  --server URL         https://HOST[:PORT], http://HOST[:PORT] or unix:///PATH\n"
	"  --token-file FILE    a file with the token that 'micropod token create --host NAME' has "
	"said\n"
	"  --token TOKEN        the token itself, which others on this host can see\n"
	"  --ca FILE            trust the authorities in it (PEM), not the system's\n"
	"  --pin SHA256         trust the certificate with this digest alone\n"
	"  --name NAME          for its own logs (default: the host's name); the server goes by "
	"the token\n"
	"  --root DIR           where images and sandboxes are kept\n"
	"  --insecure-plaintext   send the token over a network in plain\n";

struct args {
	const char *root, *server, *token, *token_file, *name, *ca, *pin;
	bool plain;
};

struct main {
	struct runner runner;
	struct tunnel_dialer *dialer;
	struct tunnel_url url;
	struct tls *tls;
	struct loop_signals signals;
};

static void on_left(void *arg)
{
	loop_stop(((struct main *)arg)->runner.loop, 0);
}

static void on_signal(struct loop_signals *signals, const struct signalfd_siginfo *info)
{
	struct main *m = container_of(signals, struct main, signals);

	log_info("signal %u: leaving", info->ssi_signo);
	tunnel_dialer_leave(m->dialer, deadline_in(LEAVE_TIME), on_left, m);
}

static void on_changed(void *arg, const char *why)
{
	if (why)
		log_warning("not joined: %s", why);
	else
		log_info("joined");
}

static void on_call(const struct rpc_call *call, const struct rpc_status *status,
	int64_t duration_ns, void *arg)
{
	log_info("rpc id=%llu %s status=%s ms=%.1f", (unsigned long long)rpc_call_id(call),
		rpc_call_path(call), rpc_code_name(status->code), (double)duration_ns / 1e6);
}

static int make_server(struct runner *r, struct err *err)
{
	const struct rpc_descriptors sets[] = { { agent_desc, agent_desc_len },
		{ sandbox_desc, sandbox_desc_len }, { host_desc, host_desc_len } };
	struct rpc_server_opts opts = { .on_call = on_call, .fallback = runner_route, .arg = r };
	int code = rpc_server_new(r->loop, &opts, &r->server);

	for (size_t i = 0; code == 0 && i < ARRAY_SIZE(sets); i++)
		code = rpc_server_add_descriptors(r->server, &sets[i]);
	if (code == 0)
		code = rpc_server_add_service(r->server, &runner_host_service, NULL, r);
	return code < 0 ? err_errno(err, -code, "cannot serve") : 0;
}

static int read_token(const struct args *a, char **ret_token, struct err *err)
{
	int r = 0;

	if (a->token_file)
		r = fs_read_file(AT_FDCWD, a->token_file, TOKEN_FILE_MAX, ret_token, NULL);
	else
		*ret_token = strdup(a->token);
	if (r < 0)
		return err_errno(err, -r, "cannot read '%s'", a->token_file);
	if (!*ret_token)
		return err_errno(err, ENOMEM, "cannot read the token");
	(*ret_token)[strcspn(*ret_token, "\r\n")] = 0;
	return 0;
}

static int wrap(struct io_stream *plain, struct io_stream **ret_stream, void *arg)
{
	struct main *m = arg;

	return tls_wrap(m->runner.loop, m->tls, plain, m->url.host, ret_stream);
}

static int set_up(struct main *m, const struct args *a, struct err *err)
{
	struct tunnel_dialer_opts dial = {
		.changed = on_changed, .arg = m, .api_generation = GENERATION
	};
	const struct tunnel_url_opts url_opts = { .tls = true, .resolve = tunnel_resolve };
	auto_free char *token = NULL;
	struct runner *r = &m->runner;
	sigset_t mask;
	int code = tunnel_url_parse(a->server, &url_opts, &m->url, err);

	if (code == 0 && m->url.exposed && !a->plain)
		return err_set(err, EPERM,
			"the token would go to '%s' in plain: use https://, a loopback address or "
			"unix:///PATH, or allow it with --insecure-plaintext",
			a->server);
	if (code == 0 && m->url.tls)
		code = tls_new_client(
			&(struct tls_trust){ .pin = a->pin, .ca_file = a->ca }, &m->tls, err);
	dial.url = m->url;
	dial.wrap = m->tls ? wrap : NULL;
	dial.wrap_arg = m;
	if (code == 0)
		code = read_token(a, &token, err);
	if (code == 0)
		code = sandbox_root_open(a->root, &r->root, err);
	if (code == 0)
		code = sandbox_program("micropod", &r->program, err);
	if (code == 0 && (code = loop_new(&r->loop)) < 0)
		err_errno(err, -code, "cannot set up the event loop");
	if (code == 0)
		code = make_server(r, err);
	if (code < 0)
		return code;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	dial.token = token;
	dial.token_len = strlen(token);
	dial.keep_token = true;
	dial.server = r->server;
	code = loop_signals_add(r->loop, &m->signals, &mask, on_signal);
	if (code == 0)
		code = tunnel_dialer_new(r->loop, &dial, &m->dialer);
	explicit_bzero(token, strlen(token));
	return code < 0 ? err_errno(err, -code, "cannot dial the server") : 0;
}

/* -1 to go on, else the exit code. */
static int parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "server", required_argument, NULL, 's' },
		{ "token", required_argument, NULL, 't' },
		{ "token-file", required_argument, NULL, 'f' },
		{ "name", required_argument, NULL, 'n' },
		{ "ca", required_argument, NULL, 'c' },
		{ "pin", required_argument, NULL, 'i' },
		{ "root", required_argument, NULL, 'r' },
		{ "insecure-plaintext", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			a->server = optarg;
			break;
		case 't':
			a->token = optarg;
			break;
		case 'f':
			a->token_file = optarg;
			break;
		case 'n':
			a->name = optarg;
			break;
		case 'r':
			a->root = optarg;
			break;
		case 'c':
			a->ca = optarg;
			break;
		case 'i':
			a->pin = optarg;
			break;
		case 'p':
			a->plain = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return 125;
		}
	}
	if (optind < argc || !a->server || !a->token == !a->token_file) {
		fputs("micropod: runner: give --server URL, and --token-file FILE or --token TOKEN "
		      "(micropod runner --help)\n",
			stderr);
		return 125;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct main m = { 0 };
	struct args a = { 0 };
	struct err err = ERR_INIT;
	char host[256] = "";
	int code = parse(&a, argc, argv);

	if (code >= 0)
		return code;
	umask(077);
	log_init("runner", 2, LOG_LEVEL_INFO);
	gethostname(host, sizeof(host) - 1);
	m.runner.name = a.name ? a.name : host;
	list_init(&m.runner.routes);
	/* Commands of its own are for this host. */
	unsetenv("MICROPOD_SERVER");
	setenv("MICROPOD_CONTEXT", "default", 1);
	code = set_up(&m, &a, &err);
	if (code == 0)
		loop_run(m.runner.loop);
	tunnel_dialer_free(m.dialer);
	rpc_server_free(m.runner.server);
	runner_drop_routes(&m.runner);
	loop_signals_remove(&m.signals);
	loop_free(m.runner.loop);
	tls_free(m.tls);
	sandbox_root_free(m.runner.root);
	free(m.runner.program);
	if (code < 0)
		fprintf(stderr, "micropod: %s\n", err.msg);
	return code < 0 ? 125 : 0;
}
