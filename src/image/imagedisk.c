/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the disk is built by a forked worker that can open nothing and writes to a
 * temporary file; a tree by one that reaches nothing but its folder; its reports (how far it is)
 * come as packets over a socket pair, the last thing is its error. Whoever waits at the lock finds
 * the disk there.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/proc.h"
#include "image/confine.h"
#include "image/disk.h"
#include "image/store.h"
#include "image/unpack.h"

#define REPORT_EVERY (2 * MIB)

struct report {
	bool last;
	uint64_t layer, done;
	struct err err; /* of the last one */
};

struct builder {
	struct image_store *store;
	const struct image *image;
	const struct image_disk_opts *opts;
	struct disk_layer *layers;
	struct store_temp temp;
	int folder;	   /* a tree is unpacked below it; -1: a disk is made */
	int sock;	   /* the worker's end */
	uint64_t reported; /* packed bytes of the layer, when last told */
};

static void open_layers_deinit(struct builder *b)
{
	for (size_t i = 0; b->layers && i < b->image->n_layers; i++)
		safe_close(b->layers[i].fd);
	free(b->layers);
	b->layers = NULL;
}

static int open_layers(struct builder *b, struct err *err)
{
	const struct image *image = b->image;

	b->layers = calloc(image->n_layers + 1, sizeof(*b->layers));
	if (!b->layers)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < image->n_layers; i++)
		b->layers[i].fd = -1;
	for (size_t i = 0; i < image->n_layers; i++) {
		struct disk_layer *l = &b->layers[i];

		memcpy(l->digest, image->layers[i].digest, DIGEST_SIZE);
		memcpy(l->diff_id, image->layers[i].diff_id, DIGEST_SIZE);
		l->size = image->layers[i].size;
		l->fd = store_open_blob(b->store, l->digest);
		if (l->fd < 0)
			return err_errno(err, -l->fd, "cannot open layer %s", l->digest);
	}
	return 0;
}

/* In the worker. A report that finds no room is left out: the next one says more. */
static void tell(void *arg, size_t layer, uint64_t done)
{
	struct builder *b = arg;
	struct report report = { .layer = layer, .done = done };

	if (done >= b->reported && done - b->reported < REPORT_EVERY &&
		done < b->layers[layer].size)
		return;
	b->reported = done;
	(void)!send(b->sock, &report, sizeof(report), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static _Noreturn void work(struct builder *b, pid_t parent)
{
	struct disk_build build = { .layers = b->layers,
		.n_layers = b->image->n_layers,
		.created = b->image->config.created,
		.out_fd = b->temp.fd,
		.progress = tell,
		.progress_arg = b };
	struct report report = { .last = true };
	int r = 0;

	memcpy(build.id, b->image->id, DIGEST_SIZE);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* Names are bytes; libarchive must not try to convert them from UTF-8 to something smaller.
	 */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		r = err_set(&report.err, ENOENT, "the locale C.UTF-8 is missing");
	if (r == 0)
		r = b->folder < 0 ? confine_worker(LIMIT_IMAGE_MEMORY, &report.err)
				  : confine_unpacker(LIMIT_IMAGE_MEMORY, b->folder, &report.err);
	if (r == 0)
		r = b->folder < 0 ? disk_build(&build, &report.err)
				  : unpack_build(&build, b->folder, &report.err);
	if (r == 0)
		report.err = ERR_INIT;
	_exit(write(b->sock, &report, sizeof(report)) != sizeof(report));
}

static void show(const struct builder *b, const struct report *report)
{
	struct image_progress p = { .phase = IMAGE_PHASE_BUILD };

	if (!b->opts || !b->opts->progress || report->layer >= b->image->n_layers)
		return;
	p.text = b->image->layers[report->layer].digest;
	for (size_t i = 0; i < b->image->n_layers; i++) {
		p.done += i < report->layer ? b->image->layers[i].size : 0;
		p.total += b->image->layers[i].size;
	}
	p.done += MIN(report->done, b->image->layers[report->layer].size);
	b->opts->progress(b->opts->progress_arg, &p);
}

/* Until the last report. 0, -ETIMEDOUT, or -EPIPE if the worker is gone without one. */
static int watch(const struct builder *b, int sock, struct report *ret_last)
{
	int64_t deadline = deadline_in(LIMIT_DISK_BUILD);

	for (;;) {
		struct pollfd pfd = { .fd = sock, .events = POLLIN };
		struct report report;
		int n = poll(&pfd, 1, deadline_poll_ms(deadline));

		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || recv(sock, &report, sizeof(report), 0) != sizeof(report))
			return -EPIPE;
		if (report.last) {
			*ret_last = report;
			return 0;
		}
		show(b, &report);
	}
}

static int run_worker(struct builder *b, struct err *err)
{
	auto_close int ours = -1, theirs = -1;
	struct report last = { 0 };
	pid_t pid, parent = getpid();
	int fds[2], r, status = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, errno, "cannot make a socket");
	ours = fds[0];
	b->sock = theirs = fds[1];
	pid = fork();
	if (pid < 0)
		return err_errno(err, errno, "cannot fork a worker");
	if (pid == 0) {
		close(ours);
		work(b, parent);
	}
	theirs = safe_close(theirs);
	r = watch(b, ours, &last);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "not done after %d s",
			(int)(LIMIT_DISK_BUILD / NSEC_PER_SEC));
	if (r < 0)
		return err_set(err, EIO, "the worker died with status %d", proc_exit_code(status));
	return last.err.code ? err_set(err, last.err.code, "%s", last.err.msg) : 0;
}

static int build_disk(struct builder *b, const char *name, struct err *err)
{
	int r = store_temp_open(b->store, &b->temp, err);

	if (r == 0)
		r = open_layers(b, err);
	if (r == 0)
		r = run_worker(b, err);
	if (r == 0)
		r = store_temp_commit(&b->temp, b->store->disks, name, 0400, err);
	store_temp_deinit(&b->temp);
	open_layers_deinit(b);
	return r;
}

/* Unpacked in a folder of tmp/, which who cleans up there leaves alone while it is locked. */
static int unpack(struct builder *b, const char *tmp, const char *name, struct err *err)
{
	int r;

	if (flock(b->folder, LOCK_SH | LOCK_NB) < 0 || mkdirat(b->folder, UNPACK_ROOT, 0700) < 0 ||
		mkdirat(b->folder, UNPACK_LINKS, 0700) < 0)
		return err_errno(err, errno, "cannot make a folder in '%s/tmp'", b->store->dir);
	r = store_temp_open(b->store, &b->temp, err);
	if (r == 0)
		r = open_layers(b, err);
	if (r == 0)
		r = run_worker(b, err);
	/* Whole or not there, after a power cut too. */
	if (r == 0 && (syncfs(b->folder) < 0 ||
			      renameat(b->folder, UNPACK_ROOT, b->store->trees, name) < 0 ||
			      fsync(b->store->trees) < 0))
		r = err_errno(err, errno, "cannot save '%s' in '%s'", name, b->store->dir);
	store_temp_deinit(&b->temp);
	open_layers_deinit(b);
	fs_remove_tree(b->store->tmp, tmp);
	return r;
}

static int build_tree(struct builder *b, const char *name, struct err *err)
{
	char tmp[ID_LEN + 8], id[ID_LEN + 1];
	auto_close int folder = -1;
	int r;

	id_generate(id);
	snprintf(tmp, sizeof(tmp), "tree-%s", id);
	if (mkdirat(b->store->tmp, tmp, 0700) == 0)
		folder = openat(b->store->tmp, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return err_errno(err, errno, "cannot make a folder in '%s/tmp'", b->store->dir);
	b->folder = folder;
	r = unpack(b, tmp, name, err);
	b->folder = -1;
	return r;
}

/* What is made: its name, where it lies, how. */
struct product {
	char name[DIGEST_SIZE + 16];
	int folder;
	const char *below; /* of the store */
	mode_t type;
	int (*build)(struct builder *b, const char *name, struct err *err);
};

static bool is_there(const struct product *p)
{
	struct stat st;

	return fstatat(p->folder, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (st.st_mode & S_IFMT) == p->type;
}

static void tell_wait(void *arg)
{
	const struct builder *b = arg;
	struct image_progress p = { .phase = IMAGE_PHASE_WAIT, .text = b->image->id };

	if (b->opts && b->opts->progress)
		b->opts->progress(b->opts->progress_arg, &p);
}

/* Builds unless another process has while this one waited. */
static int build_locked(struct builder *b, const struct product *p, struct err *err)
{
	auto_close int lock = -1, store_fd = -1;

	lock = store_lock(b->store, p->below, digest_hex(b->image->id), true, tell_wait, b, err);
	if (lock < 0)
		return lock;
	store_fd = store_lock(b->store, "store", "all", false, tell_wait, b, err);
	if (store_fd < 0)
		return store_fd;
	return is_there(p) ? 0 : p->build(b, p->name, err);
}

static int provide(struct image_store *store, const struct image *image,
	const struct image_disk_opts *opts, const struct product *p, char **ret_path,
	struct err *err)
{
	struct builder b = { .store = store,
		.image = image,
		.opts = opts,
		.temp = STORE_TEMP_INIT,
		.folder = -1,
		.sock = -1 };
	int r = is_there(p) ? 0 : build_locked(&b, p, err);

	if (r < 0)
		return r;
	if (asprintf(ret_path, "%s/%s/%s", store->dir, p->below, p->name) < 0) {
		*ret_path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

int image_disk(struct image_store *store, const struct image *image,
	const struct image_disk_opts *opts, char **ret_path, struct err *err)
{
	struct product p = {
		.folder = store->disks, .below = "disks", .type = S_IFREG, .build = build_disk
	};

	store_disk_name(image->id, p.name);
	return provide(store, image, opts, &p, ret_path, err) < 0
		       ? err_wrap(err, "cannot make the disk of image '%.128s'",
				 image->reference ? image->reference : image->id)
		       : 0;
}

int image_tree(struct image_store *store, const struct image *image,
	const struct image_disk_opts *opts, char **ret_path, struct err *err)
{
	struct product p = {
		.folder = store->trees, .below = "trees", .type = S_IFDIR, .build = build_tree
	};

	store_tree_name(image->id, p.name);
	return provide(store, image, opts, &p, ret_path, err) < 0
		       ? err_wrap(err, "cannot unpack image '%.128s'",
				 image->reference ? image->reference : image->id)
		       : 0;
}
