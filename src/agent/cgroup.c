/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/macro.h"
#include "base/parse.h"

#define REMOVE_DEPTH 8 /* of groups within a container's */
#define MOUNT	     "/sys/fs/cgroup"
#define FILE_MAX     (64 * KIB)
#define KILL_ROUNDS  50 /* of reading a v1 group's pids, against one that forks meanwhile */
#define V1_UNLIMITED \
	((uint64_t)1 << 62) /* memory.limit_in_bytes without a limit is a little below 2^63 */

static int write_at(int dir, const char *name, const char *value)
{
	auto_close int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return -errno;
	return 0;
}

static int open_v2(struct cgroup *cg, const char *path)
{
	const char *mount =
		access(MOUNT "/cgroup.controllers", F_OK) == 0 ? MOUNT : MOUNT "/unified";

	cg->v2_root = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cg->v2_root < 0)
		return errno == ENOENT ? 0 : -errno;
	if (strcmp(path, "/") == 0)
		return 0;
	cg->dir = openat(cg->v2_root, path + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return cg->dir < 0 ? -errno : 0;
}

/* One line of proc_pid_cgroup(5): "hierarchy:controllers:path". */
static int open_line(struct cgroup *cg, char *line)
{
	char mount[128];
	char *controllers = strchr(line, ':'),
	     *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path || path[1] != '/')
		return -EPROTO;
	*controllers++ = 0;
	*path++ = 0;
	if (!*controllers)
		return open_v2(cg, path);
	if (strncmp(controllers, "name=", 5) == 0)
		controllers += 5;
	/* A hierarchy that is not mounted here cannot be joined, nor can anybody have joined it by
	 * this mount. */
	snprintf(mount, sizeof(mount), MOUNT "/%s", controllers);
	if (access(mount, F_OK) < 0)
		return 0;
	return strv_addf(&cg->v1, MOUNT "/%s%s", controllers, path);
}

int cgroup_open(struct cgroup *cg, pid_t pid)
{
	auto_free char *text = NULL;
	char path[32], *save = NULL;
	int r;

	*cg = (struct cgroup){ .dir = -1, .v2_root = -1 };
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	r = fs_read_file(AT_FDCWD, path, FILE_MAX, &text, NULL);
	for (char *line = r == 0 ? strtok_r(text, "\n", &save) : NULL; r == 0 && line;
		line = strtok_r(NULL, "\n", &save))
		r = open_line(cg, line);
	return r;
}

void cgroup_open_here(struct cgroup *cg)
{
	static const char *const controllers[] = { "memory", "cpuacct", "pids" };

	*cg = (struct cgroup){ .dir = -1, .v2_root = -1 };
	if (access(MOUNT "/cgroup.controllers", F_OK) == 0)
		cg->dir = open(MOUNT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(controllers) && cg->dir < 0; i++)
		(void)strv_addf(&cg->v1, MOUNT "/%s/", controllers[i]);
}

void cgroup_close(struct cgroup *cg)
{
	cg->dir = safe_close(cg->dir);
	cg->v2_root = safe_close(cg->v2_root);
	strv_deinit(&cg->v1);
}

int cgroup_join_v1(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->v1.n; i++) {
		auto_close int dir = open(cg->v1.v[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		int r = dir < 0 ? -errno : write_at(dir, "cgroup.procs", "0");

		if (r < 0)
			return r;
	}
	return 0;
}

/* The first v1 folder of a controller; NULL: none. */
static const char *v1_of(const struct cgroup *cg, const char *controller)
{
	char prefix[64];

	snprintf(prefix, sizeof(prefix), MOUNT "/%s/", controller);
	for (size_t i = 0; i < cg->v1.n; i++)
		if (strncmp(cg->v1.v[i], prefix, strlen(prefix)) == 0)
			return cg->v1.v[i];
	return NULL;
}

/* Kills each pid of a v1 group that is not the root's. How many there were, or -errno. */
static int kill_listed(const char *folder)
{
	auto_close int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *text = NULL;
	char *save = NULL;
	int r, n = 0;

	if (dir < 0)
		return -errno;
	r = fs_read_file(dir, "cgroup.procs", MIB, &text, NULL);
	if (r < 0)
		return r;
	for (char *word = strtok_r(text, "\n", &save); word; word = strtok_r(NULL, "\n", &save)) {
		int64_t pid;

		if (parse_i64(word, 2, INT32_MAX, &pid) == 0 && pid != getpid()) {
			kill((pid_t)pid, SIGKILL);
			n++;
		}
	}
	return n;
}

int cgroup_kill(const struct cgroup *cg)
{
	const char *folder = v1_of(cg, "pids");
	int r = -ENOENT;

	if (cg->dir >= 0)
		r = write_at(cg->dir, "cgroup.kill", "1");
	if (r == 0 || !folder || strcmp(folder, MOUNT "/pids/") == 0)
		return r;
	for (int i = 0; i < KILL_ROUNDS; i++) {
		r = kill_listed(folder);
		if (r <= 0)
			return r;
	}
	return 0;
}

int cgroup_freeze(const struct cgroup *cg, bool still)
{
	return cg->dir < 0 ? -EOPNOTSUPP : write_at(cg->dir, "cgroup.freeze", still ? "1" : "0");
}

static int each_in(int dir, unsigned depth, int (*fn)(pid_t pid, void *arg), void *arg)
{
	auto_free char *text = NULL;
	auto_closedir DIR *below = NULL;
	char *save = NULL;
	struct dirent *de;
	int fd, r = fs_read_file(dir, "cgroup.procs", FILE_MAX, &text, NULL);

	for (char *line = r == 0 ? strtok_r(text, "\n", &save) : NULL; line && r >= 0;
		line = strtok_r(NULL, "\n", &save)) {
		int64_t pid;

		if (parse_i64(line, 1, INT32_MAX, &pid) == 0)
			r = fn((pid_t)pid, arg);
	}
	fd = r < 0 || !depth ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	below = fd < 0 ? NULL : fdopendir(fd);
	while (below && r >= 0 && (de = readdir(below))) {
		auto_close int sub = -1;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		sub = openat(dir, de->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0)
			r = each_in(sub, depth - 1, fn, arg);
	}
	return r < 0 ? r : 0;
}

int cgroup_each(const struct cgroup *cg, int (*fn)(pid_t pid, void *arg), void *arg)
{
	return cg->dir < 0 ? -EOPNOTSUPP : each_in(cg->dir, REMOVE_DEPTH, fn, arg);
}

/* Reading */

/* A file of one number, of the v2 group or of a v1 controller's; 0 when it is not there, or says
 * "max". */
static uint64_t number(int dir, const char *name)
{
	auto_free char *text = NULL;
	uint64_t value = 0;

	if (dir < 0 || fs_read_file(dir, name, FILE_MAX, &text, NULL) < 0)
		return 0;
	text[strcspn(text, "\n")] = 0;
	(void)parse_u64(text, 0, UINT64_MAX, &value); /* "max" */
	return value;
}

/* The number behind key in a file of "key number" lines. */
static uint64_t keyed(int dir, const char *name, const char *key)
{
	auto_free char *text = NULL;
	uint64_t value = 0;
	size_t len = strlen(key);
	char *save = NULL;

	if (dir < 0 || fs_read_file(dir, name, FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, key, len) == 0 && line[len] == ' ' &&
			parse_u64(line + len + 1, 0, UINT64_MAX, &value) == 0)
			return value;
	return 0;
}

/* The sum of all "key=number" words of io.stat. */
static uint64_t io_sum(int dir, const char *key)
{
	auto_free char *text = NULL;
	uint64_t sum = 0, value;
	size_t len = strlen(key);
	char *save = NULL;

	if (fs_read_file(dir, "io.stat", FILE_MAX, &text, NULL) < 0)
		return 0;
	for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
		if (strncmp(word, key, len) == 0 && word[len] == '=' &&
			parse_u64(word + len + 1, 0, UINT64_MAX, &value) == 0)
			sum += value;
	return sum;
}

static int open_v1(const struct cgroup *cg, const char *controller)
{
	const char *folder = v1_of(cg, controller);

	return folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

uint64_t cgroup_oom_kills(const struct cgroup *cg)
{
	auto_close int v1 = open_v1(cg, "memory");

	return v1 >= 0 ? keyed(v1, "memory.oom_control", "oom_kill")
		       : keyed(cg->dir, "memory.events", "oom_kill");
}

static void read_v1(const struct cgroup *cg, struct cgroup_stats *s)
{
	auto_close int memory = open_v1(cg, "memory"), cpu = open_v1(cg, "cpuacct"),
		       pids = open_v1(cg, "pids");
	uint64_t inactive = keyed(memory, "memory.stat", "total_inactive_file");

	s->cpu_usage_ns = number(cpu, "cpuacct.usage");
	s->cpu_user_ns = number(cpu, "cpuacct.usage_user");
	s->cpu_system_ns = number(cpu, "cpuacct.usage_sys");
	s->memory = number(memory, "memory.usage_in_bytes");
	s->memory -= MIN(s->memory, inactive);
	s->memory_limit = number(memory, "memory.limit_in_bytes");
	if (s->memory_limit >= V1_UNLIMITED)
		s->memory_limit = 0;
	s->memory_peak = number(memory, "memory.max_usage_in_bytes");
	s->memory_cache = keyed(memory, "memory.stat", "total_cache");
	s->pids = number(pids, "pids.current");
	s->pids_limit = number(pids, "pids.max");
}

static void read_v2(int dir, struct cgroup_stats *s)
{
	uint64_t inactive = keyed(dir, "memory.stat", "inactive_file");

	s->cpu_usage_ns = keyed(dir, "cpu.stat", "usage_usec") * 1000;
	s->cpu_user_ns = keyed(dir, "cpu.stat", "user_usec") * 1000;
	s->cpu_system_ns = keyed(dir, "cpu.stat", "system_usec") * 1000;
	s->cpu_throttled_ns = keyed(dir, "cpu.stat", "throttled_usec") * 1000;
	s->memory = number(dir, "memory.current");
	s->memory -= MIN(s->memory, inactive);
	s->memory_limit = number(dir, "memory.max");
	s->memory_peak = number(dir, "memory.peak");
	s->memory_cache = keyed(dir, "memory.stat", "file");
	s->pids = number(dir, "pids.current");
	s->pids_limit = number(dir, "pids.max");
	s->io_read = io_sum(dir, "rbytes");
	s->io_write = io_sum(dir, "wbytes");
}

void cgroup_read_stats(const struct cgroup *cg, struct cgroup_stats *ret_stats)
{
	*ret_stats = (struct cgroup_stats){ .oom_kills = cgroup_oom_kills(cg) };
	if (v1_of(cg, "memory"))
		read_v1(cg, ret_stats);
	else if (cg->dir >= 0)
		read_v2(cg->dir, ret_stats);
}

/* Groups for one process and its children */

int cgroup_make_sub(const struct cgroup *cg, const char *name, int *ret_parent)
{
	auto_close int parent = -1, fd = -1;

	if (cg->dir < 0 && cg->v2_root < 0)
		return -EOPNOTSUPP;
	parent = fcntl(cg->dir >= 0 ? cg->dir : cg->v2_root, F_DUPFD_CLOEXEC, 3);
	if (parent < 0 || mkdirat(parent, name, 0755) < 0)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_parent = take_fd(&parent);
	return take_fd(&fd);
}

int cgroup_kill_sub(int fd)
{
	return write_at(fd, "cgroup.kill", "1");
}

/* rmdir with the folders below; the kernel refuses groups that somebody is in. */
static void remove_below(const char *folder, int depth)
{
	auto_closedir DIR *dir = opendir(folder);
	struct dirent *e;

	while (dir && depth && (e = readdir(dir))) {
		auto_free char *below = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (asprintf(&below, "%s/%s", folder, e->d_name) < 0) {
			below = NULL;
			return;
		}
		remove_below(below, depth - 1);
	}
	if (dir)
		rmdir(folder);
}

void cgroup_wait_empty(const char *path, int64_t deadline)
{
	char file[LIMIT_ID + 64], text[256];

	snprintf(file, sizeof(file), MOUNT "%s/cgroup.events", path);
	for (;;) {
		auto_close int fd = open(file, O_RDONLY | O_CLOEXEC);
		struct pollfd pfd = { .fd = fd, .events = POLLPRI };
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

		if (n < 0)
			return;
		text[n] = 0;
		/* The kernel tells a change from what was read (cgroup-v2.rst, "populated"). */
		if (!strstr(text, "populated 1") || clock_monotonic() >= deadline)
			return;
		poll(&pfd, 1, deadline_poll_ms(deadline));
	}
}

void cgroup_remove(const char *path)
{
	auto_closedir DIR *dir = opendir(MOUNT);
	auto_free char *own = NULL;
	struct dirent *e;

	if (asprintf(&own, MOUNT "%s", path) < 0) {
		own = NULL;
		return;
	}
	remove_below(own, REMOVE_DEPTH);
	/* Beside a group of the v2 tree these are v1 hierarchies and the unified tree. */
	while (access(MOUNT "/cgroup.controllers", F_OK) < 0 && dir && (e = readdir(dir))) {
		auto_free char *folder = NULL;

		if (e->d_name[0] == '.')
			continue;
		if (asprintf(&folder, MOUNT "/%s%s", e->d_name, path) < 0) {
			folder = NULL;
			return;
		}
		remove_below(folder, REMOVE_DEPTH);
	}
}
