/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/api.h"
#include "agent/failure.h"
#include "agent/reply.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"

#define CHUNK (64 * KIB)

int files_frame(const void *data, size_t len, char *ret_kind, size_t *ret_len)
{
	const uint8_t *p = data;
	size_t n;

	if (len < FILES_HEAD)
		return 0;
	n = p[1] | (size_t)p[2] << 8 | (size_t)p[3] << 16 | (size_t)p[4] << 24;
	if (n > LIMIT_FILE_FRAME || (p[0] != FILES_ANSWER && p[0] != FILES_FAILURE))
		return -EPROTO;
	*ret_kind = (char)p[0];
	*ret_len = n;
	return len >= FILES_HEAD + n;
}

static int send_frame(char kind, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	auto_free uint8_t *frame = malloc(FILES_HEAD + len);

	if (!frame)
		return -ENOMEM;
	frame[0] = (uint8_t)kind;
	for (int i = 0; i < 4; i++)
		frame[1 + i] = (uint8_t)(len >> (8 * i));
	protobuf_c_message_pack(message, frame + FILES_HEAD);
	return fd_write_full(1, frame, FILES_HEAD + len);
}

int files_answer(const ProtobufCMessage *message)
{
	return send_frame(FILES_ANSWER, message);
}

/* Entries */

static ProtobufCBinaryData bytes_of(const char *text)
{
	return (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
}

static API(FileType) type_of(mode_t mode)
{
	return S_ISREG(mode)   ? MICROPOD__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE
	       : S_ISDIR(mode) ? MICROPOD__AGENT__V1__FILE_TYPE__FILE_TYPE_FOLDER
	       : S_ISLNK(mode) ? MICROPOD__AGENT__V1__FILE_TYPE__FILE_TYPE_LINK
			       : MICROPOD__AGENT__V1__FILE_TYPE__FILE_TYPE_OTHER;
}

/* dir: where name is looked up; path: as it is told. */
static int send_entry(int dir, const char *name, const char *path, int flags)
{
	API(FileEntry) e = MICROPOD__AGENT__V1__FILE_ENTRY__INIT;
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (fstatat(dir, name, &st, flags) < 0)
		return -errno;
	e.path = bytes_of(path);
	e.type = type_of(st.st_mode);
	e.size = (uint64_t)st.st_size;
	e.mode = st.st_mode & 07777;
	e.uid = st.st_uid;
	e.gid = st.st_gid;
	e.modified_ns = st.st_mtim.tv_sec * NSEC_PER_SEC + st.st_mtim.tv_nsec;
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target));
		if (n > 0)
			e.link_target = (ProtobufCBinaryData){ (size_t)n, (uint8_t *)target };
	}
	return files_answer(&e.base);
}

static int stat_file(const struct strv *args)
{
	return send_entry(AT_FDCWD, args->v[1], args->v[1], args->n > 2 ? 0 : AT_SYMLINK_NOFOLLOW);
}

/* Takes fd over. */
static int list_folder(int fd, const char *path, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		safe_close(fd);
		return -errno;
	}
	while (r == 0 && (errno = 0, d = readdir(dir))) {
		auto_free char *inner = NULL;
		int next;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (asprintf(&inner, "%s/%s", strcmp(path, "/") == 0 ? "" : path, d->d_name) < 0) {
			inner = NULL;
			r = -ENOMEM;
			break;
		}
		r = send_entry(fd, d->d_name, inner, AT_SYMLINK_NOFOLLOW);
		/* It went meanwhile. */
		if (r == -ENOENT)
			r = 0;
		if (r < 0 || depth <= 1)
			continue;
		next = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* No folder, or none for this user: its entry has said so. */
		if (next >= 0)
			r = list_folder(next, inner, depth - 1);
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

static int list_files(const struct strv *args)
{
	int fd = open(args->v[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t depth = 1;

	parse_u64(args->v[2], 0, LIMIT_LIST_DEPTH, &depth);
	return fd < 0 ? -errno : list_folder(fd, args->v[1], (unsigned)depth);
}

static int read_file(const struct strv *args)
{
	auto_close int fd = open(args->v[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	auto_free uint8_t *buf = malloc(CHUNK);
	uint64_t at = 0, left = 0;
	struct stat st;
	int r = 0;

	if (fd < 0 || !buf || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	parse_u64(args->v[2], 0, INT64_MAX, &at);
	parse_u64(args->v[3], 0, UINT64_MAX, &left);
	if (!left)
		left = UINT64_MAX;
	if (at && lseek(fd, (off_t)at, SEEK_SET) < 0)
		return -errno;
	while (r == 0 && left) {
		API(FileData) data = MICROPOD__AGENT__V1__FILE_DATA__INIT;
		ssize_t n = read(fd, buf, (size_t)MIN(left, (uint64_t)CHUNK));

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		data.data = (ProtobufCBinaryData){ (size_t)n, buf };
		left -= (uint64_t)n;
		r = files_answer(&data.base);
	}
	return r;
}

/* Making */

/* The folders above path, and path itself with all. */
static int make_folders(const char *path, mode_t mode, bool all)
{
	auto_free char *copy = strdup(path);
	char *slash;

	if (!copy)
		return -ENOMEM;
	for (slash = copy; (slash = strchr(slash + 1, '/'));) {
		*slash = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return all && mkdir(path, mode) < 0 ? -errno : 0;
}

static int make_folder(const struct strv *args)
{
	uint64_t mode = 0;
	struct stat st;
	int r;

	parse_u64(args->v[2], 0, 07777, &mode);
	umask(0);
	r = make_folders(args->v[1], (mode_t)mode, true);
	if (r == -EEXIST && stat(args->v[1], &st) == 0 && S_ISDIR(st.st_mode))
		r = 0;
	return r < 0 ? r : send_entry(AT_FDCWD, args->v[1], args->v[1], 0);
}

/* The file that is not whole yet, for whoever ends us. */
static char unfinished[PATH_MAX];

static void on_term(int signal)
{
	if (unfinished[0])
		unlink(unfinished);
	_exit(1);
}

/* All of stdin. 0 or -errno. */
static int copy_in(int fd)
{
	auto_free uint8_t *buf = malloc(CHUNK);

	while (buf) {
		ssize_t n = read(0, buf, CHUNK);
		int r;

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		r = n < 0 ? 0 : fd_write_full(fd, buf, (size_t)n);
		if (r < 0)
			return r;
	}
	return -ENOMEM;
}

static int append_file(const char *path, mode_t mode)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, mode);

	return fd < 0 ? -errno : copy_in(fd);
}

/* Under another name beside it until it is whole; of one that is there it gets mode and owner. */
static int replace_file(const char *path, mode_t mode, bool exclusive)
{
	auto_close int fd = -1;
	struct stat st;
	bool known = stat(path, &st) == 0;
	int r;

	if (known && (exclusive || !S_ISREG(st.st_mode)))
		return exclusive ? -EEXIST : S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (known && access(path, W_OK) < 0)
		return -errno;
	if ((size_t)snprintf(unfinished, sizeof(unfinished), "%s.%d.part", path, (int)getpid()) >=
		sizeof(unfinished))
		return -ENAMETOOLONG;
	fd = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		known ? st.st_mode & 0777 : mode);
	if (fd < 0) {
		r = -errno;
		unfinished[0] = 0;
		return r;
	}
	r = copy_in(fd);
	/* Whoever may not give it away keeps it. */
	if (r == 0 && known && fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EPERM)
		r = -errno;
	if (r == 0 && syscall(SYS_renameat2, AT_FDCWD, unfinished, AT_FDCWD, path,
			      exclusive ? RENAME_NOREPLACE : 0) < 0)
		r = -errno;
	if (r < 0)
		unlink(unfinished);
	unfinished[0] = 0;
	return r;
}

static int write_file(const struct strv *args)
{
	const struct sigaction sa = { .sa_handler = on_term };
	const char *flags = args->v[3];
	char real[PATH_MAX];
	uint64_t mode = 0;
	int r = 0;

	parse_u64(args->v[2], 0, 07777, &mode);
	umask(022);
	sigaction(SIGTERM, &sa, NULL);
	if (strchr(flags, 'f'))
		r = make_folders(args->v[1], 0755, false);
	if (r < 0)
		return r;
	/* A link stays one. */
	if (!realpath(args->v[1], real))
		snprintf(real, sizeof(real), "%s", args->v[1]);
	r = strchr(flags, 'a') ? append_file(real, (mode_t)mode)
			       : replace_file(real, (mode_t)mode, strchr(flags, 'x') != NULL);
	return r < 0 ? r : send_entry(AT_FDCWD, args->v[1], args->v[1], 0);
}

static int move_file(const struct strv *args)
{
	if (syscall(SYS_renameat2, AT_FDCWD, args->v[1], AT_FDCWD, args->v[2],
		    args->n > 3 ? 0 : RENAME_NOREPLACE) < 0)
		return -errno;
	return send_entry(AT_FDCWD, args->v[2], args->v[2], AT_SYMLINK_NOFOLLOW);
}

/* What is in a folder; takes fd over. Never across a link. */
static int remove_inner(int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir || depth > LIMIT_LIST_DEPTH) {
		r = dir ? -ELOOP : -errno;
		if (dir)
			closedir(dir);
		else
			safe_close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, d = readdir(dir))) {
		int next;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, d->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM)
			r = -errno;
		next = r < 0 ? -1
			     : openat(fd, d->d_name,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (r == 0 && next < 0)
			r = -errno;
		if (r == 0)
			r = remove_inner(next, depth + 1);
		if (r == 0 && unlinkat(fd, d->d_name, AT_REMOVEDIR) < 0)
			r = -errno;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

static int remove_file(const struct strv *args)
{
	API(RemoveFileResponse) none = MICROPOD__AGENT__V1__REMOVE_FILE_RESPONSE__INIT;
	struct stat st;
	int fd, r = 0;

	if (lstat(args->v[1], &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode) && args->n > 2) {
		fd = open(args->v[1], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -errno : remove_inner(fd, 0);
	}
	if (r == 0 && unlinkat(AT_FDCWD, args->v[1], S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		r = -errno;
	return r < 0 ? r : files_answer(&none.base);
}

static int watch_files(const struct strv *args)
{
	return files_watch(args->v[1], args->n > 2);
}

static const struct {
	const char *verb;
	size_t least; /* words */
	int (*fn)(const struct strv *args);
} verbs[] = {
	{ "stat", 2, stat_file },
	{ "list", 3, list_files },
	{ "read", 4, read_file },
	{ "write", 4, write_file },
	{ "mkdir", 3, make_folder },
	{ "move", 3, move_file },
	{ "remove", 2, remove_file },
	{ "watch", 2, watch_files },
};

static int fail(const char *verb, const char *path, int code)
{
	API(Failure) out = MICROPOD__AGENT__V1__FAILURE__INIT;
	enum failure_kind kind = code == ENOENT	  ? FAILURE_NOT_FOUND
				 : code == EEXIST ? FAILURE_CONFLICT
						  : FAILURE_UNKNOWN;
	struct failure f = FAILURE_INIT;

	/* Names are bytes, and what is told is text. */
	failure_set(&f, kind, code, verb, path, "cannot %s '%s': %s", verb, path, strerror(code));
	reply_fill_failure(&out, &f);
	send_frame(FILES_FAILURE, &out.base);
	return 1;
}

int files_tool(const struct strv *args)
{
	const char *verb = args->n ? args->v[0] : "";

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		int r;

		if (strcmp(verbs[i].verb, verb) != 0 || args->n < verbs[i].least)
			continue;
		r = verbs[i].fn(args);
		return r < 0 ? fail(verb, args->v[1], -r) : 0;
	}
	return 2;
}
