/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes out of the sandbox: the container's output into container.log, the guest's console
 * into console.log, and what happens when the session with the agent breaks. Nothing is buffered:
 * what was received is in the files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/trace.h"
#include "shim/crilog.h"
#include "shim/shim.h"

#define LOG_FILES 5

static int open_log(struct shim *shim, const char *name, int flags, struct err *err)
{
	int fd = openat(shim->dfd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0600);

	return fd < 0 ? err_errno(err, errno, "cannot open %s", name) : fd;
}

static bool has_no_log(const struct shim *shim)
{
	const char *driver = shim->box.config.log_driver;

	return driver && strcmp(driver, "none") == 0;
}

int shim_open_logs(struct shim *shim, struct err *err)
{
	struct stat st;

	if (has_no_log(shim))
		shim->log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	else
		shim->log_fd = open_log(shim, "container.log", 0, err);
	if (shim->log_fd < 0)
		return err->code ? shim->log_fd : err_errno(err, errno, "cannot open /dev/null");
	renameat(shim->dfd, "console.log", shim->dfd, "console.log.1");
	shim->console_fd = open_log(shim, "console.log", O_TRUNC, err);
	if (shim->console_fd < 0)
		return shim->console_fd;
	if (fstatat(shim->dfd, "shim.log", &st, 0) == 0 &&
		(uint64_t)st.st_size > LIMIT_SYSTEM_LOG) {
		auto_close int fd = -1;

		renameat(shim->dfd, "shim.log", shim->dfd, "shim.log.1");
		fd = open_log(shim, "shim.log", 0, err);
		if (fd < 0)
			return fd;
		dup2(fd, 1);
		dup2(fd, 2);
	}
	return 0;
}

void shim_console(struct shim *shim, const void *data, size_t len)
{
	struct err err = ERR_INIT;
	struct stat st;

	if (fstat(shim->console_fd, &st) == 0 && (uint64_t)st.st_size + len > LIMIT_SYSTEM_LOG) {
		renameat(shim->dfd, "console.log", shim->dfd, "console.log.1");
		safe_close(shim->console_fd);
		shim->console_fd = open_log(shim, "console.log", O_TRUNC, &err);
	}
	if (shim->console_fd >= 0 && fd_write_full(shim->console_fd, data, len) < 0)
		log_debug("console output lost");
}

static void note_offsets(struct shim *shim);

/* Before len bytes more: a full file makes room for a new one, and the oldest goes. Who follows the
 * log has it open, and reads it to its end. */
static void rotate(struct shim *shim, size_t len)
{
	const struct sandbox_config *c = &shim->box.config;
	unsigned files = c->log_files ? (unsigned)c->log_files : LOG_FILES;
	char from[SANDBOX_LOG_NAME], to[SANDBOX_LOG_NAME];
	struct err err = ERR_INIT;
	struct stat st;
	int fd;

	if (fstat(shim->log_fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
		(uint64_t)st.st_size + len <= (c->log_bytes ? c->log_bytes : LIMIT_CONTAINER_LOG))
		return;
	for (unsigned i = files - 1; i > 0; i--) {
		sandbox_log_name(i - 1, from);
		sandbox_log_name(i, to);
		renameat(shim->dfd, from, shim->dfd, to);
	}
	sandbox_log_name(0, from);
	if (files == 1)
		unlinkat(shim->dfd, from, 0);
	fd = open_log(shim, from, 0, &err);
	/* Better too long a file than none. */
	if (fd < 0) {
		log_warning("%s", err.msg);
		return;
	}
	safe_close(shim->log_fd);
	shim->log_fd = fd;
	note_offsets(shim);
}

/* As much of text as fits into the file, whole entries, and one of them at least. */
static size_t log_piece(const struct shim *shim, const char *text, size_t len)
{
	const struct sandbox_config *c = &shim->box.config;
	uint64_t room = c->log_bytes ? c->log_bytes : LIMIT_CONTAINER_LOG;
	const char *nl;

	if (len <= room)
		return len;
	nl = memrchr(text, '\n', (size_t)room);
	if (!nl)
		nl = memchr(text, '\n', len);
	return (size_t)(nl - text) + 1;
}

static void log_output(
	struct shim *shim, unsigned stream, int64_t time_ns, const void *data, size_t len)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	size_t at, n;
	int r;

	crilog_format(&sb, stream, time_ns, data, len);
	r = strbuf_error(&sb);
	for (at = 0; at < sb.len && r == 0; at += n) {
		n = log_piece(shim, sb.data + at, sb.len - at);
		rotate(shim, n);
		r = fd_write_full(shim->log_fd, sb.data + at, n);
	}
	if (r < 0)
		log_error("output of the container is lost: cannot write container.log: %s",
			strerror(-r));
}

/* How far the log is */

struct offsets {
	uint64_t size;	/* of container.log, up to which they hold */
	uint64_t at[2]; /* as shim->log_offset */
};

#define OFFSETS_FILE "container.offsets"
#define LOST_NOTE    "[micropod: "

static void note_offsets(struct shim *shim)
{
	struct offsets o = { .at = { shim->log_offset[0], shim->log_offset[1] } };
	struct stat st;

	if (shim->offsets_fd < 0)
		return;
	if (fstat(shim->log_fd, &st) == 0)
		o.size = (uint64_t)st.st_size;
	if (pwrite(shim->offsets_fd, &o, sizeof(o), 0) != sizeof(o))
		log_warning("a shim after this one may log some output twice");
}

/* What was logged and not noted any more: at most one piece, or one note of ours. */
static int count_rest(struct shim *shim, const struct offsets *o)
{
	auto_close int fd = openat(shim->dfd, "container.log", O_RDONLY | O_CLOEXEC);
	auto_free char *text = NULL;
	size_t len;
	int r = 0;

	if (fd < 0 || lseek(fd, (off_t)o->size, SEEK_SET) < 0)
		return -errno;
	r = fd_read_all(fd, 4 * LIMIT_OUTPUT_CHUNK + LIMIT_SYSTEM_LOG, &text, &len);
	if (r == 0 && !memmem(text, MIN(len, (size_t)64), LOST_NOTE, strlen(LOST_NOTE)))
		crilog_count(text, len, shim->log_offset);
	return r;
}

int shim_keep_offsets(struct shim *shim, bool again, struct err *err)
{
	struct offsets o = { 0 };
	int r = 0;

	shim->offsets_fd = openat(shim->dfd, OFFSETS_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (shim->offsets_fd < 0)
		return err_errno(err, errno, "cannot open %s", OFFSETS_FILE);
	if (again && pread(shim->offsets_fd, &o, sizeof(o), 0) == sizeof(o)) {
		memcpy(shim->log_offset, o.at, sizeof(o.at));
		r = count_rest(shim, &o);
	}
	note_offsets(shim);
	return r < 0 ? err_errno(err, -r, "cannot read the end of container.log") : 0;
}

void shim_log(struct shim *shim, unsigned stream, const void *data, size_t len)
{
	log_output(shim, stream, clock_realtime(), data, len);
	shim->log_offset[stream] += len;
	note_offsets(shim);
}

static void on_output(struct shim *shim, const Micropod__Agent__V1__Output *out)
{
	unsigned stream = out->stream == MICROPOD__AGENT__V1__STREAM__STREAM_STDERR;

	if (out->gap) {
		char note[96];
		int n = snprintf(note, sizeof(note), LOST_NOTE "%llu bytes of %s lost]\n",
			(unsigned long long)(out->gap->to - out->gap->from),
			stream ? "stderr" : "stdout");

		log_output(shim, 1, out->time_ns, note, (size_t)n);
		note_offsets(shim);
	}
	log_output(shim, stream, out->time_ns, out->data.data, out->data.len);
	shim->log_offset[stream] = out->offset + out->data.len;
	note_offsets(shim);
}

static void on_event(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
	const Micropod__Agent__V1__ProcessEvent *ev =
		(const Micropod__Agent__V1__ProcessEvent *)msg;
	struct shim *shim = arg;

	if (ev->kind_case == MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_OUTPUT)
		on_output(shim, ev->output);
	else if (ev->kind_case == MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_EXIT)
		shim_container_exited(shim, ev->exit);
	trace_step(ev->kind_case == MICROPOD__AGENT__V1__PROCESS_EVENT__KIND_EXIT
			   ? "program has ended"
			   : "output");
}

static void on_attach_done(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct shim *shim = arg;

	shim->attached = false;
	/* A container that could not be made: the answer to its creation says why. */
	if (!shim->started)
		return;
	/* A lost session comes by on_disconnect as well, and is dealt with there. */
	if (!shim->exited && !shim->ending && status->code != RPC_OK &&
		status->code != RPC_UNAVAILABLE && status->code != RPC_CANCELLED) {
		char why[LIMIT_ERR_MESSAGE];

		snprintf(why, sizeof(why), "the agent ended the output of the container: %.400s",
			status->message);
		shim_lost(shim, why);
	}
}

static const struct rpc_call_ops attach_ops = { .message = on_event, .done = on_attach_done };

void shim_attach(struct shim *shim)
{
	Micropod__Agent__V1__AttachRequest req = MICROPOD__AGENT__V1__ATTACH_REQUEST__INIT;
	struct rpc_call *call;

	req.container_id = (char *)sandbox_container_id(&shim->box.config);
	req.stdout_offset = shim->log_offset[0];
	req.stderr_offset = shim->log_offset[1];
	if (rpc_channel_call(shim->agent, "/micropod.agent.v1.Agent/Attach",
		    &micropod__agent__v1__process_event__descriptor, NULL, &attach_ops, shim,
		    &call) < 0) {
		shim_lost(shim, "out of memory");
		return;
	}
	shim->attached = true;
	rpc_call_send(call, &req.base);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

/* Lost sessions */

static int dial_once(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct shim *shim = arg;

	if (!shim->session)
		return err_set(err, EPIPE, "the session with the agent is lost");
	*ret_stream = take_ptr(shim->session);
	return 0;
}

int shim_make_channel(struct shim *shim, struct io_stream *session)
{
	struct rpc_channel_opts opts = {
		.dial = dial_once,
		.arg = shim,
		.no_redial = true,
		.on_disconnect = shim_session_lost,
		.keepalive_interval = 30 * NSEC_PER_SEC,
		.keepalive_timeout = 60 * NSEC_PER_SEC,
	};

	shim->session = session;
	return rpc_channel_new(shim->loop, &opts, &shim->agent);
}

static void on_lost_grace(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	shim->agent = rpc_channel_free(shim->agent);
	shim->backend->reconnect(shim);
}

void shim_session_lost(struct rpc_channel *channel, const char *why, void *arg)
{
	struct shim *shim = arg;
	struct err err = ERR_INIT;

	if (shim->ending || shim->gone)
		return;
	if (!shim->ready) {
		err_set(&err, EPIPE, "the session with the agent was lost during the start: %s",
			why);
		shim_lost_start(shim, &err);
		return;
	}
	log_warning("the session with the agent is lost: %s", why);
	loop_timer_arm(shim->loop, &shim->timer, deadline_in(SHIM_LOST_GRACE), on_lost_grace);
}
