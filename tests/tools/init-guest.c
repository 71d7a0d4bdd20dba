/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose PID 1 is the agent's, with a session of lines in the services' place. Words are
 * separated by spaces; in them %XX is a byte, and @N is a long word. Each command is answered by
 * one line: "ok ...", or "err ..." with why.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/cgroups.h"
#include "agent/modules.h"
#include "agent/mounts.h"
#include "agent/netif.h"
#include "agent/pid1.h"
#include "agent/seal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "oci/caps.h"
#include "oci/execblob.h"
#include "oci/seccomp.h"
#include "oci/spec.h"

#define BUNDLE CONTAINERS_DIR "/c1"

struct guest {
	struct pid1 *pid1;
	struct io_stream *stream;
	struct cmdline cmdline;
	size_t len;
	char in[256 * 1024];
};

static void reply(struct guest *g, const char *data, size_t len)
{
	while (len && g->stream) {
		struct iovec iov = { (void *)data, len };
		ssize_t n = io_stream_writev(g->stream, &iov, 1);

		if (n < 0 && n != -EAGAIN)
			return;
		data += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
}

static void answer(struct guest *g, const struct err *err, const char *text)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;

	if (err->code)
		strbuf_addf(&sb, "err %s\n", err->msg);
	else
		strbuf_addf(&sb, "ok %s\n", text);
	reply(g, sb.data, sb.len);
}

static void decode(char *word)
{
	char *out = word, hex[3] = { 0 };

	for (; *word; word++) {
		if (*word == '%' && isxdigit((unsigned char)word[1]) &&
			isxdigit((unsigned char)word[2])) {
			memcpy(hex, word + 1, 2);
			*out++ = (char)strtoul(hex, NULL, 16);
			word += 2;
		} else {
			*out++ = *word;
		}
	}
	*out = '\0';
}

/* "@N" as a word: N bytes, 1 to 255 over and over, since lines from the host are short. Stays
 * allocated. */
static char *expand(char *word)
{
	size_t n = strtoul(word + 1, NULL, 10);
	char *big = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i % 255 + 1);
	big[n] = '\0';
	return big;
}

static void encode(struct strbuf *sb, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (isgraph((unsigned char)data[i]) && data[i] != '%')
			strbuf_addc(sb, data[i]);
		else
			strbuf_addf(sb, "%%%02x", (unsigned char)data[i]);
	}
}

/* root IMAGE SCRATCH|- rw|ro */
static int cmd_root(char **w, struct strbuf *out, struct err *err)
{
	struct mounts_root_disks disks = { .image_serial = w[1],
		.scratch_serial = strcmp(w[2], "-") == 0 ? NULL : w[2],
		.read_only = strcmp(w[3], "ro") == 0 };

	return mounts_container_root("c1", &disks, deadline_in(NSEC_PER_SEC), err);
}

static int cmd_unroot(char **w, struct strbuf *out, struct err *err)
{
	return mounts_container_root_remove("c1", err);
}

/* cat PATH */
static int cmd_cat(char **w, struct strbuf *out, struct err *err)
{
	auto_free char *text = NULL;
	size_t len;
	int r = fs_read_file(AT_FDCWD, w[1], MIB, &text, &len);

	if (r < 0)
		return err_errno(err, -r, "%s", w[1]);
	encode(out, text, len);
	return 0;
}

static int cmd_readlink(char **w, struct strbuf *out, struct err *err)
{
	char target[4096];
	ssize_t n = readlink(w[1], target, sizeof(target));

	if (n < 0)
		return err_errno(err, errno, "%s", w[1]);
	encode(out, target, (size_t)n);
	return 0;
}

/* net ADDRESS/PREFIX GATEWAY NAME MTU */
static int cmd_net(char **w, struct strbuf *out, struct err *err)
{
	struct netif_link link = {
		.any = true, .mtu = (unsigned)strtoul(w[4], NULL, 10), .n_addresses = 1
	};
	struct netif_route route = { 0 };
	const char *servers[] = { w[2] };

	snprintf(link.name, sizeof(link.name), "%s", w[3]);
	if (netif_parse_cidr(w[1], &link.addresses[0]) < 0 ||
		netif_parse_address(w[2], 0, &route.gateway) < 0)
		return err_set(err, EINVAL, "addresses");
	if (netif_configure(&link, 1, &route, 1, err) < 0)
		return -err->code;
	return netif_resolv_conf(RESOLV_CONF, servers, 1, NULL, 0, err);
}

static int late_modules(char **w, struct strbuf *out, struct err *err)
{
	return modules_load(MODULES_DIR, MODULES_LATE, err);
}

static int in_child(void *arg, struct err *err)
{
	int r = cgroups_unprotect_child();

	return r < 0 ? err_errno(err, -r, "oom_score_adj") : 0;
}

/* Exit code, microseconds, output of argv. */
static int run_program(
	char **argv, const int *keep, size_t n_keep, struct strbuf *out, struct err *err)
{
	auto_free char *text = NULL;
	int pipe_fds[2], status;
	struct proc_opts opts = { .path = argv[0],
		.argv = argv,
		.stdin_fd = -1,
		.keep_fds = keep,
		.n_keep_fds = n_keep,
		.in_child = in_child };
	size_t len;
	pid_t pid;
	int64_t began = clock_monotonic();

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	opts.stdout_fd = opts.stderr_fd = pipe_fds[1];
	if (proc_spawn(&opts, &pid, NULL, err) < 0)
		return -err->code;
	close(pipe_fds[1]);
	if (fd_read_all(pipe_fds[0], MIB, &text, &len) < 0)
		len = 0;
	close(pipe_fds[0]);
	waitpid(pid, &status, 0);
	strbuf_addf(out, "%d %lld ", proc_exit_code(status),
		(long long)((clock_monotonic() - began) / NSEC_PER_USEC));
	encode(out, text ? text : "", len);
	return 0;
}

/* exec PROGRAM ARG...: in the guest itself */
static int cmd_exec(char **w, struct strbuf *out, struct err *err)
{
	return run_program(w + 1, NULL, 0, out, err);
}

/* A descriptor under exactly this number. */
static void place(int fd, int at)
{
	if (fd != at) {
		dup3(fd, at, O_CLOEXEC);
		close(fd);
	}
}

/* run none|json|bpf ARG...: in a container with BUNDLE/rootfs, by the runtime of the command line
 */
static int cmd_run(char **w, struct strbuf *out, struct err *err)
{
	const struct sock_fprog *prog = oci_seccomp_default();
	const char *args[64] = { 0 }, *env[] = { "PATH=/bin:/usr/bin", "RAW=\xff", NULL },
		   *plain[] = { "PATH=/bin", NULL };
	char runtime[32], *argv[16];
	static const int keep[] = { OCI_EXEC_FD_BLOB, OCI_EXEC_FD_AGENT };
	struct oci_container c = { .args = args,
		.env = plain,
		.rootfs = BUNDLE "/rootfs",
		.caps = oci_caps_default,
		.hostname = "c1",
		.cgroups_path = "/containers/c1",
		.resources = { .pids = 100, .memory = 64 * MIB } };
	auto_oci_spec struct oci_spec spec = { 0 };
	struct guest *g = (struct guest *)(void *)w[-1];
	size_t n = 0;
	int r;

	for (; w[2 + n] && n < 63; n++)
		args[n] = w[2 + n];
	if (strchr(w[1], '+'))
		c.env = env;
	if (strncmp(w[1], "json", 4) == 0)
		c.seccomp = OCI_SECCOMP_JSON;
	if (strncmp(w[1], "bpf", 3) == 0) {
		c.seccomp = OCI_SECCOMP_BPF;
		c.seccomp_bpf = prog->filter;
		c.seccomp_bpf_len = prog->len * sizeof(*prog->filter);
	}
	r = oci_spec_make(&c, &spec, err);
	if (r == 0)
		r = fs_replace_file(
			AT_FDCWD, BUNDLE "/config.json", spec.json, spec.json_len, 0600, false);
	if (r < 0)
		return r;
	if (spec.blob) {
		int fd = memfd_create("blob", MFD_CLOEXEC);

		fd_write_full(fd, spec.blob, spec.blob_len);
		lseek(fd, 0, SEEK_SET);
		/* Numbers 3 and 4 may be in use by the agent: they are lent for the moment. */
		int saved3 = fcntl(3, F_DUPFD_CLOEXEC, 20), saved4 = fcntl(4, F_DUPFD_CLOEXEC, 20),
		    self = agent_self_fd();

		fd = fcntl(fd, F_DUPFD_CLOEXEC, 30);
		self = fcntl(self, F_DUPFD_CLOEXEC, 30);
		place(fd, OCI_EXEC_FD_BLOB);
		place(self, OCI_EXEC_FD_AGENT);
		snprintf(runtime, sizeof(runtime), "/usr/bin/%s", g->cmdline.runtime);
		memcpy(argv,
			((char *[]){ runtime, "--root", "/run/runtime", "run", "--preserve-fds",
				"2", "--bundle", BUNDLE, "c1", NULL }),
			10 * sizeof(char *));
		r = run_program(argv, keep, 2, out, err);
		place(saved3, 3);
		place(saved4, 4);
		return r;
	}
	snprintf(runtime, sizeof(runtime), "/usr/bin/%s", g->cmdline.runtime);
	memcpy(argv,
		((char *[]){
			runtime, "--root", "/run/runtime", "run", "--bundle", BUNDLE, "c1", NULL }),
		8 * sizeof(char *));
	return run_program(argv, NULL, 0, out, err);
}

static const struct {
	const char *name;
	size_t words;
	int (*fn)(char **w, struct strbuf *out, struct err *err);
} commands[] = {
	{ "root", 4, cmd_root },
	{ "unroot", 1, cmd_unroot },
	{ "cat", 2, cmd_cat },
	{ "readlink", 2, cmd_readlink },
	{ "net", 5, cmd_net },
	{ "late", 1, late_modules },
	{ "exec", 2, cmd_exec },
	{ "run", 3, cmd_run },
};

static void obey(struct guest *g, char *line)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;
	char *words[80] = { (char *)g }, **w = words + 1, *save = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;

	for (char *word = strtok_r(line, " ", &save); word && n < 78;
		word = strtok_r(NULL, " ", &save)) {
		decode(word);
		w[n++] = word[0] == '@' ? expand(word) : word;
	}
	strbuf_adds(&out, "");
	if (n && strcmp(w[0], "shutdown") == 0) {
		pid1_shutdown(g->pid1, NSEC_PER_SEC);
		return;
	}
	if (n && strcmp(w[0], "abort") == 0)
		abort();
	for (size_t i = 0; n && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(w[0], commands[i].name) == 0 && n >= commands[i].words) {
			commands[i].fn(w, &out, &err);
			answer(g, &err, out.data ? out.data : "");
			return;
		}
	}
	err_set(&err, EINVAL, "unknown command");
	answer(g, &err, "");
}

static void on_input(void *arg, uint32_t events)
{
	struct guest *g = arg;
	char *nl;
	ssize_t n;

	while (g->stream && (n = io_stream_read(g->stream, g->in + g->len,
				     sizeof(g->in) - g->len - 1)) != -EAGAIN) {
		/* As HTTP/2 would: zeros are an error. */
		if (n <= 0 || memchr(g->in + g->len, 0, (size_t)n)) {
			g->stream = io_stream_free(g->stream);
			return;
		}
		g->len += (size_t)n;
		g->in[g->len] = '\0';
		while ((nl = strchr(g->in, '\n'))) {
			size_t used = (size_t)(nl - g->in) + 1;

			*nl = '\0';
			obey(g, g->in);
			g->len -= used;
			memmove(g->in, g->in + used, g->len + 1);
		}
	}
}

static int start(struct pid1 *pid1, struct loop *loop, const struct cmdline *cmdline,
	void **ret_agent, struct err *err)
{
	static struct guest guest;

	guest.pid1 = pid1;
	guest.cmdline = *cmdline;
	*ret_agent = &guest;
	return 0;
}

static int session(void *agent, struct io_stream *stream)
{
	struct guest *g = agent;

	g->len = 0;
	g->stream = stream;
	stream->arg = g;
	stream->on_event = on_input;
	io_stream_want(stream, EPOLLIN);
	return 0;
}

static void session_end(void *agent)
{
	struct guest *g = agent;

	g->stream = io_stream_free(g->stream);
}

static void stop(void *agent, int64_t grace_ns)
{
	struct guest *g = agent;

	reply(g, "ok stopping\n", 12);
	pid1_stopped(g->pid1);
}

int main(int argc, char **argv)
{
	static const struct pid1_ops ops = {
		.start = start, .session = session, .session_end = session_end, .stop = stop
	};

	if (argc == 2 && strcmp(argv[1], "exec-blob") == 0)
		return oci_execblob_main();
	return agent_init_main(argc, argv, &ops);
}
