/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes in a folder, by inotify(7). With everything below it each folder has a watch of its own;
 * one that appears gets one too, and what is in it by then is told as created, since it may have
 * been there before its watch.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api.h"
#include "agent/files.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"

#define EVENTS                                                                              \
	(IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | \
		IN_DELETE_SELF | IN_ONLYDIR)

struct watcher {
	int fd;
	bool recursive;
	char **paths; /* by watch descriptor; NULL: gone */
	size_t n, used;
};

static int tell(API(FileEvent__Kind) kind, const char *path, bool folder)
{
	API(FileEvent) e = MICROPOD__AGENT__V1__FILE_EVENT__INIT;

	e.kind = kind;
	e.path = (ProtobufCBinaryData){ strlen(path), (uint8_t *)(uintptr_t)path };
	e.folder = folder;
	return files_answer(&e.base);
}

static int remember(struct watcher *w, int wd, const char *path)
{
	if ((size_t)wd >= w->n) {
		size_t n = MAX((size_t)wd + 1, w->n * 2);
		char **more = realloc(w->paths, n * sizeof(*more));

		if (!more)
			return -ENOMEM;
		memset(more + w->n, 0, (n - w->n) * sizeof(*more));
		w->paths = more;
		w->n = n;
	}
	w->used += !w->paths[wd];
	free(w->paths[wd]);
	w->paths[wd] = strdup(path);
	return w->paths[wd] ? 0 : -ENOMEM;
}

/* found: its entries are told. depth: a bound for what links of mounts may do. */
static int add(struct watcher *w, const char *path, bool found, unsigned depth)
{
	int wd = w->used < LIMIT_WATCHES ? inotify_add_watch(w->fd, path, EVENTS) : -1, r;
	struct dirent *d;
	DIR *dir;

	if (wd < 0)
		return w->used < LIMIT_WATCHES ? -errno : -ENOSPC;
	r = remember(w, wd, path);
	if (r < 0 || !w->recursive || depth > LIMIT_LIST_DEPTH)
		return r;
	dir = opendir(path);
	while (r == 0 && dir && (d = readdir(dir))) {
		auto_free char *inner = NULL;
		struct stat st;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (asprintf(&inner, "%s/%s", path, d->d_name) < 0) {
			inner = NULL;
			r = -ENOMEM;
		} else if (lstat(inner, &st) == 0) {
			if (found)
				r = tell(MICROPOD__AGENT__V1__FILE_EVENT__KIND__CREATED, inner,
					S_ISDIR(st.st_mode));
			if (r == 0 && S_ISDIR(st.st_mode))
				r = add(w, inner, found, depth + 1);
			/* It went meanwhile, or is not for this user. */
			if (r == -ENOENT || r == -EACCES || r == -ENOTDIR)
				r = 0;
		}
	}
	if (dir)
		closedir(dir);
	return r;
}

static int one_event(struct watcher *w, const struct inotify_event *e)
{
	static const struct {
		uint32_t mask;
		API(FileEvent__Kind) kind;
	} kinds[] = {
		{ IN_CREATE, MICROPOD__AGENT__V1__FILE_EVENT__KIND__CREATED },
		{ IN_CLOSE_WRITE, MICROPOD__AGENT__V1__FILE_EVENT__KIND__WRITTEN },
		{ IN_DELETE, MICROPOD__AGENT__V1__FILE_EVENT__KIND__REMOVED },
		{ IN_MOVED_FROM, MICROPOD__AGENT__V1__FILE_EVENT__KIND__MOVED_FROM },
		{ IN_MOVED_TO, MICROPOD__AGENT__V1__FILE_EVENT__KIND__MOVED_TO },
		{ IN_ATTRIB, MICROPOD__AGENT__V1__FILE_EVENT__KIND__CHANGED },
	};
	const char *folder;
	auto_free char *path = NULL;
	int r = 0;

	if (e->mask & IN_Q_OVERFLOW)
		return tell(MICROPOD__AGENT__V1__FILE_EVENT__KIND__OVERFLOW, "", false);
	if (e->wd < 0 || (size_t)e->wd >= w->n || !w->paths[e->wd])
		return 0;
	folder = w->paths[e->wd];
	if (e->mask & IN_IGNORED) {
		/* The watched folder itself is gone: nothing comes any more. */
		r = w->used == 1
			    ? tell(MICROPOD__AGENT__V1__FILE_EVENT__KIND__REMOVED, folder, true)
			    : 0;
		free(w->paths[e->wd]);
		w->paths[e->wd] = NULL;
		w->used--;
		return r;
	}
	if (!e->len)
		return 0;
	if (asprintf(&path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, e->name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++)
		if (e->mask & kinds[i].mask)
			r = tell(kinds[i].kind, path, e->mask & IN_ISDIR);
	if (r == 0 && w->recursive && e->mask & IN_ISDIR && e->mask & (IN_CREATE | IN_MOVED_TO))
		r = add(w, path, true, 0);
	/* It went meanwhile. */
	return r == -ENOENT || r == -ENOTDIR || r == -EACCES ? 0 : r;
}

int files_watch(const char *path, bool recursive)
{
	struct watcher w = { .fd = inotify_init1(IN_CLOEXEC), .recursive = recursive };
	char buf[16 * KIB] __attribute__((aligned(__alignof__(struct inotify_event))));
	int r = w.fd < 0 ? -errno : add(&w, path, false, 0);

	if (r == 0)
		r = tell(MICROPOD__AGENT__V1__FILE_EVENT__KIND__READY, path, true);
	while (r == 0 && w.used) {
		ssize_t n = read(w.fd, buf, sizeof(buf));

		if (n < 0 && errno != EINTR)
			r = -errno;
		for (ssize_t at = 0; r == 0 && at < n;) {
			const struct inotify_event *e = (const void *)(buf + at);

			at += (ssize_t)(sizeof(*e) + e->len);
			r = one_event(&w, e);
		}
	}
	return r;
}
