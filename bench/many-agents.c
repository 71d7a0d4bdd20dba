/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many agents in one process, as far as a server can tell: each has a session of its own and
 * answers health checks. usage: many-agents URL < TOKENS (one a line). Says on stdout "all SECONDS"
 * each time that all are registered, counted from the start or from when the first of them lost its
 * session.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "tunnel/dialer.h"

#define AGENTS_MAX 4096

static struct {
	struct loop *loop;
	unsigned n, connected;
	int64_t since;
} all;

static void on_changed(void *arg, const char *why)
{
	bool *up = arg;

	if (*up == !why)
		return;
	*up = !why;
	if (why && all.connected-- == all.n)
		all.since = clock_monotonic();
	if (why || ++all.connected < all.n)
		return;
	printf("all %.3f\n", (double)(clock_monotonic() - all.since) / 1e9);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static bool up[AGENTS_MAX];
	struct tunnel_dialer_opts opts = { .api_generation = 1, .changed = on_changed };
	struct rpc_server_opts server_opts = { 0 };
	struct err err = ERR_INIT;
	struct rlimit files;
	char line[128];

	if (argc != 2 || tunnel_url_parse(argv[1], NULL, &opts.url, &err) < 0 ||
		loop_new(&all.loop) < 0) {
		fprintf(stderr, "usage: many-agents URL < TOKENS: %s\n", err.msg);
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	all.since = clock_monotonic();
	static char tokens[AGENTS_MAX][LIMIT_TUNNEL_SECRET + 1];
	while (all.n < AGENTS_MAX && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		snprintf(tokens[all.n++], sizeof(tokens[0]), "%.*s", LIMIT_TUNNEL_SECRET, line);
	}
	for (unsigned i = 0; i < all.n; i++) {
		struct tunnel_dialer *dialer;

		opts.token = tokens[i];
		opts.token_len = strlen(tokens[i]);
		opts.arg = &up[i];
		if (rpc_server_new(all.loop, &server_opts, &opts.server) < 0 ||
			tunnel_dialer_new(all.loop, &opts, &dialer) < 0)
			return 1;
	}
	return loop_run(all.loop);
}
