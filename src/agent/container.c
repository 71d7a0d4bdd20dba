/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: creating goes worker (bundle) -> runtime create -> runtime start, deleting goes
 * SIGKILL -> exit of the first process -> runtime delete -> worker (bundle); each step's callback
 * begins the next. A failed creation turns into a deletion that ends with the failure. While the
 * runtime makes a container its first process is an orphan whose pid nobody knows, hence the hold
 * on the waiter.
 */
#include "agent/container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/settings.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"
#include "io/addr.h"
#include "oci/execblob.h"
#include "oci/signal.h"

#define HOSTNAME_OF_ID 12
#define LOOK_FIRST     (NSEC_PER_MSEC / 2)
#define LOOK_MAX       (200 * NSEC_PER_MSEC)

static void step_delete(struct container *c);

struct container *container_find(const struct agent *agent, const char *id)
{
	struct container *c;

	list_foreach (c, &agent->containers, link)
		if (strcmp(c->id, id) == 0)
			return c;
	return NULL;
}

struct process *container_init(const struct container *c)
{
	return c->init.process;
}

bool container_running(const struct container *c)
{
	return c->state == CONTAINER_RUNNING;
}

const char *container_state_name(const struct container *c)
{
	static const char *const names[] = {
		[CONTAINER_CREATING] = "creating",
		[CONTAINER_CREATED] = "created",
		[CONTAINER_RUNNING] = "running",
		[CONTAINER_STOPPED] = "stopped",
		[CONTAINER_DELETING] = "deleting",
	};

	static_assert(ARRAY_SIZE(names) == CONTAINER_STATE_MAX, "a name for each state");
	return names[c->state];
}

static void close_console(struct container *c)
{
	loop_fd_remove(&c->console_src);
	c->console_fd = safe_close(c->console_fd);
	if (c->console_path)
		unlink(c->console_path);
}

static void release_hold(struct container *c)
{
	if (c->held)
		waiter_release(c->agent->waiter);
	c->held = false;
}

/* Not on the list yet. NULL: out of memory. */
static struct container *container_alloc(struct agent *agent)
{
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->agent = agent;
	c->pidfd = c->console_fd = c->mnt_fd = -1;
	c->cgroup.dir = c->cgroup.v2_root = -1;
	list_init(&c->link);
	return c;
}

static void container_free(struct container *c)
{
	struct process *p, *next;

	list_foreach_safe (p, next, &c->agent->processes.list, link)
		if (strcmp(p->container_id, c->id) == 0)
			process_delete(p);
	process_unwatch(&c->init);
	if (!list_empty(&c->link))
		c->agent->n_containers--;
	list_remove(&c->link);
	release_hold(c);
	loop_timer_disarm(&c->look);
	close_console(c);
	worker_cancel(c->worker);
	runtime_cancel(c->job);
	launch_cancel(c->launch);
	exec_cancel(c->exec);
	safe_close(c->pidfd);
	safe_close(c->mnt_fd);
	cgroup_close(&c->cgroup);
	exec_settings_deinit(&c->settings);
	strv_deinit(&c->labels);
	if (c->pid_file)
		unlink(c->pid_file);
	free(c->bundle);
	free(c->pid_file);
	free(c->console_path);
	free(c->cgroups_path);
	free(c);
}

/* Ends what is under way. */
static void finish(struct container *c, const struct failure *f)
{
	struct container_done done = c->done;

	c->done = (struct container_done){ 0 };
	if (done.fn)
		done.fn(done.arg, c, f);
}

/* Creating */

/* A creation has failed: what there is of it goes, then the failure is told. */
static void fail(
	struct container *c, enum failure_kind kind, const char *step, const struct err *err)
{
	c->failure.kind = kind;
	c->failure.err = *err;
	snprintf(c->failure.step, sizeof(c->failure.step), "%s", step);
	snprintf(c->failure.object, sizeof(c->failure.object), "%s", c->id);
	release_hold(c);
	container_kill(c);
	c->state = CONTAINER_DELETING;
	step_delete(c);
}

static void fail_runtime(struct container *c, const struct err *err)
{
	struct err e = *err;
	int code = runtime_errno(e.msg);

	if (code)
		e.code = code;
	fail(c, FAILURE_SPAWN, "execute", &e);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Which file the first process runs: the runtime's, perhaps a copy of the agent's
 * (oci/execblob.h), then the program's. -ENOENT once it has ended, even if that is not known yet.
 */
static int read_exe(const struct container *c, struct stat *ret)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)c->pid);
	return stat(path, ret) < 0 ? -errno : 0;
}

/* Whether the first process may yet become the program, or be told as ended. */
static bool undecided(const struct container *c)
{
	struct stat exe, self;

	if (container_init(c)->state == PROCESS_EXITED)
		return false;
	return read_exe(c, &exe) < 0 || same_file(&exe, &c->exe_before) ||
	       (fstat(c->agent->self_fd, &self) == 0 && same_file(&exe, &self));
}

/* The errno with which the first process ended before it became the program; 0: it did become that,
 * or still may. */
static int execution_errno(const struct container *c)
{
	const struct process *p = container_init(c);

	if (p->state != PROCESS_EXITED || p->exit.signal)
		return 0;
	/* execve(2) sets the name once nothing of it can fail any more. A runtime has looked
	 * before that the file is there and may be executed, which leaves what is in it. */
	if (*c->name_before && strcmp(p->child.name, c->name_before) == 0)
		return ENOEXEC;
	return oci_execblob_errno(p->child.name);
}

static void fail_unexecuted(struct container *c, int code)
{
	const struct strv *args = &container_init(c)->args;
	const char *name = args->n ? args->v[0] : "";
	struct err err = ERR_INIT;

	if (code == ENOEXEC)
		err_set(&err, code,
			"cannot execute '%s': its format is not known here, or its interpreter is "
			"missing",
			name);
	else
		err_errno(&err, code, "cannot execute '%s'", name);
	fail(c, FAILURE_SPAWN, "execute", &err);
}

/*
 * A runtime's start returns when it has let the first process go, a moment before that becomes the
 * program. The kernel has no event for it, so it is looked for, more and more seldom and not for
 * long.
 */
static void on_look(struct loop_timer *timer)
{
	struct container *c = container_of(timer, struct container, look);
	int code = execution_errno(c);

	if (code) {
		fail_unexecuted(c, code);
		return;
	}
	if (undecided(c) && clock_monotonic() < c->look_until) {
		c->look_every *= 2;
		loop_timer_arm(c->agent->loop, &c->look, deadline_in(c->look_every), on_look);
		return;
	}
	finish(c, NULL);
}

static void on_started(void *arg, const struct err *err)
{
	struct container *c = arg;

	c->job = NULL;
	if (err->code) {
		fail_runtime(c, err);
		return;
	}
	if (c->state == CONTAINER_CREATED) {
		/* Unless it has exited meanwhile. */
		c->state = CONTAINER_RUNNING;
		container_init(c)->state = PROCESS_RUNNING;
		process_notify(container_init(c));
	}
	c->look_every = LOOK_FIRST;
	c->look_until = deadline_in(LOOK_MAX);
	on_look(&c->look);
}

static void step_start(struct container *c)
{
	struct err err = ERR_INIT;

	container_init(c)->exit.started = clock_realtime();
	if (c->launch) {
		c->starting = true;
		launch_go(c->launch);
		return;
	}
	/* It has ended: then there is nothing to look for. */
	(void)read_exe(c, &c->exe_before);
	waiter_read_name(c->pid, c->name_before);
	container_init(c)->child.want_name = true;
	if (runtime_start(&c->agent->runtime, c->id, (struct runtime_done){ on_started, c },
		    &c->job, &err) < 0)
		fail(c, FAILURE_UNKNOWN, "start", &err);
}

static int read_pid(struct container *c, struct err *err)
{
	auto_free char *text = NULL;
	int64_t pid;
	int r = fs_read_file(AT_FDCWD, c->pid_file, 32, &text, NULL);

	if (r == 0) {
		text[strcspn(text, "\n")] = 0;
		r = parse_i64(text, 2, INT32_MAX, &pid);
	}
	if (r < 0)
		return err_errno(err, -r, "the container runtime did not tell the pid");
	c->pid = (pid_t)pid;
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0)
		return err_errno(err, errno, "cannot watch the container");
	r = cgroup_open(&c->cgroup, c->pid);
	return r < 0 ? err_errno(err, -r, "cannot find the container's cgroup") : 0;
}

static void on_init_exit(struct process *p, void *arg)
{
	struct container *c = container_find(arg, p->container_id);

	if (!c || container_init(c) != p)
		return;
	c->oom_kills = c->agent->self
			       ? cgroup_oom_kills(&c->agent->self_cgroup) - c->agent->self_oom_kills
			       : cgroup_oom_kills(&c->cgroup);
	p->exit.oom_killed = c->oom_kills > 0;
	/* What does not live in its pid namespace: one that a runtime made may share another's. */
	if (!c->builtin)
		cgroup_kill(&c->cgroup);
	if (c->state == CONTAINER_CREATED || c->state == CONTAINER_RUNNING)
		c->state = CONTAINER_STOPPED;
	else if (c->state == CONTAINER_DELETING && c->kill_wanted)
		step_delete(c);
}

static void on_console(struct loop_fd *src, uint32_t events)
{
	struct container *c = container_of(src, struct container, console_src);
	auto_close int conn = addr_accept(c->console_fd);
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char name[256];
	struct iovec iov = { name, sizeof(name) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *h;
	int fd = -1;

	if (conn < 0)
		return;
	/* The runtime sends right after it has connected; this end is in a folder that only root
	 * can enter. */
	fcntl(conn, F_SETFL, 0);
	if (recvmsg(conn, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return;
	h = CMSG_FIRSTHDR(&msg);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
		h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	if (fd >= 0 && container_init(c)->io.out[STREAMS_OUT].fd < 0) {
		streams_set_master(&container_init(c)->io, fd);
		if (container_init(c)->rows)
			streams_resize(&container_init(c)->io, container_init(c)->rows,
				container_init(c)->columns);
	} else {
		safe_close(fd);
	}
}

static void on_created(void *arg, const struct err *err)
{
	struct container *c = arg;
	struct process *p = container_init(c);
	struct err e = ERR_INIT;

	c->job = NULL;
	if (err->code) {
		fail_runtime(c, err);
		return;
	}
	if (c->console_fd >= 0)
		on_console(&c->console_src, EPOLLIN);
	close_console(c);
	if (read_pid(c, &e) < 0) {
		fail(c, FAILURE_UNKNOWN, "create", &e);
		return;
	}
	c->state = CONTAINER_CREATED;
	p->on_exit = on_init_exit;
	p->on_exit_arg = c->agent;
	process_started(p, c->pid);
	p->state = PROCESS_CREATED;
	release_hold(c);
	if (c->create_only)
		finish(c, NULL);
	else
		step_start(c);
}

/* Without a runtime */

static void on_launch_created(void *arg, struct launch_made *made)
{
	struct container *c = arg;
	struct process *p = container_init(c);
	struct err e = ERR_INIT;

	c->pid = made->pid;
	c->pidfd = made->pidfd;
	c->mnt_fd = made->mnt_fd;
	c->cgroup = made->cgroup;
	c->times = made->times;
	if (c->pidfd < 0) {
		err_errno(&e, EMFILE, "cannot watch the container");
		fail(c, FAILURE_UNKNOWN, "create", &e);
		return;
	}
	c->state = CONTAINER_CREATED;
	p->on_exit = on_init_exit;
	p->on_exit_arg = c->agent;
	if (c->create_only)
		finish(c, NULL);
	else
		step_start(c);
}

static void on_launch_done(void *arg, const struct failure *f)
{
	struct container *c = arg;
	struct process *p = container_init(c);

	c->launch = NULL;
	/* One that was killed before it was started, or is being removed, says so by its exit. */
	if (f && (c->state == CONTAINER_CREATING || c->starting)) {
		fail(c, f->kind, f->step, &f->err);
		return;
	}
	if (f)
		return;
	c->starting = false;
	c->agent->rehearsal = launch_stage_free(c->agent->rehearsal);
	if (c->state == CONTAINER_CREATED) {
		/* Unless it has exited meanwhile. */
		c->state = CONTAINER_RUNNING;
		p->state = PROCESS_RUNNING;
		process_notify(p);
	}
	finish(c, NULL);
}

static int launch(struct container *c, const API(CreateContainerRequest) * req,
	struct launch_stage *stage, struct failure *f)
{
	static const struct launch_ops ops = { on_launch_created, on_launch_done };
	const struct launch_spec spec = { .req = req,
		.id = c->id,
		.bundle = c->bundle,
		.hostname = c->hostname,
		.cgroups_path = c->cgroups_path,
		.settings = &c->settings,
		.stage = stage };
	int r = fs_make_dirs(c->bundle, 0700);

	if (r < 0) {
		launch_stage_free(stage);
		return failure_set(f, FAILURE_UNKNOWN, -r, "bundle", c->id, "cannot make '%s': %s",
			c->bundle, strerror(-r));
	}
	c->builtin = true;
	r = launch_start(container_init(c), &spec, &ops, c, &c->launch, f);
	if (r == 0 && c->agent->rehearsal)
		launch_stage_rehearse(c->agent->rehearsal);
	return r;
}

static int open_console(struct container *c, struct err *err)
{
	struct addr addr = { .kind = ADDR_UNIX };
	int r;

	if (asprintf(&c->console_path, "%s/console-%llu", c->agent->state_dir,
		    (unsigned long long)c->agent->numbers++) < 0) {
		c->console_path = NULL;
		return err_errno(err, ENOMEM, "console");
	}
	snprintf(addr.path, sizeof(addr.path), "%s", c->console_path);
	snprintf(addr.text, sizeof(addr.text), "unix:%s", c->console_path);
	c->console_fd = addr_listen(&addr, 0600, err);
	if (c->console_fd < 0)
		return c->console_fd;
	r = loop_fd_add(c->agent->loop, &c->console_src, c->console_fd, EPOLLIN, on_console);
	return r < 0 ? err_errno(err, -r, "cannot listen for the console") : 0;
}

static int step_create(struct container *c, bool blob, struct err *err)
{
	struct process *p = container_init(c);
	struct runtime_create rc = { .id = c->id,
		.bundle = c->bundle,
		.pid_file = c->pid_file,
		.blob_fd = -1,
		.self_fd = -1,
		.stdio = { p->io.child[0], p->io.child[1], p->io.child[2] } };
	auto_close int blob_fd = -1;
	auto_free char *path = NULL;
	int r = 0;

	if (blob) {
		if (asprintf(&path, "%s/" BUNDLE_BLOB, c->bundle) < 0)
			return err_errno(err, ENOMEM, "cannot create the container");
		blob_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (blob_fd < 0)
			return err_errno(err, errno, "cannot open '%s'", path);
		rc.blob_fd = blob_fd;
		rc.self_fd = c->agent->self_fd;
	}
	if (p->io.tty) {
		r = open_console(c, err);
		rc.console_socket = c->console_path;
	}
	if (r < 0)
		return r;
	c->held = true;
	waiter_hold(c->agent->waiter);
	return runtime_create(
		&c->agent->runtime, &rc, (struct runtime_done){ on_created, c }, &c->job, err);
}

static enum failure_kind kind_of(int code)
{
	switch (code) {
	case ENOENT:
		return FAILURE_NOT_FOUND;
	case EEXIST:
	case EBUSY:
		return FAILURE_CONFLICT;
	case ETIMEDOUT:
		return FAILURE_TIMEOUT;
	case EINVAL:
	case ENOTDIR:
	case E2BIG:
	case EFBIG:
		return FAILURE_INVALID;
	default:
		return FAILURE_UNKNOWN;
	}
}

static int read_config(struct container *c, struct err *err)
{
	auto_free char *path = NULL, *text = NULL;
	int r = asprintf(&path, "%s/config.json", c->bundle) < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = fs_read_file(AT_FDCWD, path, 4 * LIMIT_OCI_SPEC + LIMIT_ARGV, &text, NULL);
	return r < 0 ? err_errno(err, -r, "cannot read the bundle of '%s'", c->id)
		     : settings_from_config(text, &c->settings, err);
}

static void on_bundle(void *arg, const struct err *err, const char *result, size_t len)
{
	struct container *c = arg;
	struct bundle_result out;
	struct err e = *err;

	c->worker = NULL;
	if (!e.code && len != sizeof(out))
		err_set(&e, EPROTO, "the worker's result is broken");
	if (e.code) {
		fail(c, kind_of(e.code), "bundle", &e);
		return;
	}
	memcpy(&out, result, sizeof(out));
	if (read_config(c, &e) < 0 || step_create(c, out.blob, &e) < 0)
		fail(c, FAILURE_UNKNOWN, "create", &e);
}

static int invalid(struct failure *f, const char *field, const char *text)
{
	return failure_set(f, FAILURE_INVALID, EINVAL, field, "", "%s: %s", field, text);
}

static int check_request(
	struct agent *agent, const API(CreateContainerRequest) * req, struct failure *f)
{
	bool empty = !req->oci_spec.len && !req->n_args && !req->n_process_args && !req->pause;

	if (agent->self)
		return failure_set(f, FAILURE_CONFLICT, ENOTSUP, "state", "",
			"this agent is in a container itself and makes no others");
	if (!api_id_valid(req->container_id))
		return invalid(
			f, "container_id", "must be [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128 bytes");
	if (empty ||
		(req->n_args ? !req->args[0].len : req->n_process_args && !req->process_args[0][0]))
		return invalid(f, "args", "must name a program");
	if (req->pause && !(agent->builtin && launch_covers(req)))
		return invalid(f, "pause", "needs a container that is made without a runtime");
	for (size_t i = 0; i < req->n_args; i++)
		if (memchr(req->args[i].data, 0, req->args[i].len))
			return invalid(f, "args", "an argument with a NUL byte");
	if (req->share_ipc && !(agent->builtin && launch_covers(req)))
		return invalid(f, "share_ipc", "needs a container that is made without a runtime");
	if (req->oom_score_adj < -1000 || req->oom_score_adj > 1000)
		return invalid(f, "oom_score_adj", "-1000 to 1000");
	if (container_find(agent, req->container_id))
		return failure_set(f, FAILURE_CONFLICT, EEXIST, "container_id", req->container_id,
			"container '%s' already exists", req->container_id);
	if (!req->disks && !req->rootfs.len && !req->oci_spec.len && !*req->rootfs_path)
		return invalid(f, "rootfs_path", "must be given");
	if (strlen(req->hostname) > 64)
		return invalid(f, "hostname", "is longer than 64 bytes");
	if (agent->stopping)
		return failure_set(f, FAILURE_CONFLICT, ESHUTDOWN, "shutdown", "",
			"the agent is shutting down");
	if (agent->n_containers >= LIMIT_CONTAINERS)
		return failure_set(f, FAILURE_LIMIT, ENOSPC, "containers", "",
			"there are already %d containers", LIMIT_CONTAINERS);
	return 0;
}

static int fill(struct container *c, const API(CreateContainerRequest) * req,
	struct process_opts *po, struct strv *args, struct failure *f)
{
	struct agent *agent = c->agent;
	unsigned long long number = agent->numbers++;
	int r;

	snprintf(c->id, sizeof(c->id), "%s", req->container_id);
	if (*req->hostname)
		snprintf(c->hostname, sizeof(c->hostname), "%s", req->hostname);
	else
		snprintf(c->hostname, sizeof(c->hostname), "%.*s", HOSTNAME_OF_ID, c->id);
	c->disks = req->disks;
	c->create_only = req->create_only;
	c->created = clock_realtime();
	c->stop_signal = SIGTERM;
	if (*req->stop_signal && oci_signal_parse(req->stop_signal, &c->stop_signal) < 0)
		return invalid(f, "stop_signal", "is no signal");
	if (asprintf(&c->bundle, "%s/%s", agent->containers_dir, c->id) < 0 ||
		asprintf(&c->pid_file, "%s/pid-%llu", agent->state_dir, number) < 0 ||
		asprintf(&c->cgroups_path, "%s/%s", agent->cgroup_parent, c->id) < 0)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	for (size_t i = 0; i < req->n_labels; i++)
		if (strv_add(&c->labels, req->labels[i]->key) < 0 ||
			strv_add(&c->labels, req->labels[i]->value) < 0)
			return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	r = failure_check_labels(&c->labels, f);
	if (r < 0)
		return r;
	*po = (struct process_opts){ .container_id = c->id,
		.exec_id = "",
		.tty = req->tty,
		.open_stdin = req->open_stdin,
		.policy = req->output_policy ==
					  MICROPOD__AGENT__V1__OUTPUT_POLICY__OUTPUT_POLICY_BLOCK
				  ? RING_BLOCK
				  : RING_DROP };
	if (req->oci_spec.len) {
		r = settings_from_spec(req, &c->settings, &po->tty, args, &f->err);
	} else {
		r = agent->builtin && launch_covers(req)
			    ? launch_settings(req, c->hostname, &c->settings, &f->err)
			    : settings_from_request(req, c->hostname, &c->settings, &f->err);
		if (r == 0)
			r = launch_args(req, args, &f->err);
	}
	if (r < 0)
		f->kind = kind_of(-r);
	return r;
}

static int make_init(
	struct container *c, const API(CreateContainerRequest) * req, struct failure *f)
{
	struct process_opts po;
	auto_strv struct strv args = STRV_INIT;
	struct process *p = NULL;
	int r = fill(c, req, &po, &args, f);

	if (r < 0)
		return r;
	r = process_new(&c->agent->processes, &po, &p);
	if (r < 0)
		return failure_set(f, r == -ENOSPC ? FAILURE_LIMIT : FAILURE_UNKNOWN, -r,
			"processes", c->id, "cannot make another process: %s", strerror(-r));
	p->args = args;
	args = STRV_INIT;
	if (req->window) {
		p->rows = req->window->rows;
		p->columns = req->window->columns;
	}
	process_watch(p, &c->init, NULL);
	return 0;
}

int container_create(struct agent *agent, const API(CreateContainerRequest) * req,
	struct container_done done, struct failure *f)
{
	struct container *c;
	struct bundle b = { .req = req, .self_fd = agent->self_fd };
	struct worker_opts wo = { .run = bundle_make,
		.done = on_bundle,
		.deadline = deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC) };
	int r = check_request(agent, req, f);

	if (r < 0)
		return r;
	c = container_alloc(agent);
	if (!c)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	r = make_init(c, req, f);
	if (r == 0 && agent->builtin && launch_covers(req)) {
		r = launch(c, req, take_ptr(agent->stage), f);
	} else if (r == 0) {
		agent->stage = launch_stage_free(agent->stage);
		b.bpf = strcmp(agent->runtime.name, "crun") == 0;
		b.dir = c->bundle;
		b.cgroups_path = c->cgroups_path;
		b.hostname = c->hostname;
		wo.run_arg = &b;
		wo.arg = c;
		wo.keep_fds = &agent->self_fd;
		wo.n_keep_fds = 1;
		r = worker_start(agent->loop, agent->waiter, &wo, &c->worker, &f->err);
	}
	if (r < 0) {
		container_free(c);
		return r;
	}
	c->done = done;
	list_add_tail(&agent->containers, &c->link);
	agent->n_containers++;
	return 0;
}

/* The one that the agent is in */

static void on_taken_over(void *arg, const struct failure *f)
{
	struct container *c = arg;

	c->exec = NULL;
	if (!f) {
		c->pid = container_init(c)->pid;
		c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
		c->state = CONTAINER_RUNNING;
	}
	finish(c, f);
}

static int make_own(struct container *c, const struct container_self *self, struct failure *f)
{
	const struct process_opts po = { .container_id = self->id,
		.exec_id = "",
		.tty = self->tty,
		.open_stdin = true,
		.policy = RING_BLOCK };
	struct process *p = NULL;
	int r = settings_from_self(&c->settings, &f->err);

	if (r == 0 && (r = process_new(&c->agent->processes, &po, &p)) < 0)
		err_errno(&f->err, -r, "cannot make a process");
	if (r < 0)
		return r;
	p->rows = self->rows;
	p->columns = self->columns;
	p->on_exit = on_init_exit;
	p->on_exit_arg = c->agent;
	process_watch(p, &c->init, NULL);
	r = strv_addv(&p->args, (const char *const *)self->args->v);
	return r < 0 ? err_errno(&f->err, -r, "cannot make a process") : 0;
}

int container_take_over(struct agent *agent, const struct container_self *self,
	struct container_done done, struct failure *f)
{
	const struct exec_target target = { .self = true, .sub_cgroup = -1 };
	struct container *c = container_alloc(agent);
	int r;

	if (!c)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	c->builtin = true;
	c->stop_signal = SIGTERM;
	c->created = clock_realtime();
	snprintf(c->id, sizeof(c->id), "%s", self->id);
	r = make_own(c, self, f);
	if (r == 0)
		r = exec_start(
			container_init(c), &c->settings, &target, on_taken_over, c, &c->exec, f);
	if (r < 0) {
		container_free(c);
		return r;
	}
	c->done = done;
	list_add_tail(&agent->containers, &c->link);
	agent->n_containers++;
	return 0;
}

static int check_idle(const struct container *c, struct failure *f)
{
	if (c->worker || c->job || c->done.fn || c->state == CONTAINER_DELETING ||
		c->state == CONTAINER_CREATING)
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "state", c->id,
			"container '%s' is being created, started or removed", c->id);
	return 0;
}

int container_start(struct container *c, struct container_done done, struct failure *f)
{
	int r = check_idle(c, f);

	if (r < 0)
		return r;
	if (c->state != CONTAINER_CREATED)
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "state", c->id,
			"container '%s' is %s, not created", c->id, container_state_name(c));
	c->done = done;
	step_start(c);
	return 0;
}

/* Signals */

int container_signal(struct container *c, int signal)
{
	struct process *p = container_init(c);

	/* Our own child, which nobody but us reaps. */
	if (c->agent->self)
		return process_signal(p, signal);
	if (c->pidfd < 0 || !p || p->state == PROCESS_EXITED)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, c->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

void container_kill(struct container *c)
{
	container_signal(c, SIGKILL);
	/* As process 1 we are spared. */
	if (c->agent->self && getpid() == 1)
		kill(-1, SIGKILL);
	if (c->agent->self)
		return;
	cgroup_kill(&c->cgroup);
}

/* Deleting */

static void on_removed(void *arg, const struct err *err, const char *result, size_t len)
{
	struct container *c = arg;
	struct container_done done = c->done;
	struct failure f = c->failure;

	c->worker = NULL;
	if (err->code && !f.err.code) {
		/* It stays, stopped, so that it can be tried again. */
		failure_set(&f, FAILURE_UNKNOWN, err->code, "remove", c->id, "%s", err->msg);
		c->state = CONTAINER_STOPPED;
		finish(c, &f);
		return;
	}
	cgroup_remove(c->cgroups_path);
	container_free(c);
	if (done.fn)
		done.fn(done.arg, NULL, f.err.code ? &f : NULL);
}

static void on_deleted(void *arg, const struct err *err)
{
	struct container *c = arg;
	struct bundle_removal b = {
		.id = c->id, .dir = c->bundle, .cgroups_path = c->cgroups_path, .disks = c->disks
	};
	struct worker_opts wo = { .run = bundle_remove,
		.run_arg = &b,
		.done = on_removed,
		.arg = c,
		.deadline = deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC) };
	struct err e = ERR_INIT;

	c->job = NULL;
	if (err->code && !c->failure.err.code) {
		struct failure f = FAILURE_INIT;

		failure_set(&f, FAILURE_UNKNOWN, err->code, "delete", c->id, "%s", err->msg);
		c->state = CONTAINER_STOPPED;
		finish(c, &f);
		return;
	}
	/* The worker is then the last to have its mounts, and unmounts them by its end. */
	wo.keep_fds = &c->mnt_fd;
	wo.n_keep_fds = c->mnt_fd >= 0;
	if (worker_start(c->agent->loop, c->agent->waiter, &wo, &c->worker, &e) < 0) {
		on_removed(c, &e, NULL, 0);
		return;
	}
	c->mnt_fd = safe_close(c->mnt_fd);
}

/* The first process is gone, or never was. */
static void step_delete(struct container *c)
{
	struct err err = ERR_INIT;

	c->kill_wanted = false;
	if (c->job || c->worker)
		return;
	if (c->builtin) {
		on_deleted(c, &err);
		return;
	}
	if (runtime_delete(&c->agent->runtime, c->id, (struct runtime_done){ on_deleted, c },
		    &c->job, &err) < 0)
		on_deleted(c, &err);
}

int container_delete(struct container *c, bool force, struct container_done done, struct failure *f)
{
	int r = check_idle(c, f);
	struct process *p = container_init(c);

	if (r < 0)
		return r;
	if (c->agent->self)
		return failure_set(f, FAILURE_CONFLICT, ENOTSUP, "state", c->id,
			"the agent is in container '%s' itself and ends with it", c->id);
	if (p->pid && p->state != PROCESS_EXITED && !force)
		return failure_set(f, FAILURE_CONFLICT, EBUSY, "state", c->id,
			"container '%s' is %s: stop it first, or use force", c->id,
			container_state_name(c));
	c->done = done;
	c->failure = FAILURE_INIT;
	c->state = CONTAINER_DELETING;
	if (p->pid && p->state != PROCESS_EXITED) {
		c->kill_wanted = true;
		container_kill(c);
	} else {
		step_delete(c);
	}
	return 0;
}

void container_forget(struct container *c)
{
	container_free(c);
}

void container_forget_all(struct agent *agent)
{
	while (!list_empty(&agent->containers))
		container_free(list_entry(agent->containers.next, struct container, link));
}
