/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "cli/target.h"

struct wanted {
	bool any;
	unsigned number;
	bool udp;
};

/* "80", "80/udp" */
static int parse(const char *word, struct wanted *w, struct err *err)
{
	auto_free char *text = strdup(word);
	char *slash = text ? strchr(text, '/') : NULL;

	if (slash)
		*slash++ = 0;
	w->udp = slash && strcmp(slash, "udp") == 0;
	if (!text || parse_uint(text, 1, 65535, &w->number) < 0 ||
		(slash && !w->udp && strcmp(slash, "tcp") != 0))
		return err_set(
			err, EINVAL, "'%.100s' is no port: give one such as 80 or 53/udp", word);
	return 0;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct wanted w = { .any = n == 1 };
	auto_sandbox struct sandbox box = { 0 };
	int r = w.any ? 0 : parse(words[1], &w, err);
	bool found = false;

	if (r == 0)
		r = target_load(cli, words[0], &box, err);
	if (r < 0)
		return r;
	for (size_t i = 0; target_alive(&box) && i < box.state.n_ports; i++) {
		const struct sandbox_port *p = &box.state.ports[i];
		const char *ip = p->host_ip[0] ? p->host_ip : "0.0.0.0";
		bool v6 = strchr(ip, ':') != NULL;

		if (!w.any && (p->guest != w.number || p->udp != w.udp))
			continue;
		found = true;
		if (w.any)
			printf("%u/%s -> ", p->guest, p->udp ? "udp" : "tcp");
		printf(v6 ? "[%s]:%u\n" : "%s:%u\n", ip, p->host);
	}
	if (!w.any && !found)
		return err_set(err, ENOENT, "sandbox '%s' has no public port for %u/%s", words[0],
			w.number, w.udp ? "udp" : "tcp");
	return 0;
}

const struct verb verb_port = {
	.name = "port",
	.remote = VERB_HERE,
	.usage = "SANDBOX [PORT[/tcp|udp]]",
	.summary = "Show where published ports of a sandbox are on the host",
	.min_words = 1,
	.max_words = 2,
	.run = run,
};
