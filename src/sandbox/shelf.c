/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "sandbox/manager.h"

#define RECORD_MAX (1 * MIB)

int shelf_open(const struct shelf *shelf, struct sandbox_root *root, int *ret_lock, struct err *err)
{
	auto_close int fd = -1;
	int lock;

	if (mkdirat(root->fd, shelf->folder, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make '%s/%s'", root->path, shelf->folder);
	fd = openat(root->fd, shelf->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot open '%s/%s'", root->path, shelf->folder);
	lock = fs_lock(fd, ".lock", true, true);
	if (lock < 0)
		return err_errno(err, -lock, "cannot lock the %ss", shelf->what);
	*ret_lock = lock;
	return take_fd(&fd);
}

static int make(int folder, const char *tmp, int (*fill)(int dir, void *arg), void *arg)
{
	auto_close int dir = -1;

	if (mkdirat(folder, tmp, 0700) < 0)
		return -errno;
	dir = openat(folder, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -errno : fill(dir, arg);
}

int shelf_make(int folder, const char *name, int (*fill)(int dir, void *arg), void *arg)
{
	char id[ID_LEN + 1], tmp[ID_LEN + 8];
	struct stat st;
	int r;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	id_generate(id);
	snprintf(tmp, sizeof(tmp), ".new-%s", id);
	r = make(folder, tmp, fill, arg);
	if (r == 0 && renameat(folder, tmp, folder, name) < 0)
		r = -errno;
	if (r < 0)
		fs_remove_tree(folder, tmp);
	return r;
}

int shelf_item(
	const struct shelf *shelf, struct sandbox_root *root, const char *name, struct err *err)
{
	auto_free char *path = NULL;
	int dir;

	if (!name_valid(name))
		return err_set(err, ENOENT, "no such %s: %.100s", shelf->what, name);
	if (asprintf(&path, "%s/%s", shelf->folder, name) < 0)
		return err_errno(err, ENOMEM, "cannot look at the %s '%s'", shelf->what, name);
	dir = openat(root->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir >= 0)
		return dir;
	return errno == ENOENT
		       ? err_set(err, ENOENT, "no such %s: %.100s", shelf->what, name)
		       : err_errno(err, errno, "cannot look at the %s '%s'", shelf->what, name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int shelf_list(
	const struct shelf *shelf, struct sandbox_root *root, struct strv *names, struct err *err)
{
	auto_closedir DIR *dir = NULL;
	struct dirent *de;
	int fd = openat(root->fd, shelf->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0
				       : err_errno(err, errno, "cannot list the %ss", shelf->what);
	dir = fdopendir(fd);
	if (!dir) {
		r = err_errno(err, errno, "cannot list the %ss", shelf->what);
		safe_close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(dir)))
		if (name_valid(de->d_name))
			r = strv_add(names, de->d_name);
	if (names->n)
		qsort(names->v, names->n, sizeof(*names->v), by_name);
	return r < 0 ? err_errno(err, -r, "cannot list the %ss", shelf->what) : 0;
}

bool shelf_used(struct sandbox_root *root,
	bool (*uses)(struct sandbox_root *root, const struct sandbox_config *config, void *arg),
	void *arg, char by[static LIMIT_NAME + 1])
{
	auto_strv struct strv ids = STRV_INIT;
	struct err err = ERR_INIT;
	bool used = false;

	by[0] = 0;
	if (sandbox_list(root, &ids, &err) < 0)
		return true;
	for (size_t i = 0; i < ids.n && !used; i++) {
		struct sandbox box;
		int r = sandbox_load(root, ids.v[i], &box, &err);

		if (r == -ENOENT)
			continue;
		snprintf(by, LIMIT_NAME + 1, "%s", r < 0 ? ids.v[i] : box.config.name);
		used = r < 0 || uses(root, &box.config, arg);
		if (r == 0)
			sandbox_deinit(&box);
	}
	return used;
}

int shelf_take(const struct shelf *shelf, int folder, const char *name, struct err *err)
{
	char id[ID_LEN + 1], tmp[ID_LEN + 8];
	int r;

	id_generate(id);
	snprintf(tmp, sizeof(tmp), ".old-%s", id);
	if (renameat(folder, name, folder, tmp) < 0)
		return err_errno(err, errno, "cannot remove the %s '%s'", shelf->what, name);
	r = fs_remove_tree(folder, tmp);
	return r < 0 ? err_errno(err, -r, "cannot remove all of the %s '%s'", shelf->what, name)
		     : 0;
}

static void record_name(const struct shelf *shelf, char out[static 32])
{
	snprintf(out, 32, "%s.json", shelf->what);
}

int shelf_write_record(const struct shelf *shelf, int dir, const struct strv *labels, json_t *more)
{
	json_t *o = json_pack("{s:I}", "created", (json_int_t)clock_realtime()),
	       *list = json_array();
	auto_free char *text = NULL;
	char file[32];

	for (size_t i = 0; i < labels->n; i++)
		json_array_append_new(list, json_string(labels->v[i]));
	json_object_set_new(o, "labels", list);
	json_object_update(o, more);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	record_name(shelf, file);
	return text ? fs_replace_file(dir, file, text, strlen(text), 0600, true) : -ENOMEM;
}

int shelf_read_record(const struct shelf *shelf, int dir, int64_t *ret_created_ns,
	struct strv *labels, json_t **ret_more)
{
	auto_free char *text = NULL;
	const json_t *item;
	char file[32];
	json_t *o;
	size_t i;
	int r;

	record_name(shelf, file);
	r = fs_read_file(dir, file, RECORD_MAX, &text, NULL);
	if (r < 0)
		return r;
	o = json_loads(text, 0, NULL);
	if (!json_is_object(o)) {
		json_decref(o);
		return -EBADMSG;
	}
	*ret_created_ns = json_integer_value(json_object_get(o, "created"));
	json_array_foreach(
		json_object_get(o, "labels"), i, item) if (r == 0 && json_is_string(item)) r =
		strv_add(labels, json_string_value(item));
	if (r < 0)
		json_decref(o);
	else
		*ret_more = o;
	return r;
}
