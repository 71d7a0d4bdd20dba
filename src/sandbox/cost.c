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

int sandbox_cost(const struct sandbox_state *state, struct sandbox_cost *ret_cost, struct err *err)
{
	const struct {
		int32_t pid;
		uint64_t start;
	} all[] = {
		{ state->shim_pid, state->shim_start },
		{ state->vmm_pid, state->vmm_start },
		{ state->net_pid, state->net_start },
	};
	struct sandbox_cost cost = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		uint64_t start;
		int r;

		if (all[i].pid <= 0 || proc_start_time(all[i].pid, &start) < 0 ||
			start != all[i].start)
			continue;
		r = add_memory(all[i].pid, &cost);
		if (r == 0)
			r = add_cpu(all[i].pid, &cost);
		/* Just ended. */
		if (r == -ENOENT || r == -ESRCH)
			continue;
		if (r < 0)
			return err_errno(
				err, -r, "cannot read what process %d costs", (int)all[i].pid);
	}
	*ret_cost = cost;
	return 0;
}
