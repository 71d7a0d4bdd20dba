/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that run: standing still, other limits, their processes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/launch-group.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"

static struct container *find_running(struct rpc_call *call, struct agent *agent, const char *id)
{
	struct container *c = container_find(agent, id);

	if (!c)
		reply_error(call, FAILURE_NOT_FOUND, ENOENT, "container_id", id,
			"no container '%s'", id);
	else if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_CREATED) {
		reply_error(call, FAILURE_CONFLICT, EBUSY, "state", id,
			"container '%s' is not running", id);
		c = NULL;
	}
	return c;
}

static void reply_changed(struct rpc_call *call, int r, const char *id, const char *what,
	const ProtobufCMessage *answer)
{
	if (r == 0)
		rpc_call_reply(call, answer);
	else
		reply_error(call, FAILURE_UNKNOWN, -r, what, id, "cannot %s container '%s': %s",
			what, id,
			r == -EOPNOTSUPP ? "it has no cgroup of its own, of version 2"
					 : strerror(-r));
}

void service_pause_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	API(PauseContainerResponse) out = MICROPOD__AGENT__V1__PAUSE_CONTAINER_RESPONSE__INIT;
	const API(PauseContainerRequest) *req = (const void *)msg;
	struct container *c = find_running(call, agent, req->container_id);

	if (c)
		reply_changed(call, cgroup_freeze(&c->cgroup, true), c->id, "pause", &out.base);
}

void service_resume_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	API(ResumeContainerResponse) out = MICROPOD__AGENT__V1__RESUME_CONTAINER_RESPONSE__INIT;
	const API(ResumeContainerRequest) *req = (const void *)msg;
	struct container *c = find_running(call, agent, req->container_id);

	if (c)
		reply_changed(call, cgroup_freeze(&c->cgroup, false), c->id, "resume", &out.base);
}

void service_update_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	API(UpdateContainerResponse) out = MICROPOD__AGENT__V1__UPDATE_CONTAINER_RESPONSE__INIT;
	const API(UpdateContainerRequest) *req = (const void *)msg;
	struct container *c = find_running(call, agent, req->container_id);
	int r = 0;

	if (!c)
		return;
	if (c->cgroup.dir < 0)
		r = -EOPNOTSUPP;
	else if (req->resources)
		r = launch_group_limit(c->cgroup.dir, req->resources);
	reply_changed(call, r, c->id, "update", &out.base);
}

/* Tasks */

struct listing {
	API(ListTasksResponse) * out;
	pid_t self; /* of the agent's own container: not listed */
	int64_t tick_ns, booted_ns;
};

/* Each string up to the next NUL of /proc/PID/cmdline; what is longer than a command line can be
 * shown is cut. */
static int set_args(API(Task) * task, const char *folder)
{
	char path[64], text[LIMIT_TASK_ARGS + 1];
	auto_close int fd = -1;
	ssize_t n;
	size_t count = 0;

	snprintf(path, sizeof(path), "%s/cmdline", folder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, LIMIT_TASK_ARGS);
	if (n <= 0)
		return 0;
	if (text[n - 1])
		text[n++] = 0;
	for (ssize_t i = 0; i < n; i++)
		count += !text[i];
	task->args = calloc(count, sizeof(*task->args));
	for (char *p = text; task->args && p < text + n; p += strlen(p) + 1) {
		ProtobufCBinaryData *arg = &task->args[task->n_args++];

		arg->len = strlen(p);
		arg->data = (uint8_t *)strdup(p);
		if (!arg->data)
			return -ENOMEM;
	}
	return task->args ? 0 : -ENOMEM;
}

/* proc_pid_stat(5). The name may have anything in it, so it ends at the last parenthesis. */
static int set_stat(const struct listing *l, API(Task) * task, char *text)
{
	char *open = strchr(text, '('), *close = strrchr(text, ')'), state;
	unsigned long long user, system, start;
	unsigned parent, terminal;

	if (!open || !close || close < open ||
		sscanf(close + 1,
			" %c %u %*d %*d %u %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
			"%*d %llu",
			&state, &parent, &terminal, &user, &system, &start) != 6)
		return -EPROTO;
	task->parent = parent;
	task->terminal = terminal;
	task->cpu_ns = (int64_t)(user + system) * l->tick_ns;
	task->started_ns = l->booted_ns + (int64_t)start * l->tick_ns;
	task->state = strdup((char[]){ state, 0 });
	*close = 0;
	task->name.len = strlen(open + 1);
	task->name.data = (uint8_t *)strdup(open + 1);
	return task->state && task->name.data ? 0 : -ENOMEM;
}

static int add_task(pid_t pid, void *arg)
{
	struct listing *l = arg;
	auto_free char *text = NULL;
	char folder[32], path[48];
	API(Task) * task;
	struct stat st;
	int r;

	if (pid == l->self)
		return 0;
	if (l->out->n_tasks == LIMIT_TASKS) {
		l->out->cut = true;
		return 0;
	}
	snprintf(folder, sizeof(folder), "/proc/%d", (int)pid);
	snprintf(path, sizeof(path), "%s/stat", folder);
	/* Gone meanwhile. */
	if (stat(folder, &st) < 0 || fs_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	task = malloc(sizeof(*task));
	if (!task)
		return -ENOMEM;
	*task = (API(Task))MICROPOD__AGENT__V1__TASK__INIT;
	task->pid = (uint32_t)pid;
	task->uid = st.st_uid;
	r = set_stat(l, task, text);
	if (r == 0)
		r = set_args(task, folder);
	if (r < 0) {
		protobuf_c_message_free_unpacked(&task->base, NULL);
		return r;
	}
	l->out->tasks[l->out->n_tasks++] = task;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	const API(Task) *const *x = a, *const *y = b;

	return ((*x)->pid > (*y)->pid) - ((*x)->pid < (*y)->pid);
}

/* Of the container that the agent is in: all that its /proc shows. */
static int each_here(struct listing *l)
{
	auto_closedir DIR *proc = opendir("/proc");
	struct dirent *de;
	int64_t pid;
	int r = proc ? 0 : -errno;

	l->self = getpid();
	while (r == 0 && (de = readdir(proc)))
		if (parse_i64(de->d_name, 1, INT32_MAX, &pid) == 0)
			r = add_task((pid_t)pid, l);
	return r;
}

void service_list_tasks(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ListTasksRequest) *req = (const void *)msg;
	struct agent *agent = arg;
	struct container *c = find_running(call, agent, req->container_id);
	struct listing l = { .tick_ns = NSEC_PER_SEC / sysconf(_SC_CLK_TCK),
		.booted_ns = clock_realtime() - clock_now(CLOCK_BOOTTIME) };
	int r = -ENOMEM;

	if (!c)
		return;
	l.out = malloc(sizeof(*l.out));
	if (l.out) {
		*l.out = (API(ListTasksResponse))MICROPOD__AGENT__V1__LIST_TASKS_RESPONSE__INIT;
		l.out->tasks = calloc(LIMIT_TASKS, sizeof(*l.out->tasks));
	}
	if (l.out && l.out->tasks)
		r = agent->self ? each_here(&l) : cgroup_each(&c->cgroup, add_task, &l);
	if (r == 0) {
		qsort(l.out->tasks, l.out->n_tasks, sizeof(*l.out->tasks), by_pid);
		rpc_call_reply(call, &l.out->base);
	} else {
		reply_changed(call, r, c->id, "list the processes of", NULL);
	}
	if (l.out)
		protobuf_c_message_free_unpacked(&l.out->base, NULL);
}
