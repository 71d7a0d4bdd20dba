/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the root's events.log is read line by line, the one before it first if the past is
 * asked for. The folder is watched (inotify); when the file is moved away, what is left in it is
 * read before the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/when.h"
#include "sandbox/events.h"

#define CHUNK (64 * KIB)

enum { TEXT, JSON };
static const char *const formats[] = { "text", "json", NULL };

struct events {
	int format;
	int64_t since_ns, until_ns;
	struct strv filters;
};

#define AT(field) offsetof(struct events, field)
static const struct opt opts[] = {
	{ "filter", 'f', OPT_LIST, AT(filters), "KEY=VALUE",
		"only these: container, event, image, type; of one key any, of several all" },
	{ "format", 0, OPT_WORD, AT(format), "FORMAT", "how they are shown", .words = formats },
	{ "since", 0, OPT_CALL, AT(since_ns), "TIME",
		"what has happened from then on, too (2026-01-31T12:00:00Z, or 42m ago)",
		.parse = when_parse },
	{ "until", 0, OPT_CALL, AT(until_ns), "TIME", "end then", .parse = when_parse },
	{ NULL },
};

static const char *const keys[] = { "container", "event", "image", "type" };

static int check_filters(const struct events *e, struct err *err)
{
	for (size_t i = 0; i < e->filters.n; i++) {
		const char *word = e->filters.v[i], *equals = strchr(word, '=');
		size_t len = equals ? (size_t)(equals - word) : 0, k = 0;

		while (k < ARRAY_SIZE(keys) &&
			(strlen(keys[k]) != len || strncmp(keys[k], word, len) != 0))
			k++;
		if (k == ARRAY_SIZE(keys))
			return err_set(err, EINVAL,
				"option '--filter' is '%.100s': give KEY=VALUE with one of "
				"container, event, image and type",
				word);
	}
	return 0;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* A name, an id, or the begin of one. */
static bool is_it(const json_t *event, const char *key, const char *value)
{
	const json_t *actor = json_object_get(event, "Actor");
	const json_t *attributes = json_object_get(actor, "Attributes");

	if (strcmp(key, "container") == 0)
		return strcmp(text_of(attributes, "name"), value) == 0 ||
		       (*value && strncmp(text_of(actor, "ID"), value, strlen(value)) == 0);
	if (strcmp(key, "event") == 0)
		return strcmp(text_of(event, "Action"), value) == 0;
	if (strcmp(key, "image") == 0)
		return strcmp(text_of(attributes, "image"), value) == 0;
	return strcmp(text_of(event, "Type"), value) == 0;
}

static bool passes(const struct events *e, const json_t *event)
{
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		size_t len = strlen(keys[k]);
		bool asked = false, any = false;

		for (size_t i = 0; i < e->filters.n; i++) {
			const char *word = e->filters.v[i];

			if (strncmp(word, keys[k], len) != 0 || word[len] != '=')
				continue;
			asked = true;
			any |= is_it(event, keys[k], word + len + 1);
		}
		if (asked && !any)
			return false;
	}
	return true;
}

static void print_text(const json_t *event, int64_t time_ns)
{
	const json_t *actor = json_object_get(event, "Actor");
	const char *key, *sep = "";
	json_t *value;
	char when[40];

	printf("%s %s %s %s (", output_time(time_ns, when, sizeof(when)), text_of(event, "Type"),
		text_of(event, "Action"), text_of(actor, "ID"));
	json_object_foreach(json_object_get(actor, "Attributes"), key, value)
	{
		printf("%s%s=%s", sep, key, json_string_value(value));
		sep = ", ";
	}
	fputs(")\n", stdout);
}

static void show(const struct events *e, const char *line, size_t len)
{
	json_error_t where;
	json_t *event = json_loadb(line, len, 0, &where);
	int64_t time_ns = json_integer_value(json_object_get(event, "timeNano"));

	/* The end of a full disk's last line is none. */
	if (json_is_object(event) && time_ns >= e->since_ns &&
		(!e->until_ns || time_ns <= e->until_ns) && passes(e, event)) {
		if (e->format == JSON)
			printf("%.*s\n", (int)len, line);
		else
			print_text(event, time_ns);
	}
	json_decref(event);
}

/* What is there, in whole lines; rest keeps the begin of the next. 0 or -errno. */
static int read_on(const struct events *e, int fd, struct strbuf *rest)
{
	char buf[CHUNK];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		const char *from, *end;

		strbuf_add(rest, buf, (size_t)n);
		if (strbuf_error(rest) < 0 || rest->len > LIMIT_EVENTS_LOG + CHUNK)
			return -ENOMEM;
		for (from = rest->data;
			(end = memchr(from, '\n', rest->len - (size_t)(from - rest->data)));
			from = end + 1)
			show(e, from, (size_t)(end - from));
		strbuf_consume(rest, (size_t)(from - rest->data));
	}
	return n < 0 ? -errno : 0;
}

/* Whether the name is another file's by now; it is opened then. */
static bool next_file(int dfd, int *fd)
{
	struct stat ours, there;
	int next;

	if (fstatat(dfd, EVENTS_FILE, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
		(*fd >= 0 && (fstat(*fd, &ours) < 0 || ours.st_ino == there.st_ino)))
		return false;
	next = openat(dfd, EVENTS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (next < 0)
		return false;
	safe_close(*fd);
	*fd = next;
	return true;
}

static int read_old(const struct events *e, int dfd)
{
	auto_close int fd = openat(dfd, EVENTS_OLD, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_strbuf struct strbuf rest = STRBUF_INIT;

	return fd < 0 ? 0 : read_on(e, fd, &rest);
}

static int64_t time_left(const struct events *e)
{
	int64_t left = e->until_ns - clock_realtime();

	return e->until_ns ? MAX(left, 0) : INT64_MAX;
}

/* Until something may have changed. False: it is over. */
static bool wait_for_more(const struct events *e, int watch)
{
	int64_t left = time_left(e);
	struct pollfd fds[] = { { .fd = watch, .events = POLLIN },
		/* Who reads us has gone. */
		{ .fd = STDOUT_FILENO } };
	char buf[4096];

	if (!left || ferror(stdout) || fflush(stdout) != 0)
		return false;
	if (poll(fds, 2, left == INT64_MAX ? -1 : deadline_poll_ms(deadline_in(left))) < 0)
		return errno == EINTR;
	if (fds[1].revents & (POLLERR | POLLHUP))
		return false;
	while (read(watch, buf, sizeof(buf)) > 0)
		;
	return true;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	struct events e = *(const struct events *)values;
	auto_strbuf struct strbuf rest = STRBUF_INIT;
	auto_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fd = -1;
	bool past = e.since_ns != 0;
	int dfd = cli->root->fd, r = check_filters(&e, err);

	if (r < 0)
		return r;
	if (watch < 0 || inotify_add_watch(watch, cli->root->path,
				 IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO) < 0)
		return err_errno(err, errno, "cannot watch '%s'", cli->root->path);
	if (past)
		r = read_old(&e, dfd);
	next_file(dfd, &fd);
	if (!past && fd >= 0)
		lseek(fd, 0, SEEK_END);
	do {
		do
			r = r == 0 && fd >= 0 ? read_on(&e, fd, &rest) : r;
		while (r == 0 && next_file(dfd, &fd));
	} while (r == 0 && wait_for_more(&e, watch));
	return r < 0 ? err_errno(err, -r, "cannot read '%s/%s'", cli->root->path, EVENTS_FILE) : 0;
}

const struct verb verb_events = {
	.name = "events",
	.remote = VERB_EVERYWHERE,
	.usage = "[OPTIONS]",
	.summary = "Show what happens to sandboxes, as it happens",
	.opts = opts,
	.values_size = sizeof(struct events),
	.run = run,
};
