/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/trim.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strbuf.h"

#define LOOK	    (NSEC_PER_SEC / 2) /* how often a VM that has worked is looked at */
#define LOOK_SELDOM (5 * NSEC_PER_SEC) /* one that has not */
#define IDLE_SHARE  10		       /* per cent of one CPU: below, it is idle */
#define WORKED_NS \
	(2 * NSEC_PER_SEC) /* of CPU time since the last order, that make another worth it */
/* Code that the translated enters and leaves by lies at the very begin, and stays. */
#define PROLOGUE (64 * KIB)
/* QEMU divides its buffer into parts of 2 MiB and more. Smaller ones are a library's (a regular
 * expression that was compiled, say), which keeps them. */
#define RANGE_MIN (1 * MIB)

#define MAPS_MAX     (1 * MIB) /* of /proc/PID/maps; QEMU's has 50 KB */
#define VERDICT_FILE "trim.json"
#define VERDICT_MAX  4096
#define PROBE_TIME   (10 * NSEC_PER_SEC)

struct trim {
	struct loop *loop;
	struct loop_timer timer;
	pid_t pid;
	int sock;
	int64_t seen_at;	 /* when the last look was */
	int64_t used, used_then; /* CPU time at the last look, at the last order */
	bool ordered;
};

/* "start-end rwxp offset dev inode" without a name, proc_pid_maps(5). */
static bool parse_range(const char *line, uint64_t *ret_start, uint64_t *ret_len)
{
	unsigned long long start, end, inode;
	char rights[5];
	int n = 0;

	if (sscanf(line, "%llx-%llx %4s %*x %*x:%*x %llu%n", &start, &end, rights, &inode, &n) != 4)
		return false;
	line += n + strspn(line + n, " ");
	if (strcmp(rights, "rwxp") != 0 || inode || (*line && *line != '\n') || end <= start)
		return false;
	*ret_start = start;
	*ret_len = end - start;
	return true;
}

int trim_ranges(pid_t pid, struct trim_order *ret_order)
{
	auto_free char *text = NULL;
	struct trim_order order = { 0 };
	char path[32], *save = NULL;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	r = fs_read_file(AT_FDCWD, path, MAPS_MAX, &text, NULL);
	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line && order.n < TRIM_RANGES;
		line = strtok_r(NULL, "\n", &save)) {
		uint64_t start, len;

		if (!parse_range(line, &start, &len))
			continue;
		if (len < RANGE_MIN)
			continue;
		if (!order.n) {
			start += PROLOGUE;
			len -= PROLOGUE;
		}
		order.ranges[order.n].start = start;
		order.ranges[order.n++].len = len;
	}
	*ret_order = order;
	return 0;
}

static int64_t cpu_time(pid_t pid)
{
	uint64_t user, system;

	if (proc_cpu_ticks(pid, &user, &system) < 0)
		return -1;
	return (int64_t)(user + system) * (NSEC_PER_SEC / sysconf(_SC_CLK_TCK));
}

static void order(struct trim *t)
{
	struct trim_order o;

	if (trim_ranges(t->pid, &o) == 0 && o.n &&
		send(t->sock, &o, sizeof(o), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(o)) {
		t->ordered = true;
		t->used_then = t->used;
	}
}

static void on_look(struct loop_timer *timer)
{
	struct trim *t = container_of(timer, struct trim, timer);
	int64_t now = clock_monotonic(), used = cpu_time(t->pid), took = used - t->used;
	bool idle = took * 100 < (now - t->seen_at) * IDLE_SHARE, worked;

	if (used < 0)
		return; /* it has ended */
	t->used = used;
	t->seen_at = now;
	/* The first time it has always worked: it was started. */
	worked = !t->ordered || used - t->used_then >= WORKED_NS;
	if (idle && worked)
		order(t);
	loop_timer_arm(
		t->loop, &t->timer, deadline_in(worked && !idle ? LOOK : LOOK_SELDOM), on_look);
}

int trim_new(struct loop *loop, pid_t pid, int sock, struct trim **ret_trim)
{
	struct trim *t = calloc(1, sizeof(*t));
	int r;

	if (!t) {
		safe_close(sock);
		return -ENOMEM;
	}
	*t = (struct trim){ .loop = loop, .pid = pid, .sock = sock, .seen_at = clock_monotonic() };
	r = loop_timer_arm(loop, &t->timer, deadline_in(LOOK), on_look);
	if (r < 0)
		t = trim_free(t);
	*ret_trim = t;
	return r;
}

struct trim *trim_free(struct trim *t)
{
	if (t) {
		loop_timer_disarm(&t->timer);
		safe_close(t->sock);
		free(t);
	}
	return NULL;
}

/* Whether it works at all */

static void add_identity(struct strbuf *out, const char *path)
{
	struct stat st = { 0 };

	(void)stat(path, &st); /* one that is not there is nobody's */
	strbuf_addf(out, "%s %llu:%llu %lld %lld.%09ld ", path, (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_ctim.tv_sec,
		st.st_ctim.tv_nsec);
}

/* 0, or -ENOENT if this pair has not been tried yet. */
static int recall(const char *path, const char *pair, bool *ret_loads)
{
	auto_free char *text = NULL;
	const char *kept;
	int loads, r = fs_read_file(AT_FDCWD, path, VERDICT_MAX, &text, NULL);
	json_t *root = r < 0 ? NULL : json_loads(text, 0, NULL);

	r = -ENOENT;
	if (root && json_unpack(root, "{s:s,s:b}", "pair", &kept, "loads", &loads) == 0 &&
		strcmp(kept, pair) == 0) {
		*ret_loads = loads;
		r = 0;
	}
	json_decref(root);
	return r;
}

static void remember(const char *path, const char *pair, bool loads)
{
	json_t *root = json_pack("{s:s,s:b}", "pair", pair, "loads", loads);
	auto_free char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	/* Else it is tried again the next time. */
	if (text)
		fs_replace_file(AT_FDCWD, path, text, strlen(text), 0600, false);
}

/* The plugin ends the VMM as soon as it is loaded; a VMM that cannot load it fails. */
static bool probe(const char *vmm, const char *plugin)
{
	auto_free char *option = NULL;
	auto_close int pidfd = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct pollfd poll_fd;
	int status = -1;
	pid_t pid;

	if (null < 0 || asprintf(&option, "file=%s,probe=on", plugin) < 0) {
		option = NULL;
		return false;
	}
	struct proc_opts opts = { .path = vmm,
		.argv = (char *[]){ "qemu", "-M", "none", "-nodefaults", "-no-user-config",
			"-display", "none", "-plugin", option, NULL },
		.stdin_fd = null,
		.stdout_fd = null,
		.stderr_fd = null,
		.die_with_parent = true };
	if (proc_spawn(&opts, &pid, &pidfd, NULL) < 0)
		return false;
	poll_fd = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	if (poll(&poll_fd, 1, PROBE_TIME / NSEC_PER_MSEC) != 1)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

bool trim_loads(const char *state_dir, const char *vmm, const char *plugin)
{
	auto_strbuf struct strbuf pair = STRBUF_INIT;
	auto_free char *path = NULL;
	bool loads = false;

	add_identity(&pair, vmm);
	add_identity(&pair, plugin);
	if (strbuf_error(&pair) ||
		(state_dir && asprintf(&path, "%s/" VERDICT_FILE, state_dir) < 0)) {
		path = NULL;
		return false;
	}
	if (path && recall(path, pair.data, &loads) == 0)
		return loads;
	loads = probe(vmm, plugin);
	if (!loads)
		log_info("'%s' does not load '%s': idle VMs keep their translated code", vmm,
			plugin);
	if (path)
		remember(path, pair.data, loads);
	return loads;
}
