/* SPDX-License-Identifier: Apache-2.0 */
#include "server/token.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/id.h"
#include "server/store.h"

static const char usage[] =
	"usage: micropod token create [--data DIR] (--user NAME | --host NAME "
	"| --sandbox ID |\n"
	"                            --agent NAME [--reusable])\n"
	"       micropod token ls [--data DIR]\n"
	"       micropod token rm [--data DIR] ID...\n"
	"\n"
	"Who may use a server. The token is said once, on stdout; the server "
	"keeps a digest of it.\n"
	"\n"
	"  --user NAME     calls everything, on every host\n"
	"  --host NAME     joins as that host (micropod runner)\n"
	"  --sandbox ID    calls one sandbox, by its whole id\n"
	"  --agent NAME    joins as one agent, once (AGENT_TOKEN)\n"
	"  --reusable      again and again, for an agent that starts by itself: as long as "
	"nobody revokes\n"
	"                  it, whoever reads it may take the agent's place\n"
	"  --data DIR      the server's (MICROPOD_DATA; default: as the server's)\n";

struct args {
	const char *data, *subject;
	enum store_kind kind;
	bool reusable;
};

static int create(struct store *s, const struct args *a, struct err *err)
{
	char id[STORE_ID_LEN + 1], token[STORE_TOKEN_LEN + 1];
	int r;

	if (a->kind != STORE_SANDBOX && !name_valid(a->subject))
		return err_set(err, EINVAL,
			"'%.100s' is no name: use 2 to %d letters, digits, '_', '.', '-', the "
			"first a "
			"letter or digit",
			a->subject, LIMIT_NAME);
	if (strlen(a->subject) > STORE_SUBJECT)
		return err_set(err, EINVAL, "'%.100s' is too long", a->subject);
	r = store_make_token(s, a->kind, a->subject, id, token, err);
	if (r == 0)
		printf("%s\n", token);
	return r;
}

static const char *when(int64_t ns, char *out, size_t size)
{
	time_t sec = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm;

	if (!ns)
		return "-";
	gmtime_r(&sec, &tm);
	strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return out;
}

static int print(const struct store_token *t, void *arg)
{
	char created[32], used[32], revoked[32];

	printf("%-12s  %-7s  %-32s  %-20s  %-20s  %s\n", t->who.id, store_kind_name(t->who.kind),
		t->who.subject, when(t->created_ns, created, sizeof(created)),
		when(t->used_ns, used, sizeof(used)),
		when(t->revoked_ns, revoked, sizeof(revoked)));
	return 0;
}

static int list(struct store *s, struct err *err)
{
	printf("%-12s  %-7s  %-32s  %-20s  %-20s  %s\n", "ID", "KIND", "FOR", "CREATED", "USED",
		"REVOKED");
	return store_list(s, print, NULL, err);
}

static int revoke(struct store *s, char **ids, struct err *err)
{
	int r = 0;

	for (; *ids && r == 0; ids++) {
		r = store_revoke(s, *ids, err);
		if (r == 0)
			printf("%s\n", *ids);
	}
	return r;
}

/* -1 to go on, else the exit code. */
static int parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "user", required_argument, NULL, STORE_USER },
		{ "host", required_argument, NULL, STORE_HOST },
		{ "sandbox", required_argument, NULL, STORE_SANDBOX },
		{ "agent", required_argument, NULL, STORE_AGENT },
		{ "reusable", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (c == 'h')
			fputs(usage, stdout);
		if (c == 'h' || c == '?')
			return c == 'h' ? 0 : 125;
		if (c == 'd') {
			a->data = optarg;
		} else if (c == 'r') {
			a->reusable = true;
		} else if (a->subject) {
			fputs("micropod: token: one of --user, --host, --sandbox and --agent\n",
				stderr);
			return 125;
		} else {
			a->kind = (enum store_kind)c;
			a->subject = optarg;
		}
	}
	if (a->reusable && (!a->subject || a->kind != STORE_AGENT)) {
		fputs("micropod: token: --reusable is for --agent\n", stderr);
		return 125;
	}
	if (a->reusable)
		a->kind = STORE_AGENT_AGAIN;
	return -1;
}

int token_main(int argc, char **argv)
{
	struct args a = { .data = getenv("MICROPOD_DATA") };
	struct err err = ERR_INIT;
	struct store *store = NULL;
	const char *verb;
	int r, n;

	argv[0] = (char *)"micropod: token";
	r = parse(&a, argc, argv);
	n = argc - optind;
	if (r >= 0)
		return r;
	verb = n > 0 ? argv[optind] : "";
	if (!((strcmp(verb, "create") == 0 && a.subject && n == 1) ||
		    (strcmp(verb, "ls") == 0 && n == 1) || (strcmp(verb, "rm") == 0 && n > 1))) {
		fputs("micropod: token: give create and whom for, ls, or rm and an id (micropod "
		      "token "
		      "--help)\n",
			stderr);
		return 125;
	}
	r = store_open(a.data, &store, &err);
	if (r == 0)
		r = *verb == 'c'   ? create(store, &a, &err)
		    : *verb == 'l' ? list(store, &err)
				   : revoke(store, argv + optind + 1, &err);
	store_close(store);
	if (r < 0)
		fprintf(stderr, "micropod: %s\n", err.msg);
	return r < 0 ? 125 : 0;
}
