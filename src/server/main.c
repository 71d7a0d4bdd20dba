/* SPDX-License-Identifier: Apache-2.0 */
/* micropod-server: what `micropod server` and `micropod token` start. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent.desc.h"
#include "base/log.h"
#include "base/parse.h"
#include "host.desc.h"
#include "io/addr.h"
#include "sandbox.desc.h"
#include "server.desc.h"
#include "server/server.h"
#include "server/token.h"
#include "tunnel.desc.h"
#include "tls/tls.h"
#include "tunnel/url.h"

#define PARKED	   2
#define LOOK_EVERY (2 * NSEC_PER_SEC) /* for tokens that were revoked by another process */
#define DRAIN_TIME (3 * NSEC_PER_SEC)
#define KEEPALIVE  (30 * NSEC_PER_SEC)

static const char usage[] =
	"usage: micropod server --listen ADDRESS [OPTIONS]\n"
	"\n"
	"Collects hosts (micropod runner) and agents that dial it, and lets those who have a token "
	"use\n"
	"their sandboxes.\n"
	"\n"
	"  --listen ADDRESS     IP:PORT or unix:PATH; several may be given\n"
	"  --data DIR           tokens and audit (MICROPOD_DATA; default: " STORE_DEFAULT_HELP ")\n"
	"  --tls-cert FILE      speak TLS 1.3 with this certificate and its chain (PEM) ...\n"
	"  --tls-key FILE       ... and its key\n"
	"  --metrics ADDRESS    answer GET /metrics and /healthz there\n"
	"  --sandbox-rate SIZE  bytes a second that go to and from one sandbox at most\n"
	"  --insecure-plaintext   listen on a network without TLS\n";

#define LISTEN_MAX 8

struct args {
	const char *listen[LISTEN_MAX], *data, *metrics, *cert, *key;
	uint64_t sandbox_rate;
	size_t n_listen;
	bool plain;
};

struct main {
	struct server server;
	struct metrics *metrics;
	struct loop_signals signals;
	struct loop_timer drain;
};

static void on_drained(void *arg)
{
	loop_stop(((struct main *)arg)->server.loop, 0);
}

static void on_drain_time(struct loop_timer *timer)
{
	on_drained(container_of(timer, struct main, drain));
}

static void on_signal(struct loop_signals *signals, const struct signalfd_siginfo *info)
{
	struct main *m = container_of(signals, struct main, signals);

	log_info("signal %u: leaving", info->ssi_signo);
	loop_timer_arm(m->server.loop, &m->drain, deadline_in(DRAIN_TIME), on_drain_time);
	rpc_server_drain(m->server.rpc, on_drained, m);
}

static void on_look(struct loop_timer *timer)
{
	struct server *s = container_of(timer, struct server, look);

	remotes_check(s);
	loop_timer_arm(s->loop, timer, deadline_in(LOOK_EVERY), on_look);
}

/* "IP:PORT" is tcp:IP:PORT. */
static int parse_address(const char *text, bool plain, struct addr *ret_addr, struct err *err)
{
	struct tunnel_url url;
	char full[300];

	if (strncmp(text, "unix:", 5) == 0)
		return addr_parse(text, ret_addr, err);
	/* The same rule as for those who dial: what is loopback needs no TLS. */
	snprintf(full, sizeof(full), "http://%s", strncmp(text, "tcp:", 4) == 0 ? text + 4 : text);
	if (tunnel_url_parse(full, NULL, &url, NULL) < 0)
		return err_set(err, EINVAL, "'%s' is no address: give IP:PORT or unix:PATH", text);
	if (url.exposed && !plain)
		return err_set(err, EPERM,
			"tokens would go to '%s' in plain: give --tls-cert and --tls-key, or "
			"listen on a "
			"loopback address, or allow it with --insecure-plaintext",
			text);
	*ret_addr = url.addr;
	return 0;
}

static int wrap(struct io_stream *plain, struct io_stream **ret_stream, void *arg)
{
	struct server *s = arg;
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);

	/* What comes by a unix socket nobody reads on the way. */
	if (getsockopt(plain->fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX) {
		*ret_stream = plain;
		return 0;
	}
	return tls_wrap(s->loop, s->tls, plain, NULL, ret_stream);
}

static int make_rpc(struct server *s, struct err *err)
{
	const struct rpc_descriptors sets[] = { { agent_desc, agent_desc_len },
		{ sandbox_desc, sandbox_desc_len }, { host_desc, host_desc_len },
		{ server_desc, server_desc_len }, { tunnel_desc, tunnel_desc_len } };
	struct rpc_server_opts opts = { .on_call = gate_on_call,
		.admit = gate_admit,
		.fallback = route_call,
		.wrap = s->tls ? wrap : NULL,
		.arg = s,
		.keepalive_interval = KEEPALIVE,
		.keepalive_timeout = KEEPALIVE,
		/* Each agent has one, and so has each who calls. */
		.max_connections = LIMIT_TUNNEL_PEERS + LIMIT_RPC_CONNECTIONS };
	int r = rpc_server_new(s->loop, &opts, &s->rpc);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sets); i++)
		r = rpc_server_add_descriptors(s->rpc, &sets[i]);
	if (r == 0)
		r = rpc_server_add_service(s->rpc, &hosts_service, NULL, s);
	if (r == 0)
		r = tunnel_acceptor_new(s->loop, s->rpc, PARKED, &remotes_ops, s, &s->acceptor);
	return r < 0 ? err_errno(err, -r, "cannot serve") : 0;
}

static int listen_at(struct server *s, const struct addr *addr, const char *text, struct err *err)
{
	int r = addr_listen(addr, 0666, err);

	if (r >= 0 && (r = rpc_server_listen(s->rpc, r)) < 0)
		err_errno(err, -r, "cannot listen at '%s'", text);
	return r;
}

static int set_up(struct main *m, const struct args *a, struct err *err)
{
	struct rlimit files;
	struct server *s = &m->server;
	struct addr addr[LISTEN_MAX];
	sigset_t mask;
	int r = 0;

	for (size_t i = 0; i < a->n_listen && r == 0; i++)
		r = parse_address(a->listen[i], a->plain || a->cert, &addr[i], err);
	if (r == 0 && a->cert)
		r = tls_new_server(a->cert, a->key, &s->tls, err);
	if (r == 0)
		r = store_open(a->data, &s->store, err);
	if (r == 0 && (r = loop_new(&s->loop)) < 0)
		err_errno(err, -r, "cannot set up the event loop");
	if (r == 0)
		r = make_rpc(s, err);
	for (size_t i = 0; i < a->n_listen && r == 0; i++)
		r = listen_at(s, &addr[i], a->listen[i], err);
	if (r == 0 && a->metrics)
		r = metrics_listen(s, a->metrics, &m->metrics, err);
	if (r < 0)
		return r;
	signal(SIGPIPE, SIG_IGN);
	/* As many as may be: one for each connection. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	r = loop_signals_add(s->loop, &m->signals, &mask, on_signal);
	if (r == 0)
		r = loop_timer_arm(s->loop, &s->look, deadline_in(LOOK_EVERY), on_look);
	return r < 0 ? err_errno(err, -r, "cannot serve") : 0;
}

static void tear_down(struct main *m)
{
	struct server *s = &m->server;

	metrics_free(m->metrics);
	loop_timer_disarm(&s->look);
	loop_timer_disarm(&m->drain);
	rpc_server_free(s->rpc);
	tunnel_acceptor_free(s->acceptor);
	while (!list_empty(&s->rates))
		rpc_rate_free(list_entry(s->rates.next, struct rpc_rate, link));
	loop_signals_remove(&m->signals);
	loop_free(s->loop);
	tls_free(s->tls);
	store_close(s->store);
}

/* -1 to go on, else the exit code. */
static int parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "data", required_argument, NULL, 'd' },
		{ "metrics", required_argument, NULL, 'm' },
		{ "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'k' },
		{ "sandbox-rate", required_argument, NULL, 'r' },
		{ "insecure-plaintext", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 'l':
			if (a->n_listen == LISTEN_MAX) {
				fprintf(stderr, "micropod: server: --listen at most %d times\n",
					LISTEN_MAX);
				return 125;
			}
			a->listen[a->n_listen++] = optarg;
			break;
		case 'd':
			a->data = optarg;
			break;
		case 'm':
			a->metrics = optarg;
			break;
		case 'c':
			a->cert = optarg;
			break;
		case 'k':
			a->key = optarg;
			break;
		case 'r':
			if (parse_size(optarg, &a->sandbox_rate) < 0 ||
				a->sandbox_rate > LIMIT_SANDBOX_RATE) {
				fprintf(stderr,
					"micropod: server: option '--sandbox-rate' is '%.100s': "
					"give bytes, such as 10m, or 0 for no limit\n",
					optarg);
				return 125;
			}
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
	if (optind < argc || !a->n_listen || !a->cert != !a->key) {
		fputs("micropod: server: give --listen ADDRESS, and --tls-cert and --tls-key or "
		      "neither "
		      "(micropod server --help)\n",
			stderr);
		return 125;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct main m = { 0 };
	struct args a = { .data = getenv("MICROPOD_DATA") };
	struct err err = ERR_INIT;
	int code;

	umask(077);
	/* What getopt_long(3) complains by. */
	argv[0] = (char *)"micropod: server";
	if (argc > 1 && strcmp(argv[1], "token") == 0)
		return token_main(argc - 1, argv + 1);
	code = parse(&a, argc, argv);
	if (code >= 0)
		return code;
	log_init("server", 2, LOG_LEVEL_INFO);
	list_init(&m.server.remotes);
	list_init(&m.server.rates);
	m.server.sandbox_rate = a.sandbox_rate;
	code = set_up(&m, &a, &err);
	if (code == 0) {
		for (size_t i = 0; i < a.n_listen; i++)
			printf("listening at %s\n", a.listen[i]);
		fflush(stdout);
		loop_run(m.server.loop);
	}
	tear_down(&m);
	if (code < 0)
		fprintf(stderr, "micropod: %s\n", err.msg);
	return code < 0 ? 125 : 0;
}
