/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: container.log is read record by record. --tail reads it twice: once to count. With
 * -f the folder is watched (inotify) and the shim too (pidfd), because one that is killed writes no
 * last word; what is in the file when the sandbox has ended is still printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "base/proc.h"
#include "cli/record.h"
#include "cli/target.h"
#include "cli/when.h"

#define CHUNK (64 * KIB)

struct logs {
	bool follow, timestamps, system;
	uint64_t tail; /* UINT64_MAX: all */
	int64_t since_ns, until_ns;
};

static int parse_tail(const char *value, void *field, struct err *err)
{
	if (strcmp(value, "all") == 0) {
		*(uint64_t *)field = UINT64_MAX;
		return 0;
	}
	return parse_u64(value, 0, UINT64_MAX, field) < 0
		       ? err_set(err, EINVAL, "give a number of lines, or all")
		       : 0;
}

#define AT(field) offsetof(struct logs, field)
static const struct opt opts[] = {
	{ "follow", 'f', OPT_FLAG, AT(follow), NULL, "go on until the sandbox ends" },
	{ "since", 0, OPT_CALL, AT(since_ns), "TIME",
		"only from then on (2026-01-31T12:00:00Z, or 42m ago)", .parse = when_parse },
	{ "system", 0, OPT_FLAG, AT(system), NULL,
		"print the shim's log and the guest's console instead" },
	{ "tail", 'n', OPT_CALL, AT(tail), "N", "only the last N lines, or all",
		.parse = parse_tail },
	{ "timestamps", 't', OPT_FLAG, AT(timestamps), NULL, "put the time in front of each line" },
	{ "until", 0, OPT_CALL, AT(until_ns), "TIME", "only up to then", .parse = when_parse },
	{ NULL },
};
static const struct logs defaults = { .tail = UINT64_MAX };

static int write_out(bool is_stderr, const void *data, size_t n, void *arg)
{
	FILE *f = is_stderr ? stderr : stdout;

	return fwrite(data, 1, n, f) == n ? 0 : -errno;
}

/* A file of records being read: what is there of the next one. */
struct source {
	int fd;
	struct strbuf pending;
};

/* Calls fn for each whole record that is there now. 0 or -errno. */
static int read_records(
	struct source *src, int (*fn)(const struct record *record, void *arg), void *arg)
{
	static char chunk[CHUNK];
	ssize_t n;

	while ((n = read(src->fd, chunk, sizeof(chunk))) != 0) {
		size_t used = 0, searched = src->pending.len;
		char *nl;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		strbuf_add(&src->pending, chunk, (size_t)n);
		if (strbuf_error(&src->pending) < 0)
			return -ENOMEM;
		while ((nl = memchr(
				src->pending.data + searched, '\n', src->pending.len - searched))) {
			size_t end = (size_t)(nl - src->pending.data);
			struct record record;
			int r = record_parse(src->pending.data + used, end - used, &record);

			/* A crash of the host may leave a torn record: it is left out. */
			r = r < 0 ? 0 : fn(&record, arg);
			if (r < 0)
				return r;
			used = searched = end + 1;
		}
		strbuf_consume(&src->pending, used);
	}
	return 0;
}

struct counter {
	struct record_filter filter;
	uint64_t lines;
	bool inside[2];
};

static int count_record(const struct record *record, void *arg)
{
	struct counter *c = arg;

	if (!record_wanted(&c->filter, record))
		return 0;
	c->lines += !c->inside[record->is_stderr];
	c->inside[record->is_stderr] = record->partial;
	return 0;
}

static int print_record(const struct record *record, void *arg)
{
	return record_print(arg, record);
}

/* How many lines come before the last `tail` ones. */
static int count_skipped(
	int fd, const struct record_filter *filter, uint64_t tail, uint64_t *ret_skip)
{
	struct source src = { .fd = fd };
	struct counter c = { .filter = *filter };
	int r = read_records(&src, count_record, &c);

	strbuf_deinit(&src.pending);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	*ret_skip = c.lines > tail ? c.lines - tail : 0;
	return 0;
}

/* A pidfd of the shim, -1 if it is gone. */
static int watch_shim(const struct sandbox *box)
{
	uint64_t start;
	int fd =
		box->state.shim_pid > 0 ? (int)syscall(SYS_pidfd_open, box->state.shim_pid, 0) : -1;

	if (fd >= 0 && (proc_start_time(box->state.shim_pid, &start) < 0 ||
			       start != box->state.shim_start))
		fd = safe_close(fd);
	return fd;
}

/* Waits until something in the folder changes or the shim ends. */
static void wait_change(int notify, int shim)
{
	struct pollfd fds[] = { { .fd = notify, .events = POLLIN },
		{ .fd = shim, .events = POLLIN } };
	char events[4096];

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if (fds[0].revents && read(notify, events, sizeof(events)) < 0 && errno != EAGAIN)
		return;
}

static int follow(struct cli *cli, const char *id, struct source *src,
	struct record_printer *printer, int notify)
{
	for (;;) {
		struct err err = ERR_INIT;
		struct sandbox box;
		auto_close int shim = -1;
		bool alive = sandbox_load(cli->root, id, &box, &err) == 0;
		int r;

		if (alive) {
			alive = target_alive(&box);
			shim = watch_shim(&box);
			sandbox_deinit(&box);
		}
		/* What was written before the end that was just seen is in the file now. */
		r = read_records(src, print_record, printer);
		if (r < 0 || !alive || printer->past_until)
			return r;
		if (fflush(stdout) != 0)
			return -errno;
		wait_change(notify, shim);
	}
}

static int print_container_log(
	struct cli *cli, const struct logs *logs, const char *id, const char *word, struct err *err)
{
	auto_free char *path = sandbox_path(cli->root, id, "container.log"),
		       *dir = sandbox_path(cli->root, id, NULL);
	auto_close int fd = -1, notify = -1;
	struct source src = { .fd = -1 };
	struct record_printer printer = { .write = write_out };
	int r = 0;

	if (!path || !dir)
		return err_errno(err, ENOMEM, "cannot read the log of '%s'", word);
	printer.filter = (struct record_filter){ logs->since_ns, logs->until_ns, logs->timestamps };
	/* Watched before the first look, so that no change is missed. The file is there from the
	 * first start on. */
	if (logs->follow) {
		notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (notify < 0 || inotify_add_watch(notify, dir,
					  IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF |
						  IN_DELETE_SELF) < 0)
			return err_errno(err, errno, "cannot follow the log of '%s'", word);
	}
	fd = src.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0
				       : err_errno(err, errno, "cannot read the log of '%s'", word);
	if (logs->tail != UINT64_MAX)
		r = count_skipped(fd, &printer.filter, logs->tail, &printer.skip_lines);
	if (r == 0)
		r = logs->follow ? follow(cli, id, &src, &printer, notify)
				 : read_records(&src, print_record, &printer);
	strbuf_deinit(&src.pending);
	return r < 0 ? err_errno(err, -r, "cannot read the log of '%s'", word) : 0;
}

static const char *const system_logs[] = { "shim.log.1", "shim.log", "console.log.1",
	"console.log" };

static int print_file(const char *path, const char *name)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	static char chunk[CHUNK];
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	printf("==> %s <==\n", name);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		fwrite(chunk, 1, (size_t)n, stdout);
	return n < 0 ? -errno : 0;
}

static int print_system_logs(
	struct cli *cli, const struct logs *logs, const char *id, const char *word, struct err *err)
{
	if (logs->follow || logs->timestamps || logs->since_ns || logs->until_ns ||
		logs->tail != UINT64_MAX)
		return err_set(err, EINVAL,
			"option '--system' goes with no other option: its lines carry their own "
			"times");
	for (size_t i = 0; i < ARRAY_SIZE(system_logs); i++) {
		auto_free char *path = sandbox_path(cli->root, id, system_logs[i]);
		int r = path ? print_file(path, system_logs[i]) : -ENOMEM;

		if (r < 0)
			return err_errno(err, -r, "cannot read %s of '%s'", system_logs[i], word);
	}
	return 0;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct logs *logs = values;
	char id[ID_LEN + 1];
	int r = sandbox_find(cli->root, words[0], id, err);

	if (r < 0)
		return r;
	return logs->system ? print_system_logs(cli, logs, id, words[0], err)
			    : print_container_log(cli, logs, id, words[0], err);
}

const struct verb verb_logs = {
	.name = "logs",
	.remote = VERB_BY_SANDBOX,
	.usage = "[OPTIONS] SANDBOX",
	.summary = "Print what a sandbox wrote to stdout and stderr",
	.opts = opts,
	.values_size = sizeof(struct logs),
	.defaults = &defaults,
	.min_words = 1,
	.max_words = 1,
	.run = run,
};
