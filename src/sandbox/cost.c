/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/cost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"
#include "base/proc.h"

/* The number behind a name in a file of "Name:   123 kB" lines. */
static int read_kib(const char *text, const char *name, uint64_t *ret_bytes)
{
	const char *line = strstr(text, name);
	char *end;
	unsigned long long kib;

	if (!line)
		return -EPROTO;
	line += strlen(name);
	kib = strtoull(line, &end, 10);
	if (end == line || kib > UINT64_MAX / KIB)
		return -EPROTO;
	*ret_bytes = kib * KIB;
	return 0;
}

static int add_memory(pid_t pid, struct sandbox_cost *cost)
{
	char path[40];
	auto_free char *text = NULL;
	uint64_t bytes = 0;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	r = fs_read_file(AT_FDCWD, path, 8192, &text, NULL);
	if (r == 0)
		r = read_kib(text, "\nPss:", &bytes);
	cost->memory_bytes += bytes;
	return r;
}

static int add_cpu(pid_t pid, struct sandbox_cost *cost)
{
	int64_t tick = NSEC_PER_SEC / sysconf(_SC_CLK_TCK);
	uint64_t user, system;
	int r = proc_cpu_ticks(pid, &user, &system);

	if (r == 0)
		cost->cpu_ns += (user + system) * (uint64_t)tick;
	return r;
}

/* One that has ended, and whose number may be another's now, costs nothing. */
static int add_process(pid_t pid, uint64_t start, struct sandbox_cost *cost, struct err *err)
{
	uint64_t really;
	int r;

	if (pid <= 0 || proc_start_time(pid, &really) < 0 || start != really)
		return 0;
	r = add_memory(pid, cost);
	if (r == 0)
		r = add_cpu(pid, cost);
	/* Just ended. */
	if (r == -ENOENT || r == -ESRCH)
		return 0;
	return r < 0 ? err_errno(err, -r, "cannot read what process %d costs", (int)pid) : 0;
}

int sandbox_cost(const struct sandbox_state *st, struct sandbox_cost *ret_cost, struct err *err)
{
	struct sandbox_cost cost = { 0 };
	int r = add_process(st->shim_pid, st->shim_start, &cost, err);

	if (r == 0)
		r = add_process(st->vmm_pid, st->vmm_start, &cost, err);
	if (r == 0)
		r = add_process(st->net_pid, st->net_start, &cost, err);
	for (size_t i = 0; r == 0 && i < st->helpers.n; i++) {
		unsigned long long start;
		int pid;

		if (sscanf(st->helpers.v[i], "%d %llu", &pid, &start) == 2)
			r = add_process(pid, start, &cost, err);
	}
	if (r == 0)
		*ret_cost = cost;
	return r;
}
