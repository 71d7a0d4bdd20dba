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

/* The files of a log, the oldest first, and what is there of the next record. */
struct source {
	int dir;
	int fds[LIMIT_LOG_FILES + 1];
	size_t n, at; /* the one being read */
	struct strbuf pending;
};

static void source_deinit(struct source *src)
{
	for (size_t i = 0; i < src->n; i++)
		safe_close(src->fds[i]);
	safe_close(src->dir);
	strbuf_deinit(&src->pending);
}

static int open_file(const struct source *src, unsigned number)
{
	char name[SANDBOX_LOG_NAME];
	int fd;

	sandbox_log_name(number, name);
	fd = openat(src->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* All that are there. One that is renamed meanwhile is met twice, and counts once. 0 or -errno. */
static int open_files(struct source *src)
{
	for (unsigned i = 0; i < LIMIT_LOG_FILES; i++) {
		int fd = open_file(src, i);

		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		if (src->n && same_file(fd, src->fds[0])) {
			close(fd);
			continue;
		}
		memmove(src->fds + 1, src->fds, src->n * sizeof(*src->fds));
		src->fds[0] = fd;
		src->n++;
	}
	return 0;
}

/* The one that came after the one that is followed. Its fd, -1: that is still the newest. */
static int open_newer(const struct source *src)
{
	int newer = -1;

	for (unsigned i = 0; i < LIMIT_LOG_FILES; i++) {
		auto_close int fd = open_file(src, i);

		/* The last has been removed: the oldest that is left. */
		if (fd < 0)
			break;
		if (same_file(fd, src->fds[0]))
			break;
		safe_close(newer);
		newer = take_fd(&fd);
	}
	return newer;
}

/* Calls fn for each whole record of one file that is there now. 0 or -errno. */
static int read_file(
	struct source *src, int fd, int (*fn)(const struct record *record, void *arg), void *arg)
{
	static char chunk[CHUNK];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
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

static int read_records(
	struct source *src, int (*fn)(const struct record *record, void *arg), void *arg)
{
	int r = 0;

	for (src->at = 0; r == 0 && src->at < src->n; src->at++) {
		r = read_file(src, src->fds[src->at], fn, arg);
		/* A record lies in one file. */
		if (src->at + 1 < src->n)
			strbuf_reset(&src->pending);
	}
	return r;
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
	struct source *src, const struct record_filter *filter, uint64_t tail, uint64_t *ret_skip)
{
	struct counter c = { .filter = *filter };
	int r = read_records(src, count_record, &c);

	strbuf_reset(&src->pending);
	for (size_t i = 0; r == 0 && i < src->n; i++)
		if (lseek(src->fds[i], 0, SEEK_SET) < 0)
			r = -errno;
	*ret_skip = c.lines > tail ? c.lines - tail : 0;
	return r;
}

/* Only the newest is followed. */
static void drop_old(struct source *src)
{
	for (size_t i = 0; i + 1 < src->n; i++)
		close(src->fds[i]);
	src->fds[0] = src->fds[src->n - 1];
	src->n = 1;
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

/* What has come since, in the file that was followed and in those that came after it. */
static int read_on(struct source *src, struct record_printer *printer)
{
	for (;;) {
		int newer, r = read_records(src, print_record, printer);

		if (r < 0)
			return r;
		newer = open_newer(src);
		if (newer < 0)
			return 0;
		/* What was written before it was renamed is in it now. */
		r = read_records(src, print_record, printer);
		close(src->fds[0]);
		src->fds[0] = newer;
		strbuf_reset(&src->pending);
		if (r < 0)
			return r;
	}
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
		r = read_on(src, printer);
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
	auto_free char *dir = sandbox_path(cli->root, id, NULL);
	auto_close int notify = -1;
	struct source src = { .dir = -1 };
	struct record_printer printer = { .write = write_out };
	int r = 0;

	if (!dir)
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
	src.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = src.dir < 0 ? -errno : open_files(&src);
	if (r == 0 && src.n && logs->tail != UINT64_MAX)
		r = count_skipped(&src, &printer.filter, logs->tail, &printer.skip_lines);
	if (r == 0)
		r = read_records(&src, print_record, &printer);
	if (r == 0 && src.n && logs->follow) {
		drop_old(&src);
		r = follow(cli, id, &src, &printer, notify);
	}
	source_deinit(&src);
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

static int check_driver(struct cli *cli, const char *id, struct err *err)
{
	auto_sandbox struct sandbox box = { 0 };
	int r = sandbox_load(cli->root, id, &box, err);

	if (r == 0 && box.config.log_driver && strcmp(box.config.log_driver, "none") == 0)
		r = err_set(err, ENOTSUP,
			"sandbox '%s' keeps no log: it was made with "
			"--log-driver none",
			box.config.name);
	return r;
}

static int run(struct cli *cli, const void *values, const char **words, size_t n, struct err *err)
{
	const struct logs *logs = values;
	char id[ID_LEN + 1];
	int r = sandbox_find(cli->root, words[0], id, err);

	if (r == 0 && !logs->system)
		r = check_driver(cli, id, err);
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
