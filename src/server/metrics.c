/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /metrics (Prometheus' text format) and /healthz, on an address of their own, for they speak
 * HTTP/1 and ask nobody for a token. One request a connection, read to its end and answered at
 * once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "io/addr.h"
#include "server/server.h"

#define REQUEST_MAX  4096
#define REQUEST_TIME (10 * NSEC_PER_SEC)
#define CLIENTS_MAX  64

struct metrics {
	struct server *server;
	struct loop_fd src;
	int fd;
	struct list clients;
	unsigned n_clients;
};

struct client {
	struct list link;
	struct metrics *metrics;
	struct loop_fd src;
	struct loop_timer timer;
	int fd;
	char request[REQUEST_MAX + 1];
	size_t len;
};

static void drop(struct client *c)
{
	list_remove(&c->link);
	c->metrics->n_clients--;
	loop_fd_remove(&c->src);
	loop_timer_disarm(&c->timer);
	safe_close(c->fd);
	free(c);
}

static uint64_t own_rss(void)
{
	auto_fclose FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long pages = 0;

	if (!f || fscanf(f, "%*u %llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void write_metrics(struct server *s, struct strbuf *out)
{
	unsigned hosts = 0, agents = 0, sandboxes = 0;
	struct remote *r;

	list_foreach (r, &s->remotes, link) {
		hosts += r->who.kind == STORE_HOST;
		agents += store_is_agent(r->who.kind);
		sandboxes += r->info ? r->info->sandboxes : 0;
	}
	strbuf_addf(out,
		"# TYPE micropod_hosts gauge\nmicropod_hosts %u\n"
		"# TYPE micropod_agents gauge\nmicropod_agents %u\n"
		"# TYPE micropod_sandboxes gauge\nmicropod_sandboxes %u\n"
		"# TYPE micropod_calls_total counter\nmicropod_calls_total %llu\n"
		"# TYPE micropod_calls_refused_total counter\nmicropod_calls_refused_total %llu\n"
		"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %llu\n",
		hosts, agents, sandboxes, (unsigned long long)s->calls,
		(unsigned long long)s->refused, (unsigned long long)own_rss());
	list_foreach (r, &s->remotes, link)
		if (r->info)
			strbuf_addf(out, "micropod_host_memory_free_bytes{host=\"%s\"} %llu\n",
				r->who.subject, (unsigned long long)r->info->memory_free_bytes);
}

static void answer(struct client *c)
{
	auto_strbuf struct strbuf body = STRBUF_INIT, all = STRBUF_INIT;
	const char *status = "200 OK";

	if (strncmp(c->request, "GET /metrics ", 13) == 0)
		write_metrics(c->metrics->server, &body);
	else if (strncmp(c->request, "GET /healthz ", 13) == 0)
		strbuf_adds(&body, "ok\n");
	else
		status = strncmp(c->request, "GET ", 4) == 0 ? "404 Not Found"
							     : "405 Method Not Allowed";
	strbuf_addf(&all,
		"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %zu\r\n"
		"Connection: close\r\n\r\n",
		status, body.len);
	strbuf_add(&all, body.data ? body.data : "", body.len);
	/* It fits a socket's buffer: who does not take it has left. */
	if (strbuf_error(&all) == 0 && send(c->fd, all.data, all.len, MSG_NOSIGNAL) >= 0)
		shutdown(c->fd, SHUT_WR);
}

static void on_request(struct loop_fd *src, uint32_t events)
{
	struct client *c = container_of(src, struct client, src);
	ssize_t n = recv(c->fd, c->request + c->len, REQUEST_MAX - c->len, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		c->len += (size_t)n;
		c->request[c->len] = 0;
		if (!strstr(c->request, "\r\n\r\n") && c->len < REQUEST_MAX)
			return;
		answer(c);
	}
	drop(c);
}

static void on_time(struct loop_timer *timer)
{
	drop(container_of(timer, struct client, timer));
}

static void on_client(struct loop_fd *src, uint32_t events)
{
	struct metrics *m = container_of(src, struct metrics, src);
	int fd = addr_accept(m->fd);
	struct client *c = fd >= 0 && m->n_clients < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		safe_close(fd);
		return;
	}
	c->metrics = m;
	c->fd = fd;
	list_add_tail(&m->clients, &c->link);
	m->n_clients++;
	if (loop_fd_add(m->server->loop, &c->src, fd, EPOLLIN, on_request) < 0 ||
		loop_timer_arm(m->server->loop, &c->timer, deadline_in(REQUEST_TIME), on_time) < 0)
		drop(c);
}

int metrics_listen(
	struct server *server, const char *address, struct metrics **ret_metrics, struct err *err)
{
	struct metrics *m = calloc(1, sizeof(*m));
	struct addr addr;
	int r = m ? addr_parse(address, &addr, err) : err_errno(err, ENOMEM, "cannot listen");

	if (r == 0)
		r = addr_listen(&addr, 0600, err);
	if (r < 0) {
		free(m);
		return r;
	}
	m->server = server;
	m->fd = r;
	list_init(&m->clients);
	r = loop_fd_add(server->loop, &m->src, m->fd, EPOLLIN, on_client);
	if (r < 0) {
		metrics_free(m);
		return err_errno(err, -r, "cannot listen at '%s'", address);
	}
	*ret_metrics = m;
	return 0;
}

struct metrics *metrics_free(struct metrics *m)
{
	if (!m)
		return NULL;
	while (!list_empty(&m->clients))
		drop(list_entry(m->clients.next, struct client, link));
	loop_fd_remove(&m->src);
	safe_close(m->fd);
	free(m);
	return NULL;
}
