/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: each connection is one skopeo proxy at the other end of a SOCK_SEQPACKET pair. A
 * request is one JSON packet, and so is its answer, in order. A connection says Initialize and
 * OpenImage, then for one blob after the other GetBlob, whose answer carries a pipe, and at once
 * FinishPipe, which is answered when the blob is out (the proxy keeps the pipe's end open until
 * then). One poll loop drives all connections; one that gives neither byte nor answer for
 * LIMIT_FETCH_STALL is given up.
 */
#include "image/fetch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "image/json.h"

#define CONNECTIONS  3 /* as many as Docker fetches at once */
#define REPLY_MAX    (32 * KIB)
#define CHUNK	     (256 * KIB)
#define REPORT_EVERY (512 * KIB)

/* What went wrong, by what skopeo says. The first that fits counts. */
static const struct {
	const char *text;
	int code;
	const char *remedy;
} failures[] = {
	{ "unauthorized", EACCES,
		"log in with 'micropod login HOST', or check the name: registries say the same of "
		"images that do not exist" },
	{ "authentication required", EACCES,
		"log in with 'micropod login HOST', or check the name" },
	{ "denied", EACCES, "log in with 'micropod login HOST', or check the name" },
	{ "manifest unknown", ENOENT, "check name and tag" },
	{ "name unknown", ENOENT, "check name and tag" },
	{ "404 (Not Found)", ENOENT, "check name and tag" },
	{ "connection refused", EHOSTUNREACH,
		"is the registry up? mirrors and ports are set in registries.conf" },
	{ "no such host", EHOSTUNREACH, "check the registry's name and this machine's network" },
	{ "i/o timeout", EHOSTUNREACH, "check this machine's network" },
	{ "deadline exceeded", EHOSTUNREACH, "check this machine's network" },
	{ "no route to host", EHOSTUNREACH, "check this machine's network" },
	{ "network is unreachable", EHOSTUNREACH, "check this machine's network" },
	{ "server gave HTTP response", EHOSTUNREACH,
		"set insecure = true for it in registries.conf if that is meant" },
	{ "x509:", EHOSTUNREACH,
		"the registry's certificate is not trusted: add its CA, or set insecure in "
		"registries.conf" },
	{ "toomanyrequests", EAGAIN,
		"the registry limits its use: log in with 'micropod login HOST', or try again "
		"later" },
	{ "no space left on device", ENOSPC, "free some space" },
	{ "no such file or directory", ENOENT, "check the path" },
};

/* Cuts msg="..." out of a log line of skopeo's, and the prefix that repeats the name. In place. */
static char *plain_message(char *text)
{
	char *s = strstr(text, "msg=\""), *out, *start, *prefix;

	if (!s)
		return text;
	start = out = s += 5;
	for (; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
		*out++ = *s;
	}
	*out = 0;
	prefix = strstr(start, "\": ");
	return strncmp(start, "Error parsing image name", 24) == 0 && prefix ? prefix + 3 : start;
}

static int failed(struct err *err, const struct image_ref *ref, char *text)
{
	const char *why = plain_message(text);

	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		if (strstr(why, failures[i].text))
			return err_set(err, failures[i].code, "image '%.128s': %.200s: %s",
				ref->name, why, failures[i].remedy);
	return err_set(err, EIO, "image '%.128s': %.300s", ref->name, why);
}

/*
 * skopeo wants a policy.json (containers-policy.json(5)); where none is installed it is told to
 * accept anything, which is what the policy that distributions ship says too.
 */
static bool have_policy(void)
{
	const char *home = getenv("HOME");
	auto_free char *own = NULL;

	if (home && asprintf(&own, "%s/.config/containers/policy.json", home) < 0)
		own = NULL;
	return (own && access(own, R_OK) == 0) || access("/etc/containers/policy.json", R_OK) == 0;
}

/* skopeo [global options] VERB [--tls-verify=false]. Unlike podman, skopeo does not read the
 * variable itself. */
static int skopeo_argv(const struct image_ref *ref, const char *verb, struct strv *argv)
{
	const char *registries = getenv("CONTAINERS_REGISTRIES_CONF");
	int r = strv_add(argv, "skopeo");

	if (r == 0 && registries && *registries)
		r = strv_addf(argv, "--registries-conf=%s", registries);
	if (r == 0 && !have_policy())
		r = strv_add(argv, "--insecure-policy");
	if (r == 0 && strcmp(verb, "inspect") == 0)
		r = strv_add(argv, "--command-timeout=120s");
	if (r == 0)
		r = strv_add(argv, verb);
	if (r == 0 && ref->loopback)
		r = strv_add(argv, strcmp(verb, "copy") == 0 ? "--dest-tls-verify=false"
							     : "--tls-verify=false");
	return r;
}

static int no_skopeo(struct err *err)
{
	return err_set(err, ENOENT,
		"the program skopeo, which fetches images, is not installed: install the package "
		"skopeo");
}

/* Whether a search of PATH finds skopeo; otherwise "cannot execute" would be all that is said. */
static bool have_skopeo(void)
{
	const char *path = getenv("PATH");
	auto_free char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *dir;

	while (copy && (dir = strsep(&rest, ":"))) {
		auto_free char *file = NULL;

		if (asprintf(&file, "%s/skopeo", dir) < 0)
			file = NULL;
		else if (access(file, X_OK) == 0)
			return true;
	}
	return false;
}

int fetch_manifest(const struct image_ref *ref, const char *source, char **ret_raw, size_t *ret_len,
	struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	auto_free char *raw = NULL;
	struct err why = ERR_INIT;
	int r;

	if (!have_skopeo())
		return no_skopeo(err);
	if (skopeo_argv(ref, "inspect", &argv) < 0 || strv_add(&argv, "--raw") < 0 ||
		strv_add(&argv, source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	log_debug("skopeo inspect --raw %s", source);
	r = proc_run((const char *const *)strv_items(&argv), LIMIT_MANIFEST, &raw, &why);
	if (r == -EFBIG)
		return err_set(err, EFBIG, "image '%.200s': its manifest is too large", ref->name);
	if (r < 0)
		return failed(err, ref, why.msg);
	*ret_len = strlen(raw);
	*ret_raw = take_ptr(raw);
	return 0;
}

int fetch_push(const struct image_ref *ref, const char *layout, const char *blobs, struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	struct err why = ERR_INIT;
	char *reason;

	if (!have_skopeo())
		return no_skopeo(err);
	if (skopeo_argv(ref, "copy", &argv) < 0 || strv_add(&argv, "--quiet") < 0 ||
		strv_add(&argv, "--preserve-digests") < 0 ||
		strv_addf(&argv, "--src-shared-blob-dir=%s", blobs) < 0 ||
		strv_addf(&argv, "oci:%s", layout) < 0 || strv_add(&argv, ref->source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	log_debug("skopeo copy %s", ref->source);
	if (proc_run((const char *const *)strv_items(&argv), 4096, NULL, &why) == 0)
		return 0;
	/* Which blob it was about to send when it failed says nothing. */
	reason = strstr(why.msg, "at destination: ");
	return failed(err, ref, reason ? reason + strlen("at destination: ") : why.msg);
}

enum state {
	STATE_INITIALIZE,
	STATE_OPEN,
	STATE_IDLE,
	STATE_GET,
	STATE_DATA,
};

struct connection {
	enum state state;
	pid_t pid;
	int sock, data; /* data: the blob's pipe, -1 after its end */
	bool answered;	/* FinishPipe */
	json_int_t image;
	struct fetch_blob *blob;
	struct store_temp temp;
	struct digest *digest;
	int64_t deadline;
};

struct fetch {
	struct image_store *store;
	const struct fetch_opts *opts;
	struct connection conns[CONNECTIONS];
	size_t n_conns;
	uint64_t done, total, reported;
	char *buffer; /* CHUNK */
};

static void connection_close(struct connection *c)
{
	safe_close(c->sock);
	safe_close(c->data);
	store_temp_deinit(&c->temp);
	digest_free(c->digest);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

static int request(struct connection *c, json_t *args, const char *method, struct err *err)
{
	auto_json json_t *root = json_pack("{s:s, s:o}", "method", method, "args", args);
	auto_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	if (!text)
		return err_set(err, ENOMEM, "out of memory");
	c->deadline = deadline_in(LIMIT_FETCH_STALL);
	if (send(c->sock, text, strlen(text), MSG_NOSIGNAL) < 0)
		return err_errno(err, errno, "cannot talk to skopeo");
	return 0;
}

static int connection_open(struct fetch *f, struct connection *c, struct err *err)
{
	auto_strv struct strv argv = STRV_INIT;
	auto_close int theirs = -1;
	struct proc_opts opts = {
		.path = "skopeo", .stdout_fd = -1, .stderr_fd = -1, .die_with_parent = true
	};
	int fds[2];

	*c = (struct connection){ .sock = -1, .data = -1, .temp = STORE_TEMP_INIT };
	if (skopeo_argv(f->opts->ref, "experimental-image-proxy", &argv) < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, errno, "cannot make a socket");
	c->sock = fds[0];
	opts.stdin_fd = theirs = fds[1]; /* where the proxy looks for its socket by default */
	opts.argv = strv_items(&argv);
	if (proc_spawn(&opts, &c->pid, NULL, err) < 0)
		return -err->code;
	c->state = STATE_INITIALIZE;
	return request(c, json_array(), "Initialize", err);
}

static struct fetch_blob *next_blob(struct fetch *f)
{
	for (size_t i = 0; i < f->opts->n_blobs; i++)
		if (!f->opts->blobs[i].taken)
			return &f->opts->blobs[i];
	return NULL;
}

static int start_blob(struct fetch *f, struct connection *c, struct err *err)
{
	c->state = STATE_IDLE;
	c->blob = next_blob(f);
	if (!c->blob)
		return 0;
	c->blob->taken = true;
	c->state = STATE_GET;
	c->digest = digest_new();
	if (!c->digest)
		return err_set(err, ENOMEM, "out of memory");
	if (store_temp_open(f->store, &c->temp, err) < 0)
		return -err->code;
	return request(c,
		json_pack("[I, s, I]", c->image, c->blob->digest, (json_int_t)c->blob->size),
		"GetBlob", err);
}

static int finish_blob(struct fetch *f, struct connection *c, struct err *err)
{
	char actual[DIGEST_SIZE];
	int r;

	digest_finish(c->digest, actual);
	c->digest = digest_free(c->digest);
	if (c->blob->done != c->blob->size)
		return err_set(err, EBADMSG,
			"image '%.128s': blob %s has %llu bytes instead of %llu",
			f->opts->ref->name, c->blob->digest, (unsigned long long)c->blob->done,
			(unsigned long long)c->blob->size);
	if (strcmp(actual, c->blob->digest) != 0)
		return err_set(err, EBADMSG,
			"image '%.128s': blob %s came with other content (digest %s)",
			f->opts->ref->name, c->blob->digest, actual);
	r = store_temp_commit(&c->temp, f->store->blobs, digest_hex(c->blob->digest), 0400, err);
	store_temp_deinit(&c->temp);
	return r < 0 ? r : start_blob(f, c, err);
}

/* Takes what an answer means in this state. */
static int answer(struct fetch *f, struct connection *c, const json_t *root, struct err *err)
{
	json_int_t pipe_id = json_integer_value(json_object_get(root, "pipeid"));

	switch (c->state) {
	case STATE_INITIALIZE:
		c->state = STATE_OPEN;
		return request(c, json_pack("[s]", f->opts->source), "OpenImage", err);
	case STATE_OPEN:
		c->image = json_integer_value(json_object_get(root, "value"));
		return start_blob(f, c, err);
	case STATE_GET:
		if (c->data < 0)
			return err_set(err, EPROTO, "skopeo's image proxy gave no pipe");
		c->state = STATE_DATA;
		c->answered = false;
		return request(c, json_pack("[I]", pipe_id), "FinishPipe", err);
	case STATE_DATA:
		c->answered = true;
		return c->data < 0 ? finish_blob(f, c, err) : 0;
	case STATE_IDLE:
		break;
	}
	return err_set(err, EPROTO, "skopeo's image proxy answered what was not asked");
}

static int receive(struct fetch *f, struct connection *c, struct err *err)
{
	auto_free char *text = calloc(1, REPLY_MAX + 1);
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = text, .iov_len = REPLY_MAX };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	auto_json json_t *root = NULL;
	struct cmsghdr *cmsg;
	ssize_t n;
	const char *why;

	if (!text)
		return err_set(err, ENOMEM, "out of memory");
	n = recvmsg(c->sock, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return err_set(err, EIO,
			"image '%.128s': skopeo ended early; does it know experimental-image-proxy "
			"(1.5 and later)?",
			f->opts->ref->name);
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS && cmsg->cmsg_len == CMSG_LEN(sizeof(int))) {
		safe_close(c->data);
		memcpy(&c->data, CMSG_DATA(cmsg), sizeof(int));
		fd_set_nonblock(c->data, true);
	}
	root = json_loadb(text, (size_t)n, 0, NULL);
	if (!json_is_true(json_object_get(root, "success"))) {
		why = json_string_value(json_object_get(root, "error"));
		snprintf(text, REPLY_MAX, "%s%s%s", c->blob ? c->blob->digest : "",
			c->blob ? ": " : "", why ? why : "skopeo's image proxy failed");
		return failed(err, f->opts->ref, text);
	}
	c->deadline = deadline_in(LIMIT_FETCH_STALL);
	return answer(f, c, root, err);
}

static void report(struct fetch *f, const struct fetch_blob *blob)
{
	struct image_progress layer = { IMAGE_PHASE_LAYER, blob->digest, blob->done, blob->size };
	struct image_progress all = { IMAGE_PHASE_DOWNLOAD, f->opts->ref->name, f->done, f->total };

	if (!f->opts->progress)
		return;
	f->opts->progress(f->opts->progress_arg, &layer);
	f->opts->progress(f->opts->progress_arg, &all);
}

static int read_data(struct fetch *f, struct connection *c, struct err *err)
{
	ssize_t n = read(c->data, f->buffer, CHUNK);
	int r;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0)
		return err_errno(err, errno, "cannot read from skopeo");
	if (n == 0) {
		c->data = safe_close(c->data);
		return c->answered ? finish_blob(f, c, err) : 0;
	}
	c->deadline = deadline_in(LIMIT_FETCH_STALL);
	c->blob->done += (uint64_t)n;
	if (c->blob->done > c->blob->size)
		return err_set(err, EBADMSG,
			"image '%.128s': blob %s is longer than its manifest says",
			f->opts->ref->name, c->blob->digest);
	digest_update(c->digest, f->buffer, (size_t)n);
	r = fd_write_full(c->temp.fd, f->buffer, (size_t)n);
	if (r < 0)
		return err_errno(err, -r, "cannot write to '%s'", f->store->dir);
	f->done += (uint64_t)n;
	if (f->done - f->reported >= REPORT_EVERY || c->blob->done == c->blob->size) {
		f->reported = f->done;
		report(f, c->blob);
	}
	return 0;
}

static bool busy(const struct fetch *f)
{
	for (size_t i = 0; i < f->n_conns; i++)
		if (f->conns[i].state != STATE_IDLE)
			return true;
	return false;
}

static int serve(struct fetch *f, struct connection *c, const struct pollfd *pfds, struct err *err)
{
	int r = 0;

	if (c->state == STATE_IDLE)
		return 0;
	if (pfds[1].revents)
		r = read_data(f, c, err);
	if (r == 0 && pfds[0].revents)
		r = receive(f, c, err);
	if (r == 0 && c->state != STATE_IDLE && clock_monotonic() >= c->deadline)
		r = err_set(err, ETIMEDOUT,
			"image '%.128s': nothing came from the registry for %d s",
			f->opts->ref->name, (int)(LIMIT_FETCH_STALL / NSEC_PER_SEC));
	return r;
}

static int loop(struct fetch *f, struct err *err)
{
	struct pollfd pfds[CONNECTIONS][2];
	int r = 0;

	while (r == 0 && busy(f)) {
		int64_t deadline = DEADLINE_NONE;

		for (size_t i = 0; i < f->n_conns; i++) {
			struct connection *c = &f->conns[i];

			pfds[i][0] = (struct pollfd){ .fd = c->state == STATE_IDLE ? -1 : c->sock,
				.events = POLLIN };
			pfds[i][1] = (struct pollfd){ .fd = c->state == STATE_DATA ? c->data : -1,
				.events = POLLIN };
			if (c->state != STATE_IDLE)
				deadline = MIN(deadline, c->deadline);
		}
		if (poll(pfds[0], 2 * f->n_conns, deadline_poll_ms(deadline)) < 0 && errno != EINTR)
			return err_errno(err, errno, "cannot wait for skopeo");
		for (size_t i = 0; r == 0 && i < f->n_conns; i++)
			r = serve(f, &f->conns[i], pfds[i], err);
	}
	return r;
}

int fetch_blobs(struct image_store *store, const struct fetch_opts *opts, struct err *err)
{
	struct fetch f = { .store = store, .opts = opts };
	auto_free char *buffer = malloc(CHUNK);
	size_t wanted = MIN(opts->n_blobs, (size_t)CONNECTIONS);
	int r = 0;

	if (!buffer)
		return err_set(err, ENOMEM, "out of memory");
	if (wanted && !have_skopeo())
		return no_skopeo(err);
	f.buffer = buffer;
	for (size_t i = 0; i < opts->n_blobs; i++)
		f.total += opts->blobs[i].size;
	for (; r == 0 && f.n_conns < wanted; f.n_conns++)
		r = connection_open(&f, &f.conns[f.n_conns], err);
	if (r == 0)
		r = loop(&f, err);
	for (size_t i = 0; i < f.n_conns; i++)
		connection_close(&f.conns[i]);
	return r;
}
