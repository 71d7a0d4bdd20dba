/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: whoever makes a template holds templates/.lock-<key> and fills
 * templates/.new-<key>, so that a .new- folder whose lock is free is left over from a crash. The
 * lock file goes with the build; who waited for it then looks whether it is still the one that has
 * the name. What may be started from is compared with template.json each time by what stat(2) says,
 * and by hashes as far as that is quick. The hashes (XXH3) are against damage, not against
 * attackers: who can write to the root is its owner.
 */
#include "sandbox/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "sandbox/fields.h"

#define FOLDER	       "templates"
#define FORMAT	       1 /* of template.json and of what lies beside it */
#define RECORD_MAX     (16 * KIB)
#define STATE_MAX      (16 * MIB) /* of the devices; QEMU's is a few hundred KiB */
#define HASH_LEN       32
#define TEMPLATE_RETRY (10 * 60) /* seconds after a failure */
#define REASON_MAX     LIMIT_ERR_MESSAGE
#define ROOM	       (256 * MIB) /* on the disk while it is made; what it takes is less */
#define NAME_SIZE      (TEMPLATE_KEY_LEN + 16)
#define BLOCK	       4096

struct record {
	uint64_t format, memory, cpus, slots;
	int64_t created_ns;
	bool network;
	char *kernel, *vmm, *accel, *runtime;
	uint64_t ram_dev, ram_ino, ram_size;
	int64_t ram_changed_ns;
	char ram_hash[HASH_LEN + 1], state_hash[HASH_LEN + 1];
};

#define RECORD(key, type)                                                                         \
	{                                                                                         \
#key, type, offsetof(struct record, key), sizeof(((struct record *)0)->key), NULL \
	}

static const struct field record_fields[] = {
	RECORD(format, FIELD_U64),
	RECORD(created_ns, FIELD_I64),
	RECORD(memory, FIELD_U64),
	RECORD(cpus, FIELD_U64),
	RECORD(slots, FIELD_U64),
	RECORD(network, FIELD_BOOL),
	RECORD(kernel, FIELD_STRING),
	RECORD(vmm, FIELD_STRING),
	RECORD(accel, FIELD_STRING),
	RECORD(runtime, FIELD_STRING),
	RECORD(ram_dev, FIELD_U64),
	RECORD(ram_ino, FIELD_U64),
	RECORD(ram_size, FIELD_U64),
	RECORD(ram_changed_ns, FIELD_I64),
	RECORD(ram_hash, FIELD_CHARS),
	RECORD(state_hash, FIELD_CHARS),
};

static void record_deinit(struct record *r)
{
	fields_free(record_fields, ARRAY_SIZE(record_fields), r);
}

/* Hashes */

static void hash_text(XXH128_hash_t hash, char out[static HASH_LEN + 1])
{
	snprintf(out, HASH_LEN + 1, "%016llx%016llx", (unsigned long long)hash.high64,
		(unsigned long long)hash.low64);
}

void template_key(const struct strbuf *identity, char out[static TEMPLATE_KEY_LEN + 1])
{
	static_assert(TEMPLATE_KEY_LEN == HASH_LEN, "a key is a hash");
	hash_text(XXH3_128bits_withSeed(identity->data, identity->len, FORMAT), out);
}

static bool all_zero(const uint8_t *block)
{
	return !block[0] && memcmp(block, block + 1, BLOCK - 1) == 0;
}

/* A hole counts as the zeros that it reads as, so that a copy has the same hash. */
static void hash_blocks(XXH3_state_t *state, const uint8_t *map, off_t from, off_t to)
{
	for (off_t at = from - from % BLOCK; at < to; at += BLOCK) {
		uint64_t index = (uint64_t)(at / BLOCK);

		if (all_zero(map + at))
			continue;
		XXH3_128bits_update(state, &index, sizeof(index));
		XXH3_128bits_update(state, map + at, BLOCK);
	}
}

/* 0 or -errno. size: a multiple of BLOCK. */
static int hash_memory(int fd, uint64_t size, char out[static HASH_LEN + 1])
{
	auto_free XXH3_state_t *state = aligned_alloc(64, sizeof(*state));
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	off_t data = 0, hole = 0;

	if (map == MAP_FAILED || !state) {
		if (map != MAP_FAILED)
			munmap(map, size);
		return -ENOMEM;
	}
	madvise(map, size, MADV_SEQUENTIAL);
	XXH3_128bits_reset(state);
	while (hole < (off_t)size && (data = lseek(fd, hole, SEEK_DATA)) >= 0 &&
		(hole = lseek(fd, data, SEEK_HOLE)) >= 0)
		hash_blocks(state, map, data, MIN(hole, (off_t)size));
	hash_text(XXH3_128bits_digest(state), out);
	munmap(map, size);
	return data < 0 && errno != ENXIO ? -errno : hole < 0 ? -errno : 0;
}

static int hash_state(int fd, char out[static HASH_LEN + 1])
{
	auto_free uint8_t *data = NULL;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0 || (uint64_t)st.st_size > STATE_MAX)
		return -EFBIG;
	data = malloc((size_t)st.st_size);
	if (!data)
		return -ENOMEM;
	n = pread(fd, data, (size_t)st.st_size, 0);
	if (n != st.st_size)
		return n < 0 ? -errno : -EIO;
	hash_text(XXH3_128bits(data, (size_t)n), out);
	return 0;
}

static int64_t changed_ns(const struct stat *st)
{
	return st->st_ctim.tv_sec * NSEC_PER_SEC + st->st_ctim.tv_nsec;
}

/* Folders */

static int open_folder(struct sandbox_root *root, struct err *err)
{
	int fd;

	if (mkdirat(root->fd, FOLDER, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make '%s/" FOLDER "'", root->path);
	fd = openat(root->fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "cannot open '%s/" FOLDER "'", root->path) : fd;
}

static bool is_key(const char *s)
{
	return strlen(s) == TEMPLATE_KEY_LEN && strspn(s, "0123456789abcdef") == TEMPLATE_KEY_LEN;
}

static void name_of(char out[static NAME_SIZE], const char *prefix, const char *key)
{
	snprintf(out, NAME_SIZE, "%s%.*s", prefix, TEMPLATE_KEY_LEN, key);
}

/* Out of sight first, so that nobody finds half of it. */
static int remove_folder(int dir, const char *key)
{
	char old[NAME_SIZE];

	name_of(old, ".old-", key);
	fs_remove_tree(dir, old);
	if (renameat(dir, key, dir, old) < 0)
		return -errno;
	return fs_remove_tree(dir, old);
}

static int read_record(int dfd, struct record *ret)
{
	auto_free char *text = NULL;
	struct record r = { 0 };
	struct err err = ERR_INIT;
	size_t len;
	int n = fs_read_file(dfd, "template.json", RECORD_MAX, &text, &len);

	if (n == 0)
		n = fields_read(record_fields, ARRAY_SIZE(record_fields), text, len, &r, &err);
	if (n < 0) {
		record_deinit(&r);
		return n;
	}
	*ret = r;
	return 0;
}

/* Starting */

void template_close(struct template *t)
{
	t->ram_fd = safe_close(t->ram_fd);
	t->state_fd = safe_close(t->state_fd);
}

static int damaged(struct err *err, const char *what)
{
	return err_set(err, EBADMSG, "%s", what);
}

static bool verified_this_boot(struct sandbox_root *root, int dfd)
{
	auto_free char *text = NULL;

	return fs_read_file(dfd, "verified", 64, &text, NULL) == 0 &&
	       strcmp(text, root->boot_id) == 0;
}

static int check_memory(
	struct sandbox_root *root, int dfd, int ram_fd, const struct record *r, struct err *err)
{
	char hash[HASH_LEN + 1];

	if (hash_memory(ram_fd, r->ram_size, hash) < 0)
		return damaged(err, "its memory cannot be read");
	if (strcmp(hash, r->ram_hash) != 0)
		return damaged(err, "its memory has changed");
	fs_replace_file(dfd, "verified", root->boot_id, strlen(root->boot_id), 0600, false);
	return 0;
}

/* Opens both files and compares. whole: the memory's hash in any case. */
static int open_checked(
	struct sandbox_root *root, int dfd, bool whole, struct template *t, struct err *err)
{
	struct record r = { 0 };
	char hash[HASH_LEN + 1];
	struct stat st;
	int n = read_record(dfd, &r);

	if (n < 0 || r.format != FORMAT) {
		record_deinit(&r);
		return n == -ENOMEM ? err_errno(err, ENOMEM, "cannot open the template")
				    : damaged(err, "its template.json cannot be read");
	}
	t->ram_fd = openat(dfd, "ram", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	t->state_fd = openat(dfd, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (t->ram_fd < 0 || t->state_fd < 0 || fstat(t->ram_fd, &st) < 0)
		n = damaged(err, "a file of it is missing");
	else if ((uint64_t)st.st_size != r.ram_size || r.ram_size % BLOCK || !r.ram_size)
		n = damaged(err, "its memory has another size");
	else if (st.st_ino != r.ram_ino || st.st_dev != r.ram_dev ||
		 changed_ns(&st) != r.ram_changed_ns)
		n = damaged(err, "its memory was written to or replaced");
	else if (hash_state(t->state_fd, hash) < 0 || strcmp(hash, r.state_hash) != 0)
		n = damaged(err, "its state has changed");
	else if (whole || !verified_this_boot(root, dfd))
		n = check_memory(root, dfd, t->ram_fd, &r, err);
	snprintf(t->vmm, sizeof(t->vmm), "%s", r.vmm ? r.vmm : "");
	record_deinit(&r);
	return n;
}

static int open_template(struct sandbox_root *root, const char *key, bool whole,
	struct template *ret, struct err *err)
{
	auto_close int dir = open_folder(root, err);
	auto_close int dfd = -1;
	struct template t = { .ram_fd = -1, .state_fd = -1 };
	int r;

	if (dir < 0)
		return dir;
	dfd = openat(dir, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dfd < 0)
		return errno == ENOENT ? err_set(err, ENOENT, "no such template: %.12s", key)
				       : err_errno(err, errno, "cannot open template %.12s", key);
	snprintf(t.key, sizeof(t.key), "%s", key);
	r = open_checked(root, dfd, whole, &t, err);
	if (r < 0)
		template_close(&t);
	if (r == -EBADMSG) {
		remove_folder(dir, key);
		return err_wrap(err, "template %.12s is damaged and was removed", key);
	}
	if (r < 0)
		return r;
	/* When it was used last. */
	utimensat(dfd, "used", NULL, 0);
	*ret = t;
	return 0;
}

int template_open(struct sandbox_root *root, const char *key, struct template *ret, struct err *err)
{
	return open_template(root, key, false, ret, err);
}

int template_verify(struct sandbox_root *root, const char *key, struct err *err)
{
	struct template t;
	int r = open_template(root, key, true, &t, err);

	if (r == 0)
		template_close(&t);
	return r;
}

/* Making */

/* The lock that has the name: one that was waited for may have gone with its build. */
static int lock_key(int dir, const char *key, bool wait)
{
	char name[NAME_SIZE];

	name_of(name, ".lock-", key);
	for (;;) {
		int fd = fs_lock(dir, name, true, wait);
		struct stat mine, named;

		if (fd < 0)
			return fd;
		if (fstat(fd, &mine) == 0 && fstatat(dir, name, &named, 0) == 0 &&
			mine.st_ino == named.st_ino)
			return fd;
		safe_close(fd);
	}
}

static void unlock_key(int dir, const char *key, int *fd)
{
	char name[NAME_SIZE];

	name_of(name, ".lock-", key);
	unlinkat(dir, name, 0);
	*fd = safe_close(*fd);
}

static void build_end(struct template_build *b)
{
	struct err ignored = ERR_INIT;
	auto_close int dir = open_folder(b->root, &ignored);
	char name[NAME_SIZE];

	name_of(name, ".new-", b->key);
	if (dir >= 0)
		fs_remove_tree(dir, name);
	safe_close(b->dfd);
	safe_close(b->state_fd);
	free(b->ram_path);
	if (dir >= 0)
		unlock_key(dir, b->key, &b->lock_fd);
	safe_close(b->lock_fd);
	*b = (struct template_build){ .lock_fd = -1, .dfd = -1, .state_fd = -1 };
}

static int check_room(const struct sandbox_root *root, struct err *err)
{
	uint64_t bytes;
	int r = fs_free_bytes(root->path, &bytes);

	if (r < 0)
		return err_errno(err, -r, "cannot tell the free space of '%s'", root->path);
	if (bytes >= ROOM)
		return 0;
	return err_set(err, ENOSPC,
		"there are %llu MiB free below '%s' and it takes up to %llu: make room (micropod "
		"prune)",
		(unsigned long long)(bytes / MIB), root->path, (unsigned long long)(ROOM / MIB));
}

static int fill(struct template_build *b, int dir, uint64_t memory, struct err *err)
{
	char name[NAME_SIZE];
	auto_close int ram = -1;
	int r = check_room(b->root, err);

	if (r < 0)
		return r;

	name_of(name, ".new-", b->key);
	fs_remove_tree(dir, name);
	if (mkdirat(dir, name, 0700) < 0)
		return err_errno(
			err, errno, "cannot make the folder of a template in '%s'", b->root->path);
	b->dfd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (asprintf(&b->ram_path, "%s/" FOLDER "/%s/ram", b->root->path, name) < 0)
		b->ram_path = NULL;
	if (b->dfd < 0 || !b->ram_path)
		return err_errno(err, b->dfd < 0 ? errno : ENOMEM, "cannot make a template");
	ram = openat(b->dfd, "ram", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	b->state_fd = openat(b->dfd, "state", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (ram < 0 || b->state_fd < 0 || ftruncate(ram, (off_t)memory) < 0)
		return err_errno(
			err, errno, "cannot make the files of a template in '%s'", b->root->path);
	return 0;
}

int template_begin(struct sandbox_root *root, const char *key, uint64_t memory, bool wait,
	struct template_build *ret, struct err *err)
{
	auto_close int dir = open_folder(root, err);
	struct template_build b = { .root = root, .lock_fd = -1, .dfd = -1, .state_fd = -1 };
	int r;

	if (dir < 0)
		return dir;
	snprintf(b.key, sizeof(b.key), "%s", key);
	b.lock_fd = lock_key(dir, key, wait);
	if (b.lock_fd == -EWOULDBLOCK)
		return err_set(err, EALREADY, "template %.12s is being made already", key);
	if (b.lock_fd < 0)
		return err_errno(err, -b.lock_fd, "cannot lock template %.12s", key);
	if (faccessat(dir, key, F_OK, 0) == 0) {
		unlock_key(dir, key, &b.lock_fd);
		return err_set(err, EEXIST, "template %.12s is there", key);
	}
	r = fill(&b, dir, memory, err);
	if (r < 0) {
		template_abort(&b, err->msg);
		return r;
	}
	*ret = b;
	return 0;
}

/* Descriptions of the files as they are now, and never change again. */
static int describe(struct template_build *b, const struct template_info *info, struct record *r)
{
	auto_close int ram = openat(b->dfd, "ram", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int n;

	/* Read-only for its owner too; from here on its ctime is what it is. */
	if (ram < 0 || fchmod(ram, 0400) < 0 || fchmod(b->state_fd, 0400) < 0 ||
		fstat(ram, &st) < 0)
		return -errno;
	*r = (struct record){ .format = FORMAT,
		.created_ns = clock_realtime(),
		.memory = info->memory,
		.cpus = info->cpus,
		.slots = info->slots,
		.network = info->network,
		.kernel = info->kernel,
		.vmm = info->vmm,
		.accel = info->accel,
		.runtime = info->runtime,
		.ram_dev = st.st_dev,
		.ram_ino = st.st_ino,
		.ram_size = (uint64_t)st.st_size,
		.ram_changed_ns = changed_ns(&st) };
	n = hash_memory(ram, r->ram_size, r->ram_hash);
	return n < 0 ? n : hash_state(b->state_fd, r->state_hash);
}

static int write_record(struct template_build *b, const struct template_info *info)
{
	auto_free char *text = NULL;
	struct record record;
	int r = describe(b, info, &record);

	if (r == 0)
		r = fields_write(record_fields, ARRAY_SIZE(record_fields), &record, &text);
	if (r == 0)
		r = fs_replace_file(b->dfd, "template.json", text, strlen(text), 0600, false);
	if (r == 0)
		r = fs_replace_file(b->dfd, "used", "", 0, 0600, false);
	if (r == 0)
		r = fs_replace_file(b->dfd, "verified", b->root->boot_id, strlen(b->root->boot_id),
			0600, false);
	return r;
}

int template_publish(struct template_build *b, const struct template_info *info, struct err *err)
{
	auto_close int dir = open_folder(b->root, err);
	char name[NAME_SIZE], failed[NAME_SIZE], told[NAME_SIZE];
	int r = dir < 0 ? dir : write_record(b, info);

	/* Nothing is synced: what a power cut leaves does not pass the hashes after it. */
	name_of(name, ".new-", b->key);
	name_of(failed, ".failed-", b->key);
	name_of(told, ".told-", b->key);
	if (r == 0 && renameat(dir, name, dir, b->key) < 0)
		r = -errno;
	if (r == 0) {
		unlinkat(dir, failed, 0);
		unlinkat(dir, told, 0);
	}
	if (r < 0 && dir >= 0)
		err_errno(err, -r, "cannot keep template %.12s in '%s'", b->key, b->root->path);
	if (r < 0)
		template_abort(b, err->msg);
	else
		build_end(b);
	return r;
}

void template_abort(struct template_build *b, const char *why)
{
	struct err ignored = ERR_INIT;
	auto_close int dir = open_folder(b->root, &ignored);
	char name[NAME_SIZE];

	name_of(name, ".failed-", b->key);
	if (why && dir >= 0)
		fs_replace_file(dir, name, why, strlen(why), 0600, false);
	build_end(b);
}

static bool lately(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       time(NULL) - st.st_mtime <= TEMPLATE_RETRY;
}

enum template_failure template_failure(
	struct sandbox_root *root, const char *key, char *out, size_t size)
{
	struct err ignored = ERR_INIT;
	auto_close int dir = open_folder(root, &ignored);
	auto_free char *text = NULL;
	char failed[NAME_SIZE], told[NAME_SIZE];

	name_of(failed, ".failed-", key);
	name_of(told, ".told-", key);
	if (dir < 0)
		return TEMPLATE_NOT_FAILED;
	/* Of those that come at once, the one that can rename it tells. */
	if (lately(dir, failed) && fs_read_file(dir, failed, REASON_MAX, &text, NULL) == 0 &&
		renameat(dir, failed, dir, told) == 0) {
		text[strcspn(text, "\n")] = 0;
		snprintf(out, size, "%s", text);
		return TEMPLATE_FAILED;
	}
	return lately(dir, told) ? TEMPLATE_FAILED_TOLD : TEMPLATE_NOT_FAILED;
}

bool template_building(struct sandbox_root *root, const char *key)
{
	struct err ignored = ERR_INIT;
	auto_close int dir = open_folder(root, &ignored), fd = -1;
	char name[NAME_SIZE];

	name_of(name, ".lock-", key);
	if (dir < 0 || faccessat(dir, name, F_OK, 0) < 0)
		return false;
	fd = fs_lock(dir, name, false, false);
	return fd == -EWOULDBLOCK;
}

/* Looking */

void template_info_deinit(struct template_info *info)
{
	free(info->kernel);
	free(info->vmm);
	free(info->accel);
	free(info->runtime);
	*info = (struct template_info){ 0 };
}

static int64_t used_ns(int dfd)
{
	struct stat st;

	return fstatat(dfd, "used", &st, 0) < 0
		       ? 0
		       : st.st_mtim.tv_sec * NSEC_PER_SEC + st.st_mtim.tv_nsec;
}

static uint64_t bytes_of(int dfd)
{
	struct stat ram = { 0 }, state = { 0 };

	fstatat(dfd, "ram", &ram, AT_SYMLINK_NOFOLLOW);
	fstatat(dfd, "state", &state, AT_SYMLINK_NOFOLLOW);
	return 512 * (uint64_t)(ram.st_blocks + state.st_blocks);
}

/* One whose record cannot be read is listed too, so that it counts and can be removed. */
static void read_info(int dfd, const char *key, struct template_info *info)
{
	struct record r = { 0 };

	*info = (struct template_info){ .used_ns = used_ns(dfd), .bytes = bytes_of(dfd) };
	snprintf(info->key, sizeof(info->key), "%s", key);
	if (read_record(dfd, &r) < 0)
		return;
	info->created_ns = r.created_ns;
	info->memory = r.memory;
	info->cpus = (unsigned)r.cpus;
	info->slots = (unsigned)r.slots;
	info->network = r.network;
	info->kernel = take_ptr(r.kernel);
	info->vmm = take_ptr(r.vmm);
	info->accel = take_ptr(r.accel);
	info->runtime = take_ptr(r.runtime);
	record_deinit(&r);
}

static int by_use(const void *a, const void *b)
{
	const struct template_info *x = a, *y = b;

	return x->used_ns < y->used_ns ? 1 : x->used_ns > y->used_ns ? -1 : strcmp(x->key, y->key);
}

int template_list(
	struct sandbox_root *root, struct template_info **ret_infos, size_t *ret_n, struct err *err)
{
	int fd = open_folder(root, err);
	auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct template_info *infos = NULL;
	struct dirent *e;
	size_t n = 0;

	if (fd < 0)
		return fd;
	if (!dir) {
		safe_close(fd);
		return err_errno(err, errno, "cannot list the templates of '%s'", root->path);
	}
	while ((e = readdir(dir))) {
		auto_close int dfd = -1;
		struct template_info *more;

		if (!is_key(e->d_name))
			continue;
		dfd = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (dfd < 0)
			continue; /* removed meanwhile */
		more = reallocarray(infos, n + 1, sizeof(*infos));
		if (!more) {
			while (n)
				template_info_deinit(&infos[--n]);
			free(infos);
			return err_errno(err, ENOMEM, "cannot list the templates");
		}
		infos = more;
		read_info(dfd, e->d_name, &infos[n++]);
	}
	if (n)
		qsort(infos, n, sizeof(*infos), by_use);
	*ret_infos = infos;
	*ret_n = n;
	return 0;
}

static void free_list(struct template_info *infos, size_t n)
{
	for (size_t i = 0; i < n; i++)
		template_info_deinit(&infos[i]);
	free(infos);
}

/* Removing */

int template_remove(struct sandbox_root *root, const char *word, struct err *err)
{
	struct template_info *infos;
	char key[TEMPLATE_KEY_LEN + 1] = "";
	size_t n, hits = 0;
	auto_close int dir = open_folder(root, err);
	int r = dir < 0 ? dir : template_list(root, &infos, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && *word; i++) {
		if (strncmp(infos[i].key, word, strlen(word)) == 0) {
			memcpy(key, infos[i].key, sizeof(key));
			hits++;
		}
	}
	free_list(infos, n);
	if (hits > 1)
		return err_set(err, ENOTUNIQ, "'%s' is the begin of %zu templates: give more of it",
			word, hits);
	if (hits == 0)
		return err_set(err, ENOENT, "no such template: %s", word);
	r = remove_folder(dir, key);
	return r < 0 && r != -ENOENT ? err_errno(err, -r, "cannot remove template %.12s", key) : 0;
}

int template_evict(struct sandbox_root *root, uint64_t max_bytes, const char *keep, struct err *err)
{
	struct template_info *infos;
	auto_close int dir = open_folder(root, err);
	uint64_t total = 0;
	size_t n;
	int r = dir < 0 ? dir : template_list(root, &infos, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		total += infos[i].bytes;
	for (size_t i = n; i > 0 && total > max_bytes; i--) {
		if (keep && strcmp(infos[i - 1].key, keep) == 0)
			continue;
		if (remove_folder(dir, infos[i - 1].key) == 0)
			total -= infos[i - 1].bytes;
	}
	free_list(infos, n);
	return 0;
}

int template_sweep(struct sandbox_root *root, struct err *err)
{
	int fd = open_folder(root, err);
	auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (fd < 0)
		return fd;
	if (!dir) {
		safe_close(fd);
		return err_errno(err, errno, "cannot list the templates of '%s'", root->path);
	}
	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, ".old-", 5) == 0) {
			fs_remove_tree(fd, e->d_name);
		} else if (strncmp(e->d_name, ".new-", 5) == 0 && is_key(e->d_name + 5)) {
			int lock = lock_key(fd, e->d_name + 5, false);

			if (lock < 0)
				continue;
			fs_remove_tree(fd, e->d_name);
			unlock_key(fd, e->d_name + 5, &lock);
		} else if (strncmp(e->d_name, ".lock-", 6) == 0 && is_key(e->d_name + 6)) {
			int lock = lock_key(fd, e->d_name + 6, false);

			if (lock >= 0)
				unlock_key(fd, e->d_name + 6, &lock);
		} else if (strncmp(e->d_name, ".failed-", 8) == 0 ||
			   strncmp(e->d_name, ".told-", 6) == 0) {
			unlinkat(fd, e->d_name, 0);
		}
	}
	return 0;
}
