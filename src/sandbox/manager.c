/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: sandboxes/<id>/ holds config.json, state.json, lock, the scratch disk and the logs.
 * Making one fills sandboxes/.new-<id> and renames it; removing renames to .old-<id> and deletes
 * that. The lock (flock on sandboxes/<id>/lock) is taken by the command line for a moment, or by
 * the shim, which inherits the open file from the command line that starts it, so that between the
 * two nobody else can get in. names/<name> is a symbolic link to the id, made under names/.lock;
 * one that leads nowhere is left over from a crash and is replaced.
 */
#include "sandbox/manager.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/trace.h"
#include "sandbox/events.h"
#include "sandbox/network.h"

#define VERDICT_SPARE \
	(15 * NSEC_PER_SEC) /* the shim keeps the deadline itself and says which step missed it */
#define LOCK_TIME      (20 * NSEC_PER_SEC)
#define REMOVE_TIME    (20 * NSEC_PER_SEC)    /* for rm -f to get hold of a sandbox */
#define ENGINE_PROGRAM "micropod-docker-shim" /* for what a Docker Engine runs */
#define ENGINE_RECORD  "docker.json"	      /* what it keeps of a container that there is */
#define RESERVE_FILE   "state.reserve"
#define RESERVE_BYTES  (64 * KIB) /* more than any state.json */
#define CONFIG_MAX     (8 * MIB) /* of config.json: argv and environment are bounded by LIMIT_ARGV */

void sandbox_deinit(struct sandbox *box)
{
	sandbox_config_deinit(&box->config);
	sandbox_state_deinit(&box->state);
}

/* Names */

static int lock_names(struct sandbox_root *root, struct err *err)
{
	int fd = fs_lock(root->fd, "names/.lock", true, true);

	return fd < 0 ? err_errno(err, -fd, "cannot lock the names in '%s'", root->path) : fd;
}

static int read_name(struct sandbox_root *root, const char *name, char out[static ID_LEN + 1])
{
	char path[LIMIT_NAME + 16];
	ssize_t n;

	snprintf(path, sizeof(path), "names/%s", name);
	n = readlinkat(root->fd, path, out, ID_LEN + 1);
	if (n < 0)
		return -errno;
	if (n != ID_LEN)
		return -ENOENT;
	out[n] = 0;
	return 0;
}

static bool exists(struct sandbox_root *root, const char *id)
{
	return faccessat(root->boxes_fd, id, F_OK, 0) == 0;
}

static int check_name_free(struct sandbox_root *root, const char *name, struct err *err)
{
	char holder[ID_LEN + 1];

	if (read_name(root, name, holder) < 0 || !exists(root, holder))
		return 0;
	return err_set(err, EEXIST,
		"name '%s' is taken by sandbox %.12s: remove it (micropod rm %s) or choose another "
		"name",
		name, holder, name);
}

/* With names/.lock held and sandboxes/<id> not yet there: the folder is renamed in before the lock
 * is given back. */
static int claim_name(struct sandbox_root *root, const char *name, const char *id, struct err *err)
{
	char path[LIMIT_NAME + 16];
	int r = check_name_free(root, name, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "names/%s", name);
	unlinkat(root->fd, path, 0);
	if (symlinkat(id, root->fd, path) < 0)
		return err_errno(err, errno, "cannot take the name '%s'", name);
	return 0;
}

static void release_name(struct sandbox_root *root, const char *name, const char *id)
{
	char path[LIMIT_NAME + 16], holder[ID_LEN + 1];

	if (read_name(root, name, holder) < 0 || strcmp(holder, id) != 0)
		return;
	snprintf(path, sizeof(path), "names/%s", name);
	unlinkat(root->fd, path, 0);
}

/* Making */

static int fill_folder(int dfd, const struct sandbox_config *config, const char *dir,
	int (*make_scratch)(const char *, uint64_t, void *, struct err *), void *arg,
	struct err *err)
{
	struct sandbox_state state = { .phase = SANDBOX_CREATED };
	auto_free char *config_text = NULL, *state_text = NULL, *scratch = NULL;
	int r = sandbox_config_write(config, &config_text, err);

	if (r == 0)
		r = sandbox_state_write(&state, &state_text, err);
	if (r < 0)
		return r;
	if (asprintf(&scratch, "%s/scratch.img", dir) < 0) {
		scratch = NULL;
		return err_errno(err, ENOMEM, "cannot make the writable layer");
	}
	r = fs_replace_file(dfd, "config.json", config_text, strlen(config_text), 0600, true);
	if (r == 0)
		r = fs_replace_file(dfd, "state.json", state_text, strlen(state_text), 0600, true);
	if (r < 0)
		return err_errno(err, -r, "cannot write the sandbox's files in '%s'", dir);
	return make_scratch(scratch, config->scratch_bytes, arg, err);
}

/* Renames the filled folder in, under its name. */
static int publish(
	struct sandbox_root *root, const char *tmp, struct sandbox_config *config, struct err *err)
{
	auto_close int names = lock_names(root, err);
	int r;

	if (names < 0)
		return names;
	r = claim_name(root, config->name, config->id, err);
	if (r < 0)
		return r;
	if (renameat(root->boxes_fd, tmp, root->boxes_fd, config->id) < 0) {
		r = err_errno(err, errno, "cannot make sandbox '%s'", config->name);
		release_name(root, config->name, config->id);
	}
	return r;
}

static bool is_taken(struct sandbox_root *root, const char *name)
{
	char holder[ID_LEN + 1];

	return read_name(root, name, holder) == 0 && exists(root, holder);
}

/* One that nobody has just now. Of words alone there are some two thousand. */
static void choose_name(struct sandbox_root *root, struct sandbox_config *config)
{
	char words[LIMIT_NAME + 1];
	uint32_t number;

	name_generate(words, sizeof(words));
	snprintf(config->name, sizeof(config->name), "%s", words);
	while (is_taken(root, config->name)) {
		random_bytes(&number, sizeof(number));
		snprintf(config->name, sizeof(config->name), "%.*s_%u", LIMIT_NAME - 12, words,
			(unsigned)number);
	}
}

static int create(struct sandbox_root *root, struct sandbox_config *config,
	int (*make_scratch)(const char *path, uint64_t bytes, void *arg, struct err *err),
	void *arg, struct err *err)
{
	char tmp[ID_LEN + 8];
	auto_free char *dir = NULL;
	auto_close int dfd = -1, lock = -1;
	int r = 0;

	snprintf(tmp, sizeof(tmp), ".new-%s", config->id);
	dir = sandbox_path(root, tmp, NULL);
	if (!dir || mkdirat(root->boxes_fd, tmp, 0700) < 0)
		return err_errno(err, dir ? errno : ENOMEM, "cannot make sandbox '%s' in '%s'",
			config->name, root->path);
	dfd = openat(root->boxes_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lock = fs_lock(dfd, "lock", true, false);
	if (dfd < 0 || lock < 0)
		r = err_errno(
			err, lock < 0 ? -lock : errno, "cannot lock sandbox '%s'", config->name);
	if (r == 0)
		r = fill_folder(dfd, config, dir, make_scratch, arg, err);
	if (r == 0)
		r = publish(root, tmp, config, err);
	if (r < 0)
		fs_remove_tree(root->boxes_fd, tmp);
	return r;
}

int sandbox_create(struct sandbox_root *root, struct sandbox_config *config,
	int (*make_scratch)(const char *path, uint64_t bytes, void *arg, struct err *err),
	void *arg, struct err *err)
{
	bool made_up = !config->name[0];
	auto_close int network = -1;
	int r;

	if (!made_up && !name_valid(config->name))
		return err_set(err, EINVAL,
			"'%s' is no name: use 2 to %d letters, digits, '_', '.', '-', the first a "
			"letter or digit",
			config->name, LIMIT_NAME);
	if (network_shared(config)) {
		r = network_claim(root, config, &network, err);
		if (r < 0)
			return r;
	}
	config->created_ns = clock_realtime();
	do {
		id_generate(config->id);
		if (made_up)
			choose_name(root, config);
		/* Told before any work; publish() decides. */
		r = made_up ? 0 : check_name_free(root, config->name, err);
		if (r == 0)
			r = create(root, config, make_scratch, arg, err);
		/* Somebody who made theirs at the same time was given the same. */
	} while (made_up && r == -EEXIST);
	if (r == 0)
		sandbox_event(root, config, "create", NULL, NULL);
	return r;
}

/* Looking */

static int open_box(struct sandbox_root *root, const char *id, struct err *err)
{
	int dfd = openat(root->boxes_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (dfd < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "no such sandbox: %.12s", id);
	return dfd < 0 ? err_errno(err, errno, "cannot open sandbox %.12s", id) : dfd;
}

static int read_json(int dfd, const char *file, char **ret_text, size_t *ret_len, const char *id,
	struct err *err)
{
	int r = fs_read_file(dfd, file, CONFIG_MAX, ret_text, ret_len);

	return r < 0 ? err_errno(err, -r, "cannot read %s of sandbox %.12s", file, id) : 0;
}

static bool alive(int dfd)
{
	auto_close int lock = fs_lock(dfd, "lock", false, false);

	return lock == -EWOULDBLOCK;
}

static bool phase_needs_shim(enum sandbox_phase phase)
{
	return phase == SANDBOX_STARTING || phase == SANDBOX_RUNNING || phase == SANDBOX_STOPPING ||
	       phase == SANDBOX_RESTARTING;
}

int sandbox_save_config(
	struct sandbox_root *root, const struct sandbox_config *config, struct err *err)
{
	auto_close int dfd = open_box(root, config->id, err);
	auto_free char *text = NULL;
	int r = dfd < 0 ? dfd : sandbox_config_write(config, &text, err);

	if (r < 0)
		return r;
	r = fs_replace_file(dfd, "config.json", text, strlen(text), 0600, true);
	return r < 0 ? err_errno(err, -r, "cannot write the configuration of '%s'", config->name)
		     : 0;
}

/* The new name first: a crash in between leaves one more, which sandbox_sweep() removes. */
int sandbox_rename(
	struct sandbox_root *root, struct sandbox_config *config, const char *name, struct err *err)
{
	char before[LIMIT_NAME + 1];
	auto_close int names = -1;
	int r;

	if (!name_valid(name))
		return err_set(err, EINVAL,
			"'%.100s' is no name: use 2 to %d letters, digits, '_', '.', '-', the "
			"first a letter or digit",
			name, LIMIT_NAME);
	names = lock_names(root, err);
	if (names < 0)
		return names;
	r = claim_name(root, name, config->id, err);
	if (r < 0)
		return r;
	memcpy(before, config->name, sizeof(before));
	snprintf(config->name, sizeof(config->name), "%s", name);
	r = sandbox_save_config(root, config, err);
	if (r < 0) {
		memcpy(config->name, before, sizeof(before));
		release_name(root, name, config->id);
		return r;
	}
	release_name(root, before, config->id);
	network_renamed(root, config, before);
	sandbox_event(root, config, "rename", "oldName", before);
	return 0;
}

static int load_state(int dfd, const char *id, struct sandbox_state *ret_state, struct err *err)
{
	auto_free char *text = NULL;
	size_t len;
	int r = read_json(dfd, "state.json", &text, &len, id, err);

	return r < 0 ? r : sandbox_state_read(text, len, ret_state, err);
}

int sandbox_load(
	struct sandbox_root *root, const char *id, struct sandbox *ret_box, struct err *err)
{
	auto_close int dfd = open_box(root, id, err);
	auto_free char *text = NULL;
	struct sandbox box = { 0 };
	size_t len;
	int r;

	if (dfd < 0)
		return dfd;
	r = read_json(dfd, "config.json", &text, &len, id, err);
	if (r == 0)
		r = sandbox_config_read(text, len, &box.config, err);
	if (r == 0)
		r = load_state(dfd, id, &box.state, err);
	if (r == 0 && phase_needs_shim(box.state.phase) && !alive(dfd)) {
		/* It may have ended properly between the read and the look at the lock: only a
		 * second read tells. */
		sandbox_state_deinit(&box.state);
		r = load_state(dfd, id, &box.state, err);
		if (r == 0 && phase_needs_shim(box.state.phase)) {
			box.state.phase = SANDBOX_DEAD;
			box.state.exit_code = 137;
		}
	}
	if (r < 0) {
		sandbox_deinit(&box);
		return r;
	}
	*ret_box = box;
	return 0;
}

static bool is_id(const char *s)
{
	return strlen(s) == ID_LEN && strspn(s, "0123456789abcdef") == ID_LEN;
}

int sandbox_find(
	struct sandbox_root *root, const char *word, char out[static ID_LEN + 1], struct err *err)
{
	auto_strv struct strv ids = STRV_INIT;
	size_t hits = 0, len = strlen(word);
	int r;

	if (name_valid(word) && read_name(root, word, out) == 0 && exists(root, out))
		return 0;
	r = sandbox_list(root, &ids, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ids.n && len; i++) {
		if (strncmp(ids.v[i], word, len) == 0) {
			memcpy(out, ids.v[i], ID_LEN + 1);
			hits++;
		}
	}
	if (hits > 1)
		return err_set(err, ENOTUNIQ,
			"'%s' is the begin of %zu sandbox ids: give more of it", word, hits);
	if (hits == 0)
		return err_set(err, ENOENT, "no such sandbox: %s", word);
	return 0;
}

struct aged {
	char id[ID_LEN + 1];
	struct timespec made;
};

static int by_age(const void *a, const void *b)
{
	const struct timespec *x = &((const struct aged *)a)->made,
			      *y = &((const struct aged *)b)->made;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? 1 : -1;
	return x->tv_nsec < y->tv_nsec ? 1 : x->tv_nsec > y->tv_nsec ? -1 : 0;
}

int sandbox_list(struct sandbox_root *root, struct strv *ids, struct err *err)
{
	int copy = openat(root->boxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	auto_free struct aged *all = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;

	if (!dir) {
		safe_close(copy);
		return err_errno(err, errno, "cannot list the sandboxes of '%s'", root->path);
	}
	while ((e = readdir(dir))) {
		char path[ID_LEN + 16];
		struct stat st;

		if (!is_id(e->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/config.json", e->d_name);
		if (fstatat(root->boxes_fd, path, &st, 0) < 0)
			continue; /* removed meanwhile */
		if (n == cap) {
			struct aged *more =
				reallocarray(all, cap = cap ? cap * 2 : 16, sizeof(*all));

			if (!more)
				return err_errno(err, ENOMEM, "cannot list the sandboxes");
			all = more;
		}
		memcpy(all[n].id, e->d_name, ID_LEN + 1);
		all[n++].made = st.st_mtim;
	}
	if (n)
		qsort(all, n, sizeof(*all), by_age);
	for (size_t i = 0; i < n; i++)
		if (strv_add(ids, all[i].id) < 0)
			return err_errno(err, ENOMEM, "cannot list the sandboxes");
	return 0;
}

static int make_reserve(int dfd)
{
	auto_close int fd =
		openat(dfd, RESERVE_FILE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : -posix_fallocate(fd, 0, RESERVE_BYTES);
}

/* The state before gives back as much as the new one takes, so there is room for the reserve again.
 */
static int replace_and_reserve(int dfd, const char *text)
{
	int r = fs_replace_file(dfd, "state.json", text, strlen(text), 0600, true);

	if (make_reserve(dfd) < 0)
		unlinkat(dfd, RESERVE_FILE, 0);
	return r;
}

int sandbox_save_state(struct sandbox_root *root, const char *id, const struct sandbox_state *state,
	struct err *err)
{
	auto_close int dfd = open_box(root, id, err);
	auto_free char *text = NULL;
	int r = dfd < 0 ? dfd : sandbox_state_write(state, &text, err);

	if (r < 0)
		return r;
	r = fs_replace_file(dfd, "state.json", text, strlen(text), 0600, true);
	if ((r == -ENOSPC || r == -EDQUOT) && unlinkat(dfd, RESERVE_FILE, 0) == 0)
		r = replace_and_reserve(dfd, text);
	return r < 0 ? err_errno(err, -r, "cannot write the state of sandbox %.12s", id) : 0;
}

int sandbox_reserve(struct sandbox_root *root, const char *id, struct err *err)
{
	auto_close int dfd = open_box(root, id, err);
	int r = dfd < 0 ? dfd : make_reserve(dfd);

	return dfd < 0 || r == 0
		       ? r
		       : err_errno(err, -r, "cannot set room aside for the state of sandbox %.12s",
				 id);
}

static void on_alarm(int sig)
{
}

/*
 * Waits for the lock: a shim that is just ending gives it back soon. flock(2) takes no deadline, so
 * a timer interrupts it, again and again in case its first signal comes before the call. Returns
 * the fd that holds it.
 */
static int lock_box(int dfd, int64_t deadline)
{
	struct itimerval tick = { 0 }, off = { 0 };
	struct sigaction act = { .sa_handler = on_alarm }, old;
	auto_close int fd = openat(dfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int64_t left = deadline - clock_monotonic();
	int r;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return take_fd(&fd);
	if (left <= 0)
		return -ETIMEDOUT;
	tick.it_value.tv_sec = left / NSEC_PER_SEC;
	tick.it_value.tv_usec = MAX((left % NSEC_PER_SEC) / NSEC_PER_USEC, 1);
	tick.it_interval.tv_usec = 20000;
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &tick, NULL);
	do
		r = flock(fd, LOCK_EX);
	while (r < 0 && errno == EINTR && clock_monotonic() < deadline);
	r = r < 0 ? -errno : 0;
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	if (r < 0)
		return r == -EINTR ? -ETIMEDOUT : r;
	return take_fd(&fd);
}

int sandbox_lock(struct sandbox_root *root, const char *id, struct err *err)
{
	auto_close int dfd = open_box(root, id, err);
	int lock;

	if (dfd < 0)
		return dfd;
	/* A shim that is just ending is waited for. */
	lock = lock_box(dfd, deadline_in(LOCK_TIME));
	if (lock == -ETIMEDOUT)
		return err_set(err, EBUSY, "sandbox %.12s is being used", id);
	return lock < 0 ? err_errno(err, -lock, "cannot lock sandbox %.12s", id) : lock;
}

int sandbox_wait_gone(struct sandbox_root *root, const char *id, int64_t deadline)
{
	struct err err = ERR_INIT;
	auto_close int dfd = open_box(root, id, &err);
	auto_close int lock = dfd < 0 ? -1 : lock_box(dfd, deadline);

	if (dfd == -ENOENT)
		return 0;
	return lock < 0 ? (dfd < 0 ? dfd : lock) : 0;
}

/* Starting */

struct launch {
	char *const *argv;
	int keep[3];
	size_t n_keep;
	int log_fd;
};

/* Runs in a short-lived child, so that the shim's parent is gone at once and init (or a subreaper)
 * adopts it. */
static int launch_shim(void *arg, struct err *err)
{
	const struct launch *l = arg;
	struct proc_opts opts = {
		.path = l->argv[0],
		.argv = l->argv,
		.cwd = "/",
		.stdin_fd = -1,
		.stdout_fd = l->log_fd,
		.stderr_fd = l->log_fd,
		.keep_fds = l->keep,
		.n_keep_fds = l->n_keep,
		.new_session = true,
	};
	pid_t pid;

	return proc_spawn(&opts, &pid, NULL, err);
}

/* Takes the first line off what has been read: to line, without its newline. False: none yet. */
static bool take_line(char *buf, size_t *len, char *line, size_t size)
{
	char *nl = memchr(buf, '\n', *len);
	size_t n;

	if (!nl)
		return false;
	n = (size_t)(nl - buf);
	snprintf(line, size, "%.*s", (int)n, buf);
	*len -= n + 1;
	memmove(buf, nl + 1, *len);
	return true;
}

/*
 * "ok" or "error EXIT ERRNO MESSAGE", one line, as shim/finish.c writes it; before it any number of
 * "notice TEXT".
 */
static int read_verdict(
	int fd, int64_t deadline, void (*notice)(const char *text), char *line, size_t size)
{
	char buf[2 * LIMIT_ERR_MESSAGE];
	size_t len = 0;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t got;
		int n;

		while (take_line(buf, &len, line, size)) {
			if (strncmp(line, "notice ", 7) != 0)
				return 0;
			if (notice)
				notice(line + 7);
		}
		if (len == sizeof(buf))
			return -EPROTO;
		n = poll(&pfd, 1, deadline_poll_ms(deadline));
		if (n == 0)
			return -ETIMEDOUT;
		got = n > 0 ? read(fd, buf + len, sizeof(buf) - len) : -1;
		if (got == 0)
			return -EPIPE;
		if (got > 0)
			len += (size_t)got;
		else if (errno != EINTR)
			return -errno;
	}
}

static int judge(int r, const char *line, const char *name, int *ret_exit, struct err *err)
{
	int code = 0, at = 0;

	*ret_exit = 125;
	if (r == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT,
			"sandbox '%s' did not start before the deadline (MICROPOD_START_TIMEOUT)",
			name);
	if (r < 0)
		return err_set(err, EIO, "the shim of sandbox '%s' died while starting it", name);
	if (strcmp(line, "ok") == 0) {
		*ret_exit = 0;
		return 0;
	}
	if (sscanf(line, "error %d %d %n", ret_exit, &code, &at) < 2 || !at)
		return err_set(err, EPROTO, "the shim of sandbox '%s' said '%s'", name, line);
	return err_set(err, code > 0 ? code : EIO, "%s", line + at);
}

/* With the lock held: resets the state, starts the shim, which inherits the lock, and waits for its
 * verdict. */
static int start_locked(struct sandbox_root *root, const struct sandbox *box, int dfd, int lock,
	const struct sandbox_start_opts *opts, int *ret_exit, struct err *err)
{
	const char *id = box->config.id;
	auto_close int log = -1, said = -1, say = -1;
	auto_free char *shim = NULL;
	auto_strv struct strv argv = STRV_INIT;
	char line[LIMIT_ERR_MESSAGE + 64];
	struct launch l;
	int fds[2];
	const char *program = box->config.engine     ? ENGINE_PROGRAM
			      : box->config.vmm_kind ? "micropod-vmm-shim"
						     : "micropod-shim";
	int r = sandbox_program(program, &shim, err);

	if (r < 0)
		return r;
	log = openat(dfd, "shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(
			err, errno, "cannot start the shim of sandbox '%s'", box->config.name);
	said = fds[0];
	say = fds[1];
	if (strv_add(&argv, shim) < 0 || strv_addf(&argv, "--root=%s", root->path) < 0 ||
		strv_addf(&argv, "--id=%s", id) < 0 || strv_addf(&argv, "--lock-fd=%d", lock) < 0 ||
		strv_addf(&argv, "--status-fd=%d", say) < 0 ||
		strv_addf(&argv, "--log-level=%d", opts->log_level) < 0 ||
		strv_addf(&argv, "--start-timeout=%u", opts->timeout_s) < 0 ||
		(opts->rows && strv_addf(&argv, "--rows=%u", opts->rows) < 0) ||
		(opts->columns && strv_addf(&argv, "--columns=%u", opts->columns) < 0) ||
		(opts->adopt && strv_add(&argv, "--adopt") < 0) ||
		(opts->detached && strv_add(&argv, "--detached") < 0))
		return err_errno(
			err, ENOMEM, "cannot start the shim of sandbox '%s'", box->config.name);
	l = (struct launch){ .argv = strv_items(&argv),
		.keep = { lock, say, trace_fd() },
		.n_keep = trace_fd() < 0 ? 2 : 3,
		.log_fd = log };
	r = proc_call(launch_shim, &l, deadline_in(10 * NSEC_PER_SEC), err);
	say = safe_close(say);
	if (r < 0)
		return err_wrap(err, "cannot start the shim of sandbox '%s'", box->config.name);
	r = read_verdict(said, deadline_in(opts->timeout_s * NSEC_PER_SEC + VERDICT_SPARE),
		opts->notice, line, sizeof(line));
	return judge(r, line, box->config.name, ret_exit, err);
}

int sandbox_start(struct sandbox_root *root, const char *id, const struct sandbox_start_opts *opts,
	int *ret_exit, struct err *err)
{
	auto_close int dfd = open_box(root, id, err), lock = -1;
	struct sandbox box;
	int r;

	*ret_exit = 125;
	if (dfd < 0)
		return dfd;
	/* Ending takes a few seconds at most: the guest's orderly shutdown has a deadline. */
	lock = lock_box(dfd, deadline_in(0));
	if (lock == -ETIMEDOUT) {
		r = sandbox_load(root, id, &box, err);
		if (r < 0)
			return r;
		/* One that waits for its next try is as good as started. */
		r = box.state.phase == SANDBOX_RUNNING || box.state.phase == SANDBOX_STARTING ||
				    box.state.phase == SANDBOX_RESTARTING
			    ? -EALREADY
			    : 0;
		if (r < 0)
			err_set(err, EALREADY, "sandbox '%s' is already running", box.config.name);
		sandbox_deinit(&box);
		if (r < 0)
			return r;
		lock = lock_box(dfd, deadline_in(LOCK_TIME));
	}
	if (lock == -ETIMEDOUT)
		return err_set(err, EBUSY, "sandbox %.12s is being used", id);
	if (lock < 0)
		return err_errno(err, -lock, "cannot lock sandbox %.12s", id);
	r = sandbox_load(root, id, &box, err);
	if (r < 0)
		return r;
	r = start_locked(root, &box, dfd, lock, opts, ret_exit, err);
	sandbox_deinit(&box);
	return r;
}

/* Removing */

/* The shim of a sandbox, killed only if the pid still is that process of this boot. */
static void kill_shim(struct sandbox_root *root, const struct sandbox_state *state)
{
	auto_close int pidfd = -1;
	uint64_t start;

	if (state->shim_pid <= 0 || strcmp(state->boot_id, root->boot_id) != 0)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, state->shim_pid, 0);
	if (pidfd < 0 || proc_start_time(state->shim_pid, &start) < 0 || start != state->shim_start)
		return;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

static int delete_box(struct sandbox_root *root, const char *id, const char *name, struct err *err)
{
	auto_free char *run = sandbox_run_dir(root, id);
	char old[ID_LEN + 8];
	auto_close int names = lock_names(root, err);
	int r;

	if (names < 0)
		return names;
	snprintf(old, sizeof(old), ".old-%s", id);
	if (renameat(root->boxes_fd, id, root->boxes_fd, old) < 0)
		return errno == ENOENT ? err_set(err, ENOENT, "no such sandbox: %.12s", id)
				       : err_errno(err, errno, "cannot remove sandbox %.12s", id);
	if (name[0])
		release_name(root, name, id);
	names = safe_close(names);
	if (run)
		fs_remove_tree(AT_FDCWD, run);
	sandbox_root_drop_run(root);
	r = fs_remove_tree(root->boxes_fd, old);
	return r < 0 ? err_errno(err, -r, "cannot remove the files of sandbox %.12s", id) : 0;
}

/*
 * Kills the shim and takes the lock. Whoever holds it may not have said yet who it is (a shim
 * writes its pid as the first thing, and before that a command line is about to start it), so the
 * state is read again and again.
 */
static int kill_and_lock(struct sandbox_root *root, int dfd, const char *id)
{
	int64_t deadline = deadline_in(REMOVE_TIME);
	int lock;

	do {
		struct sandbox_state state = { 0 };
		struct err ignored = ERR_INIT;

		if (load_state(dfd, id, &state, &ignored) == 0)
			kill_shim(root, &state);
		sandbox_state_deinit(&state);
		lock = lock_box(dfd, deadline_in(100 * NSEC_PER_MSEC));
	} while (lock == -ETIMEDOUT && clock_monotonic() < deadline);
	return lock;
}

/* The container that an engine has of it, unless it was never started. */
static int remove_container(
	struct sandbox_root *root, const struct sandbox *box, const char *id, struct err *err)
{
	auto_free char *program = NULL;
	int r;

	if (!box->config.engine || box->state.phase == SANDBOX_CREATED)
		return 0;
	r = sandbox_program(ENGINE_PROGRAM, &program, err);
	if (r == 0) {
		const char *const argv[] = { program, "remove", root->path, id, NULL };

		r = proc_run(argv, 0, NULL, err);
	}
	return r;
}

int sandbox_remove(struct sandbox_root *root, const char *id, bool force, struct err *err)
{
	auto_close int dfd = open_box(root, id, err), lock = -1;
	struct sandbox box = { 0 };
	struct err load_err = ERR_INIT;
	char name[LIMIT_NAME + 1];
	int r = 0;

	if (dfd < 0)
		return dfd;
	/* A sandbox whose files are damaged can still be removed. */
	if (sandbox_load(root, id, &box, &load_err) < 0 && load_err.code == ENOENT)
		return err_set(err, ENOENT, "no such sandbox: %.12s", id);
	memcpy(name, box.config.name, sizeof(name));
	lock = lock_box(dfd, deadline_in(force ? 0 : 2 * NSEC_PER_SEC));
	if (lock == -ETIMEDOUT && force)
		lock = kill_and_lock(root, dfd, id);
	/* As it is now that nobody works on it any more. */
	sandbox_deinit(&box);
	box = (struct sandbox){ 0 };
	if (lock >= 0 && sandbox_load(root, id, &box, &load_err) == 0)
		r = remove_container(root, &box, id, err);
	if (lock >= 0 && r == 0)
		r = delete_box(root, id, name, err);
	if (lock >= 0 && r == 0 && box.config.id[0])
		sandbox_event(root, &box.config, "destroy", NULL, NULL);
	sandbox_deinit(&box);
	if (lock == -ETIMEDOUT && force)
		return err_set(err, EBUSY,
			"sandbox %s: its lock is held and its shim cannot be killed: see micropod "
			"doctor",
			name);
	if (lock == -ETIMEDOUT)
		return err_set(err, EBUSY,
			"sandbox %s is running: stop it first (micropod stop %s) or use rm -f",
			name, name);
	if (lock < 0)
		return err_errno(err, -lock, "cannot lock sandbox %.12s", id);
	return r;
}

int sandbox_remove_held(
	struct sandbox_root *root, const char *id, const char *name, struct err *err)
{
	return delete_box(root, id, name, err);
}

/* A folder under a temporary name whose maker or remover is gone. */
static void sweep_folder(struct sandbox_root *root, const char *name)
{
	auto_close int dfd =
		openat(root->boxes_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	auto_close int lock = dfd < 0 ? -1 : fs_lock(dfd, "lock", true, false);

	if (lock >= 0)
		fs_remove_tree(root->boxes_fd, name);
}

static void sweep_names(struct sandbox_root *root)
{
	int fd = openat(root->fd, "names", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	char id[ID_LEN + 1];

	if (!dir) {
		safe_close(fd);
		return;
	}
	while ((e = readdir(dir)))
		if (name_valid(e->d_name) && read_name(root, e->d_name, id) == 0 &&
			!exists(root, id))
			release_name(root, e->d_name, id);
}

static void sweep_run(struct sandbox_root *root)
{
	int fd = open(root->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct err err = ERR_INIT;
	struct dirent *e;
	char id[ID_LEN + 1];

	if (!dir) {
		safe_close(fd);
		return;
	}
	while ((e = readdir(dir))) {
		struct sandbox box;
		bool running = false;

		if (strlen(e->d_name) != ID_SHOWN_LEN)
			continue;
		if (sandbox_find(root, e->d_name, id, &err) == 0 &&
			sandbox_load(root, id, &box, &err) == 0) {
			running = phase_needs_shim(box.state.phase);
			sandbox_deinit(&box);
		}
		if (!running)
			fs_remove_tree(fd, e->d_name);
	}
}

int sandbox_sweep(struct sandbox_root *root, struct err *err)
{
	int copy = openat(root->boxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_closedir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	auto_close int names = -1;
	struct dirent *e;

	if (!dir) {
		safe_close(copy);
		return err_errno(err, errno, "cannot list the sandboxes of '%s'", root->path);
	}
	names = lock_names(root, err);
	if (names < 0)
		return names;
	while ((e = readdir(dir)))
		if (strncmp(e->d_name, ".new-", 5) == 0 || strncmp(e->d_name, ".old-", 5) == 0)
			sweep_folder(root, e->d_name);
	sweep_names(root);
	sweep_run(root);
	sandbox_root_drop_run(root);
	return 0;
}
