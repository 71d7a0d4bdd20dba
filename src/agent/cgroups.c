/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/strbuf.h"

#define AGENT CGROUP_ROOT "/agent"

/* What the kernel never takes from the agent while a workload wants all. */
#define AGENT_MEMORY_MIN "16777216"
#define AGENT_CPU_WEIGHT "1000" /* a container's is 100 */

/* "cpu io memory" to "+cpu +io +memory". */
static int enable_all(const char *dir, const char *controllers)
{
	auto_strbuf struct strbuf words = STRBUF_INIT, path = STRBUF_INIT;
	bool begin = true;

	for (const char *c = controllers; *c && *c != '\n'; c++) {
		if (begin)
			strbuf_addc(&words, '+');
		strbuf_addc(&words, *c);
		begin = *c == ' ';
	}
	strbuf_addf(&path, "%s/cgroup.subtree_control", dir);
	if (strbuf_error(&words) < 0 || strbuf_error(&path) < 0)
		return -ENOMEM;
	return words.len ? fs_set(path.data, words.data) : 0;
}

static int make(const char *path)
{
	return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int cgroups_setup(struct err *err)
{
	auto_free char *controllers = NULL;
	size_t len;
	int r = fs_read_file(AT_FDCWD, CGROUP_ROOT "/cgroup.controllers", 4096, &controllers, &len);

	if (r == 0)
		r = enable_all(CGROUP_ROOT, controllers);
	if (r < 0)
		return err_errno(err, -r, "cannot hand down cgroup controllers");
	r = make(AGENT);
	if (r == 0)
		r = make(CGROUP_ROOT CGROUP_CONTAINERS);
	if (r == 0)
		r = enable_all(CGROUP_ROOT CGROUP_CONTAINERS, controllers);
	if (r == 0)
		r = fs_set(AGENT "/cgroup.procs", "0");
	if (r < 0)
		return err_errno(err, -r, "cannot make the cgroups");
	/* A kernel without a controller has no such file: nothing to protect with. */
	r = fs_set(AGENT "/memory.min", AGENT_MEMORY_MIN);
	if (r == 0 || r == -ENOENT)
		r = fs_set(AGENT "/cpu.weight", AGENT_CPU_WEIGHT);
	if (r < 0 && r != -ENOENT)
		return err_errno(err, -r, "cannot protect the agent's cgroup");
	r = fs_set("/proc/self/oom_score_adj", "-1000");
	return r < 0 ? err_errno(err, -r, "cannot set oom_score_adj") : 0;
}

int cgroups_unprotect_child(void)
{
	int r = fs_set("/proc/self/oom_score_adj", "0");

	return r == -EACCES ? 0 : r;
}
