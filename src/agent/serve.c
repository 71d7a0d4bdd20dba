/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may call: whoever reaches the unix socket (its mode rules), the shim over the serial port,
 * and over vsock the host's processes that know the key. A vsock connection is on a list until it
 * ends; before its first call has shown the key every call on it is refused and the connection
 * ended.
 */
#include "agent/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/launch.h"
#include "agent/seal.h"
#include "agent/vsock.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "io/addr.h"

#define DEFAULT_STATE_DIR "/run/micropod-agent"
#define SIGTERM_GRACE	  (10 * NSEC_PER_SEC)

struct vsock_conn {
	struct list link;
	struct rpc_conn *conn;
	bool known;
};

/* vsock */

static struct vsock_conn *find_conn(struct agent *agent, const struct rpc_conn *conn)
{
	struct vsock_conn *v;

	list_foreach (v, &agent->vsock_conns, link)
		if (v->conn == conn)
			return v;
	return NULL;
}

#ifdef TEST_FAULTS
/* What no build for users has: a call that makes the agent die on the spot. */
static void fault_on_request(struct rpc_call *call)
{
	size_t len = 0;
	const char *word = rpc_call_peer_metadata(call, "micropod-fault", 0, &len);

	if (word && len == strlen("abort") && memcmp(word, "abort", len) == 0)
		abort();
}
#endif

bool serve_admit(struct rpc_call *call, struct rpc_conn *conn, void *arg)
{
	struct agent *agent = arg;
	struct vsock_conn *v = agent->vsock ? find_conn(agent, conn) : NULL;
	size_t len = 0;
	const void *key;

#ifdef TEST_FAULTS
	fault_on_request(call);
#endif
	if (!v || v->known || agent->vsock_open)
		return true;
	key = rpc_call_peer_metadata(call, VSOCK_KEY_METADATA, 0, &len);
	v->known = key && vsock_key_equal(key, len, agent->vsock_key, sizeof(agent->vsock_key));
	if (!v->known)
		rpc_call_finish_code(call, RPC_UNAUTHENTICATED, "the key is missing or wrong");
	return v->known;
}

void serve_conn_closed(struct rpc_conn *conn, const char *why, void *arg)
{
	struct agent *agent = arg;
	struct vsock_conn *v = agent->vsock ? find_conn(agent, conn) : NULL;

	if (agent->session == conn)
		agent->session = NULL;
	if (v) {
		list_remove(&v->link);
		free(v);
	}
}

static void on_vsock(void *arg, int fd)
{
	struct agent *agent = arg;
	struct io_stream *stream = NULL;
	struct vsock_conn *v = calloc(1, sizeof(*v));

	if (!v) {
		safe_close(fd);
		return;
	}
	if (io_stream_new_fd(agent->loop, fd, &stream) < 0 ||
		rpc_server_add_stream(agent->server, stream, &v->conn) < 0)
		free(v);
	else
		list_add_tail(&agent->vsock_conns, &v->link);
}

int serve_vsock(struct agent *agent, unsigned port, const uint8_t *key, struct err *err)
{
	int r = 0;

	if (!agent->vsock) {
		list_init(&agent->vsock_conns);
		r = vsock_new(agent->loop, port, on_vsock, agent, &agent->vsock, err);
	}
	agent->vsock_open = !key;
	if (r == 0 && key)
		memcpy(agent->vsock_key, key, sizeof(agent->vsock_key));
	return r;
}

void serve_vsock_close(struct agent *agent)
{
	if (!agent->vsock)
		return;
	agent->vsock = vsock_free(agent->vsock);
	while (!list_empty(&agent->vsock_conns)) {
		struct vsock_conn *v = list_entry(agent->vsock_conns.next, struct vsock_conn, link);

		list_remove(&v->link);
		free(v);
	}
}

/* PID 1 */

static int pid1_start(struct pid1 *pid1, struct loop *loop, const struct cmdline *cmdline,
	void **ret_agent, struct err *err)
{
	struct agent_opts opts = { .state_dir = "/run/micropod",
		.containers_dir = "/containers",
		.cgroup_parent = "/containers",
		.pid1 = pid1 };
	struct agent *agent = NULL;
	int r;

	if (strcmp(cmdline->runtime, "builtin") == 0)
		opts.builtin = true;
	else if (cmdline->runtime[0])
		opts.runtime = cmdline->runtime;
	r = agent_new(loop, &opts, &agent, err);
	if (r == 0)
		*ret_agent = agent;
	return r;
}

static int pid1_session(void *arg, struct io_stream *stream)
{
	struct agent *agent = arg;

	/* The machine goes on: disks are mounted on one CPU while the session is made on another.
	 */
	if (agent->stage)
		launch_stage_mount(agent->stage);
	return rpc_server_add_stream(agent->server, stream, &agent->session);
}

static int pid1_listen(void *arg, struct err *err)
{
	return serve_vsock(arg, VSOCK_PORT, NULL, err);
}

static void pid1_session_end(void *arg)
{
	struct agent *agent = arg;

	if (agent->session)
		rpc_conn_close(agent->session);
	agent->session = NULL;
}

static void pid1_all_stopped(void *arg)
{
	pid1_stopped(((struct agent *)arg)->pid1);
}

static void pid1_stop(void *arg, int64_t grace_ns)
{
	agent_stop(arg, grace_ns, pid1_all_stopped, arg);
}

const struct pid1_ops serve_pid1_ops = {
	.start = pid1_start,
	.session = pid1_session,
	.session_end = pid1_session_end,
	.listen = pid1_listen,
	.stop = pid1_stop,
};

/* serve */

static void on_stopped(void *arg)
{
	struct agent *agent = arg;

	loop_stop(agent->loop, 0);
}

void serve_shutdown(struct agent *agent, int64_t grace_ns)
{
	if (!agent->stopping)
		agent_stop(agent, grace_ns, on_stopped, agent);
}

struct serve {
	struct agent *agent;
	struct loop_signals signals;
};

static void on_signal(struct loop_signals *sigs, const struct signalfd_siginfo *info)
{
	serve_shutdown(container_of(sigs, struct serve, signals)->agent, SIGTERM_GRACE);
}

struct serve_opts {
	struct agent_opts agent;
	const char *listen;
	enum log_level level;
};

static const char usage[] =
	"usage: micropod-agent serve --listen ADDRESS [--runtime crun|runc|PATH] [--state-dir DIR] "
	"[--log LEVEL]\n"
	"\n"
	"Serves the agent's API on this machine, without a VM. Needs root.\n"
	"\n"
	"  --listen unix:PATH   where to listen\n"
	"  --runtime NAME       the OCI runtime (default: crun, else runc)\n"
	"  --state-dir DIR      bundles, pid files, the runtime's state "
	"(default: " DEFAULT_STATE_DIR ")\n"
	"  --log LEVEL          error, warning, info or debug (default: warning)\n";

/* -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct serve_opts *o)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "runtime", required_argument, NULL, 'r' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "log", required_argument, NULL, 'L' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc - 1, argv + 1, "h", options, NULL)) >= 0) {
		switch (c) {
		case 'l':
			o->listen = optarg;
			break;
		case 'r':
			o->agent.runtime = optarg;
			break;
		case 's':
			o->agent.state_dir = optarg;
			break;
		case 'L':
			if (log_level_parse(optarg, &o->level) == 0)
				break;
			fprintf(stderr, "micropod-agent: --log: '%s' is no level\n", optarg);
			return 2;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc - 1 || !o->listen) {
		fprintf(stderr, "micropod-agent: serve: %s (see --help)\n",
			o->listen ? "too many words" : "--listen is missing");
		return 2;
	}
	return -1;
}

static int listen_at(struct agent *agent, const char *text, struct err *err)
{
	struct addr addr;
	int r = addr_parse(text, &addr, err);

	if (r < 0)
		return r;
	r = addr_listen(&addr, 0600, err);
	if (r < 0)
		return r;
	r = rpc_server_listen(agent->server, r);
	return r < 0 ? err_errno(err, -r, "cannot listen at '%s'", text) : 0;
}

static int run(struct serve *s, struct loop *loop, const struct serve_opts *o, struct err *err)
{
	sigset_t mask;
	int r = agent_new(loop, &o->agent, &s->agent, err);

	if (r < 0)
		return r;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	r = loop_signals_add(loop, &s->signals, &mask, on_signal);
	if (r < 0)
		return err_errno(err, -r, "cannot watch signals");
	r = listen_at(s->agent, o->listen, err);
	if (r < 0)
		return r;
	r = loop_run(loop);
	loop_signals_remove(&s->signals);
	return r < 0 ? err_errno(err, -r, "the event loop failed") : 0;
}

int serve_main(int argc, char **argv)
{
	struct serve_opts o = { .agent.state_dir = DEFAULT_STATE_DIR, .level = LOG_LEVEL_WARNING };
	auto_free char *containers = NULL;
	struct serve s = { 0 };
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	char parent[48];
	int r = parse_options(argc, argv, &o);

	if (r >= 0)
		return r;
	if (agent_seal_self(argv, &err) < 0) {
		fprintf(stderr, "micropod-agent: %s\n", err.msg);
		return 1;
	}
	log_init("agent", 2, o.level);
	snprintf(parent, sizeof(parent), "/micropod-agent-%d", (int)getpid());
	o.agent.cgroup_parent = parent;
	if (asprintf(&containers, "%s/containers", o.agent.state_dir) < 0 || loop_new(&loop) < 0) {
		fputs("micropod-agent: out of memory\n", stderr);
		return 1;
	}
	o.agent.containers_dir = containers;
	/* Containers are orphans of the runtime: they must come to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = run(&s, loop, &o, &err);
	agent_free(s.agent);
	loop_free(loop);
	cgroup_remove(parent);
	if (r < 0)
		fprintf(stderr, "micropod-agent: %s\n", err.msg);
	return r < 0 ? 1 : 0;
}
