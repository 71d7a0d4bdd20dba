/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tree-layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/layers.h"
#include "agent/tree.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/strbuf.h"

bool tree_layer_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

bool tree_layer_is_opaque(int fd)
{
	char value[2];

	return fgetxattr(fd, OVERLAY_XATTRS "opaque", value, sizeof(value)) == 1 && *value == 'y';
}

/* Folders on the way to where the list is, which are told as changed once anything below is. */
struct above {
	const struct above *above;
	const char *path;
	bool *told;
};

struct lister {
	struct strbuf out;
	bool failed;
};

static void say(struct lister *l, char what, const char *path)
{
	strbuf_addf(&l->out, "%c %s\n", what, path);
	if (l->out.len < 32768)
		return;
	if (strbuf_error(&l->out) || fd_write_full(1, l->out.data, l->out.len) < 0)
		l->failed = true;
	strbuf_reset(&l->out);
}

static void say_above(struct lister *l, const struct above *a)
{
	if (!a || *a->told)
		return;
	say_above(l, a->above);
	*a->told = true;
	say(l, 'C', a->path);
}

static void tell(struct lister *l, const struct above *a, char what, const char *path)
{
	say_above(l, a);
	say(l, what, path);
}

static int list_folder(struct lister *l, int upper, int image, const char *path,
	const struct above *above, unsigned depth);

/* As Docker: a folder of both has changed if it says so itself, or if something in it has. */
static bool same_folder(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int list_below(struct lister *l, int dir, const char *name, const struct stat *st, int image,
	const char *path, const struct above *above, unsigned depth)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int lower = -1;
	struct stat before;
	bool told = true;
	const struct above here = { above, path, &told };

	if (fd < 0)
		return -errno;
	if (image >= 0 && fstatat(image, name, &before, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISDIR(before.st_mode) && same_folder(st, &before))
			told = false;
		else
			tell(l, above, 'C', path);
		if (S_ISDIR(before.st_mode) && !tree_layer_is_opaque(fd))
			lower = openat(
				image, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		tell(l, above, 'A', path);
	}
	return depth < LIMIT_PATH_DEPTH ? list_folder(l, fd, lower, path, &here, depth + 1)
					: -ENAMETOOLONG;
}

static int list_one(struct lister *l, int dir, const char *name, int image, const char *folder,
	const struct above *above, unsigned depth)
{
	auto_free char *path = NULL;
	struct stat st, before;

	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* it has gone meanwhile */
	if (S_ISDIR(st.st_mode))
		return list_below(l, dir, name, &st, image, path, above, depth);
	if (tree_layer_is_whiteout(&st))
		tell(l, above, 'D', path);
	else if (image >= 0 && fstatat(image, name, &before, AT_SYMLINK_NOFOLLOW) == 0)
		tell(l, above, 'C', path);
	else
		tell(l, above, 'A', path);
	return 0;
}

static int not_dots(const struct dirent *de)
{
	return strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_folder(struct lister *l, int upper, int image, const char *path,
	const struct above *above, unsigned depth)
{
	char self[32];
	struct dirent **names = NULL;
	int n, r = 0;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", upper);
	n = scandir(self, &names, not_dots, by_name);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = list_one(l, upper, names[i]->d_name, image, path, above, depth);
		free(names[i]);
	}
	free(names);
	return r;
}

static int list(void)
{
	auto_close int upper =
		openat(0, LAYERS_UPPER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int image =
		openat(0, LAYERS_IMAGE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct lister l = { 0 };
	int r;

	if (upper < 0 || image < 0) {
		/* One that was never started has no layer yet. */
		return errno == ENOENT && upper < 0 ? 0 : 1;
	}
	r = list_folder(&l, upper, image, "", NULL, 0);
	if (r == 0 && l.out.len)
		r = strbuf_error(&l.out) ? -ENOMEM : fd_write_full(1, l.out.data, l.out.len);
	if (r < 0)
		dprintf(2, "micropod: cannot list what has changed: %s\n", strerror(-r));
	strbuf_deinit(&l.out);
	return r < 0 || l.failed;
}

int tree_layer(const struct strv *args)
{
	return strcmp(args->v[2], "list") == 0	? list()
	       : strcmp(args->v[2], "tar") == 0 ? tree_send_layer(0, LAYERS_UPPER)
						: 2;
}
