/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/strv.h"
#include "server.desc.h"
#include "server/server.h"

#define HOST(name) Micropod__Host__V1__##name
#define API(name)  Micropod__Server__V1__##name
#define ASK_TIME   (10 * NSEC_PER_SEC)

struct gather;

/* One host's answer. */
struct part {
	struct gather *gather;
	char host[STORE_SUBJECT + 1];
	HOST(ListResponse) * answer;
	bool done;
	char why[LIMIT_ERR_MESSAGE]; /* it said no */
};

struct gather {
	struct server *server;
	struct rpc_call *call; /* a reference; NULL: it is over */
	struct part *parts;
	size_t n_parts, pending;
	char word[STORE_SUBJECT + 1];
	void (*done)(struct server *server, struct rpc_call *call, const HOST(ListResponse) * all,
		const char *why);
};

/* Agents that have joined by themselves are sandboxes too, as far as they can be. */
static void fill_agent(
	const struct remote *r, HOST(Sandbox) * entry, char *config, char *state, size_t size)
{
	*entry = (HOST(Sandbox))MICROPOD__HOST__V1__SANDBOX__INIT;
	snprintf(config, size,
		"{\"id\": \"%s\", \"name\": \"%s\", \"created_ns\": %lld, \"image\": \"(agent)\"}",
		r->id, r->who.subject, (long long)r->since_ns);
	snprintf(state, size, "{\"phase\": \"running\", \"started_ns\": %lld}",
		(long long)r->since_ns);
	entry->id = (char *)r->id;
	entry->host = (char *)"";
	entry->config = (ProtobufCBinaryData){ strlen(config), (uint8_t *)config };
	entry->state = (ProtobufCBinaryData){ strlen(state), (uint8_t *)state };
}

static bool wanted(const struct remote *r, const char *word)
{
	return store_is_agent(r->who.kind) && (!*word || strcmp(r->who.subject, word) == 0 ||
						      strncmp(r->id, word, strlen(word)) == 0);
}

#define AGENT_JSON 256

static int put_together(struct gather *g, HOST(ListResponse) * all, char **ret_texts)
{
	HOST(Sandbox) * agents;
	struct remote *r;
	size_t n = 0, n_agents = 0;
	char *texts;

	for (size_t i = 0; i < g->n_parts; i++)
		n += g->parts[i].answer ? g->parts[i].answer->n_sandboxes : 0;
	list_foreach (r, &g->server->remotes, link)
		n_agents += wanted(r, g->word);
	all->sandboxes = calloc(n + n_agents + 1, sizeof(*all->sandboxes));
	all->silent = calloc(g->n_parts + 1, sizeof(*all->silent));
	texts = calloc(n_agents + 1, sizeof(*agents) + 2 * AGENT_JSON);
	*ret_texts = texts;
	if (!all->sandboxes || !all->silent || !texts)
		return -ENOMEM;
	for (size_t i = 0; i < g->n_parts; i++) {
		struct part *p = &g->parts[i];

		if (!p->answer)
			all->silent[all->n_silent++] = p->host;
		for (size_t j = 0; p->answer && j < p->answer->n_sandboxes; j++) {
			if (p->answer->sandboxes[j]->host != protobuf_c_empty_string)
				free(p->answer->sandboxes[j]->host);
			p->answer->sandboxes[j]->host = strdup(p->host);
			if (!p->answer->sandboxes[j]->host)
				return -ENOMEM;
			all->sandboxes[all->n_sandboxes++] = p->answer->sandboxes[j];
		}
	}
	agents = (HOST(Sandbox) *)(void *)texts;
	texts += (n_agents + 1) * sizeof(*agents);
	list_foreach (r, &g->server->remotes, link) {
		if (!wanted(r, g->word))
			continue;
		fill_agent(r, agents, texts, texts + AGENT_JSON, AGENT_JSON);
		all->sandboxes[all->n_sandboxes++] = agents++;
		texts += 2 * AGENT_JSON;
	}
	return 0;
}

static void finish(struct gather *g)
{
	HOST(ListResponse) all = MICROPOD__HOST__V1__LIST_RESPONSE__INIT;
	char *texts = NULL;

	if (g->pending)
		return;
	if (g->call) {
		const char *why = NULL;

		for (size_t i = 0; i < g->n_parts; i++)
			if (g->parts[i].why[0])
				why = g->parts[i].why;
		if (put_together(g, &all, &texts) < 0)
			rpc_call_finish_code(g->call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		else
			g->done(g->server, g->call, &all, why);
		rpc_call_resume(g->call);
		rpc_call_unref(g->call);
	}
	free(all.sandboxes);
	free(all.silent);
	free(texts);
	for (size_t i = 0; i < g->n_parts; i++)
		if (g->parts[i].answer)
			micropod__host__v1__list_response__free_unpacked(g->parts[i].answer, NULL);
	free(g->parts);
	free(g);
}

static void on_part(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	struct part *p = arg;

	if (!p->answer)
		p->answer = micropod__host__v1__list_response__unpack(NULL, len, raw);
}

static void on_part_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct part *p = arg;

	if (status->code == RPC_INVALID_ARGUMENT)
		snprintf(p->why, sizeof(p->why), "%s", status->message);
	else if (status->code != RPC_OK)
		log_warning("host '%s' does not say what it has: %s", p->host, status->message);
	p->gather->pending--;
	finish(p->gather);
}

static const struct rpc_call_ops part_ops = { .message = on_part, .done = on_part_done };

static void on_front_gone(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct gather *g = arg;

	g->call = rpc_call_unref(g->call);
}

static const struct rpc_call_ops front_ops = { .done = on_front_gone };

static void ask(struct remote *r, struct part *p)
{
	HOST(ListRequest) req = MICROPOD__HOST__V1__LIST_REQUEST__INIT;
	struct rpc_call_opts opts = { .deadline = deadline_in(ASK_TIME),
		.retry = RPC_RETRY_IDEMPOTENT };
	struct rpc_call *call;

	snprintf(p->host, sizeof(p->host), "%s", r->who.subject);
	req.word = p->gather->word;
	if (rpc_channel_call(r->channel, "/micropod.host.v1.Host/List", NULL, &opts, &part_ops, p,
		    &call) < 0)
		return;
	p->gather->pending++;
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

void hosts_gather(struct server *s, struct rpc_call *call, const char *word,
	void (*done)(struct server *server, struct rpc_call *call, const HOST(ListResponse) * all,
		const char *why))
{
	struct gather *g = calloc(1, sizeof(*g));
	struct remote *r;
	size_t n = 0;

	list_foreach (r, &s->remotes, link)
		n += r->who.kind == STORE_HOST;
	if (g)
		g->parts = calloc(n + 1, sizeof(*g->parts));
	if (!g || !g->parts) {
		free(g);
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	g->server = s;
	g->done = done;
	snprintf(g->word, sizeof(g->word), "%s", word);
	g->call = rpc_call_ref(call);
	rpc_call_set_ops(call, &front_ops, g);
	rpc_call_pause(call);
	/* Held until all are asked: one may answer at once that it cannot be reached. */
	g->pending = 1;
	list_foreach (r, &s->remotes, link) {
		if (r->who.kind != STORE_HOST)
			continue;
		g->parts[g->n_parts].gather = g;
		ask(r, &g->parts[g->n_parts++]);
	}
	g->pending--;
	finish(g);
}

/* Methods */

static void answer_list(
	struct server *s, struct rpc_call *call, const HOST(ListResponse) * all, const char *why)
{
	rpc_call_set_ops(call, NULL, NULL);
	if (why)
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "%s", why);
	else
		rpc_call_reply(call, &all->base);
}

static void do_list(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const HOST(ListRequest) *req = (const HOST(ListRequest) *)msg;

	if (strlen(req->word) > STORE_SUBJECT)
		rpc_call_finish_code(call, RPC_INVALID_ARGUMENT, "no such sandbox");
	else
		hosts_gather(arg, call, req->word, answer_list);
}

static void do_hosts(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	API(HostsResponse) out = MICROPOD__SERVER__V1__HOSTS_RESPONSE__INIT;
	struct server *s = arg;
	struct remote *r;
	API(HostEntry) * entries;
	size_t n = 0;

	list_foreach (r, &s->remotes, link)
		n++;
	entries = calloc(n + 1, sizeof(*entries));
	out.hosts = calloc(n + 1, sizeof(*out.hosts));
	if (!entries || !out.hosts) {
		rpc_call_finish_code(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
	} else {
		list_foreach (r, &s->remotes, link) {
			API(HostEntry) *e = &entries[out.n_hosts];

			if (r->who.kind != STORE_HOST)
				continue;
			*e = (API(HostEntry))MICROPOD__SERVER__V1__HOST_ENTRY__INIT;
			e->name = r->who.subject;
			e->since_ns = r->since_ns;
			e->info = r->info;
			out.hosts[out.n_hosts++] = e;
		}
		rpc_call_reply(call, &out.base);
	}
	free(entries);
	free(out.hosts);
}

static const struct rpc_method methods[] = {
	{ .name = "Hosts",
		.in = &micropod__server__v1__hosts_request__descriptor,
		.out = &micropod__server__v1__hosts_response__descriptor,
		.request = do_hosts },
	{ .name = "List",
		.in = &micropod__host__v1__list_request__descriptor,
		.out = &micropod__host__v1__list_response__descriptor,
		.request = do_list },
};

const struct rpc_service hosts_service = {
	.name = "micropod.server.v1.Server", .methods = methods, .n_methods = ARRAY_SIZE(methods)
};
