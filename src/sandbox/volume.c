/* SPDX-License-Identifier: Apache-2.0 */
/* How it works: a folder is filled under a temporary name and renamed in, renamed out and then
 * deleted; a name is taken and given up under volumes/.lock. */
#include "sandbox/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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

#define RECORD	   "volume.json"
#define RECORD_MAX (1 * MIB)

void volume_deinit(struct volume *v)
{
	free(v->path);
	strv_deinit(&v->labels);
	*v = (struct volume){ 0 };
}

bool volume_name_valid(const char *name)
{
	return name_valid(name);
}

/* volumes/, made when it is first wanted, and the lock under which names are taken and given up. */
static int open_folder(struct sandbox_root *root, int *ret_lock, struct err *err)
{
	auto_close int fd = -1;
	int lock;

	if (mkdirat(root->fd, "volumes", 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "cannot make '%s/volumes'", root->path);
	fd = openat(root->fd, "volumes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "cannot open '%s/volumes'", root->path);
	lock = fs_lock(fd, ".lock", true, true);
	if (lock < 0)
		return err_errno(err, -lock, "cannot lock the volumes");
	*ret_lock = lock;
	return take_fd(&fd);
}

static int write_record(int dir, const struct strv *labels)
{
	json_t *o = json_pack("{s:I}", "created", (json_int_t)clock_realtime()),
	       *list = json_array();
	auto_free char *text = NULL;

	for (size_t i = 0; i < labels->n; i++)
		json_array_append_new(list, json_string(labels->v[i]));
	json_object_set_new(o, "labels", list);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text ? fs_replace_file(dir, RECORD, text, strlen(text), 0600, true) : -ENOMEM;
}

static int fill(int folder, const char *tmp, const struct strv *labels)
{
	auto_close int dir = -1;

	if (mkdirat(folder, tmp, 0700) < 0)
		return -errno;
	dir = openat(folder, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, VOLUME_DATA, 0755) < 0)
		return -errno;
	/* Whatever the umask is: any user of a container may look into it. */
	if (fchmodat(dir, VOLUME_DATA, 0755, 0) < 0)
		return -errno;
	return write_record(dir, labels);
}

static int make(int folder, const char *name, const struct strv *labels)
{
	char id[ID_LEN + 1], tmp[ID_LEN + 8];
	int r;

	id_generate(id);
	snprintf(tmp, sizeof(tmp), ".new-%s", id);
	r = fill(folder, tmp, labels);
	if (r == 0 && renameat(folder, tmp, folder, name) < 0)
		r = -errno;
	if (r < 0)
		fs_remove_tree(folder, tmp);
	return r;
}

int volume_create(struct sandbox_root *root, const char *name, const struct strv *labels,
	struct volume *ret_volume, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	struct stat st;
	int r = 0;

	if (!volume_name_valid(name))
		return err_set(err, EINVAL,
			"'%.100s' is no name of a volume: use 2 to %d letters, digits, '_', '.', "
			"'-', the first a letter or digit",
			name, LIMIT_NAME);
	folder = open_folder(root, &lock, err);
	if (folder < 0)
		return folder;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = make(folder, name, labels);
	if (r < 0)
		return err_errno(err, -r, "cannot make the volume '%s'", name);
	return volume_load(root, name, ret_volume, err);
}

static int read_record(int dir, struct volume *v)
{
	auto_free char *text = NULL;
	const json_t *item;
	json_t *o;
	size_t i;
	int r = fs_read_file(dir, RECORD, RECORD_MAX, &text, NULL);

	if (r < 0)
		return r;
	o = json_loads(text, 0, NULL);
	v->created_ns = json_integer_value(json_object_get(o, "created"));
	json_array_foreach(
		json_object_get(o, "labels"), i, item) if (r == 0 && json_is_string(item)) r =
		strv_add(&v->labels, json_string_value(item));
	r = o ? r : -EBADMSG;
	json_decref(o);
	return r;
}

int volume_load(
	struct sandbox_root *root, const char *name, struct volume *ret_volume, struct err *err)
{
	auto_close int dir = -1;
	auto_free char *path = NULL;
	struct volume v = { 0 };
	int r;

	if (!volume_name_valid(name))
		return err_set(err, ENOENT, "no such volume: %.100s", name);
	if (asprintf(&path, "volumes/%s", name) < 0 ||
		asprintf(&v.path, "%s/volumes/%s/" VOLUME_DATA, root->path, name) < 0)
		return err_errno(err, ENOMEM, "cannot look at the volume '%s'", name);
	dir = openat(root->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0) {
		r = errno == ENOENT ? err_set(err, ENOENT, "no such volume: %.100s", name)
				    : err_errno(err, errno, "cannot look at the volume '%s'", name);
		volume_deinit(&v);
		return r;
	}
	snprintf(v.name, sizeof(v.name), "%s", name);
	r = read_record(dir, &v);
	if (r < 0) {
		volume_deinit(&v);
		return err_errno(err, -r, "cannot read what is known of the volume '%s'", name);
	}
	*ret_volume = v;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int volume_list(struct sandbox_root *root, struct strv *names, struct err *err)
{
	auto_closedir DIR *dir = NULL;
	struct dirent *de;
	int fd = openat(root->fd, "volumes", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "cannot list the volumes");
	dir = fdopendir(fd);
	if (!dir) {
		r = err_errno(err, errno, "cannot list the volumes");
		safe_close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(dir)))
		if (volume_name_valid(de->d_name))
			r = strv_add(names, de->d_name);
	if (names->n)
		qsort(names->v, names->n, sizeof(*names->v), by_name);
	return r < 0 ? err_errno(err, -r, "cannot list the volumes") : 0;
}

bool volume_of(const struct sandbox_root *root, const char *path, char name[static LIMIT_NAME + 1])
{
	size_t len = strlen(root->path);
	const char *rest, *end;

	if (strncmp(path, root->path, len) != 0 || strncmp(path + len, "/volumes/", 9) != 0)
		return false;
	rest = path + len + 9;
	end = strchr(rest, '/');
	if (!end || end - rest > LIMIT_NAME || strcmp(end, "/" VOLUME_DATA) != 0)
		return false;
	snprintf(name, LIMIT_NAME + 1, "%.*s", (int)(end - rest), rest);
	return true;
}

bool volume_used(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1])
{
	auto_strv struct strv ids = STRV_INIT;
	struct err err = ERR_INIT;
	bool used = false;

	/* What cannot be read may use it. */
	by[0] = 0;
	if (sandbox_list(root, &ids, &err) < 0)
		return true;
	for (size_t i = 0; i < ids.n && !used; i++) {
		struct sandbox box;
		char other[LIMIT_NAME + 1];
		int r = sandbox_load(root, ids.v[i], &box, &err);

		if (r == -ENOENT)
			continue;
		snprintf(by, LIMIT_NAME + 1, "%s", r < 0 ? ids.v[i] : box.config.name);
		used = r < 0;
		for (size_t k = 0; r == 0 && k < box.config.volumes.n; k += SANDBOX_VOLUME_WORDS)
			used |= volume_of(root, box.config.volumes.v[k], other) &&
				strcmp(other, name) == 0;
		if (r == 0)
			sandbox_deinit(&box);
	}
	return used;
}

int volume_remove(struct sandbox_root *root, const char *name, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	char by[LIMIT_NAME + 1], id[ID_LEN + 1], tmp[ID_LEN + 8];
	auto_volume struct volume v = { 0 };
	int r = volume_load(root, name, &v, err);

	/* One whose record is damaged goes, too. */
	if (r == -ENOENT)
		return r;
	folder = open_folder(root, &lock, err);
	if (folder < 0)
		return folder;
	if (volume_used(root, name, by))
		return err_set(err, EBUSY, "volume '%s' is used by sandbox '%s': remove that first",
			name, by);
	id_generate(id);
	snprintf(tmp, sizeof(tmp), ".old-%s", id);
	if (renameat(folder, name, folder, tmp) < 0)
		return err_errno(err, errno, "cannot remove the volume '%s'", name);
	r = fs_remove_tree(folder, tmp);
	return r < 0 ? err_errno(err, -r, "cannot remove all of the volume '%s'", name) : 0;
}
