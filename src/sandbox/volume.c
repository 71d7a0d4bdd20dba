/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "sandbox/shelf.h"

static const struct shelf volumes = { "volumes", "volume" };

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

static int fill(int dir, void *arg)
{
	if (mkdirat(dir, VOLUME_DATA, 0755) < 0)
		return -errno;
	/* Whatever the umask is: any user of a container may look into it. */
	if (fchmodat(dir, VOLUME_DATA, 0755, 0) < 0)
		return -errno;
	return shelf_write_record(&volumes, dir, arg, NULL);
}

int volume_create(struct sandbox_root *root, const char *name, const struct strv *labels,
	struct volume *ret_volume, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	int r;

	if (!volume_name_valid(name))
		return err_set(err, EINVAL,
			"'%.100s' is no name of a volume: use 2 to %d letters, digits, '_', '.', "
			"'-', the first a letter or digit",
			name, LIMIT_NAME);
	folder = shelf_open(&volumes, root, &lock, err);
	if (folder < 0)
		return folder;
	r = shelf_make(folder, name, fill, (void *)labels);
	if (r < 0 && r != -EEXIST)
		return err_errno(err, -r, "cannot make the volume '%s'", name);
	return volume_load(root, name, ret_volume, err);
}

int volume_load(
	struct sandbox_root *root, const char *name, struct volume *ret_volume, struct err *err)
{
	auto_close int dir = shelf_item(&volumes, root, name, err);
	struct volume v = { 0 };
	json_t *record = NULL;
	int r;

	if (dir < 0)
		return dir;
	if (asprintf(&v.path, "%s/volumes/%s/" VOLUME_DATA, root->path, name) < 0)
		return err_errno(err, ENOMEM, "cannot look at the volume '%s'", name);
	snprintf(v.name, sizeof(v.name), "%s", name);
	r = shelf_read_record(&volumes, dir, &v.created_ns, &v.labels, &record);
	json_decref(record);
	if (r < 0) {
		volume_deinit(&v);
		return err_errno(err, -r, "cannot read what is known of the volume '%s'", name);
	}
	*ret_volume = v;
	return 0;
}

int volume_list(struct sandbox_root *root, struct strv *names, struct err *err)
{
	return shelf_list(&volumes, root, names, err);
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

static bool uses(struct sandbox_root *root, const struct sandbox_config *config, void *arg)
{
	char name[LIMIT_NAME + 1];

	for (size_t i = 0; i < config->volumes.n; i += SANDBOX_VOLUME_WORDS)
		if (volume_of(root, config->volumes.v[i], name) && strcmp(name, arg) == 0)
			return true;
	return false;
}

bool volume_used(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1])
{
	return shelf_used(root, uses, (void *)name, by);
}

/* ---- without a name ---- */

#define ANONYMOUS_LABEL "com.docker.volume.anonymous=" /* Docker's mark */

char *volume_anonymous_path(const struct sandbox_root *root)
{
	char id[ID_LEN + 1], *path;

	id_generate(id);
	return asprintf(&path, "%s/volumes/%s/" VOLUME_DATA, root->path, id) < 0 ? NULL : path;
}

static bool is_anonymous(const struct volume *v)
{
	for (size_t i = 0; i < v->labels.n; i++)
		if (strcmp(v->labels.v[i], ANONYMOUS_LABEL) == 0)
			return true;
	return false;
}

int volume_make_anonymous(struct sandbox_root *root, const struct strv *words, struct err *err)
{
	auto_strv struct strv labels = STRV_INIT;
	int r = strv_add(&labels, ANONYMOUS_LABEL);

	if (r < 0)
		return err_errno(err, -r, "cannot make a volume");
	for (size_t i = 0; r == 0 && i < words->n; i += SANDBOX_VOLUME_WORDS) {
		auto_volume struct volume v = { 0 };
		char name[LIMIT_NAME + 1];
		struct err none = ERR_INIT;

		/* One with a name has been made when it was named. */
		if (volume_of(root, words->v[i], name) &&
			volume_load(root, name, &v, &none) == -ENOENT)
			r = volume_create(root, name, &labels, &v, err);
	}
	if (r < 0)
		volume_remove_anonymous(root, words);
	return r;
}

void volume_remove_anonymous(struct sandbox_root *root, const struct strv *words)
{
	for (size_t i = 0; i < words->n; i += SANDBOX_VOLUME_WORDS) {
		auto_volume struct volume v = { 0 };
		char name[LIMIT_NAME + 1];
		struct err none = ERR_INIT;

		if (volume_of(root, words->v[i], name) && volume_load(root, name, &v, &none) == 0 &&
			is_anonymous(&v))
			volume_remove(root, name, &none);
	}
}

int volume_remove(struct sandbox_root *root, const char *name, struct err *err)
{
	auto_close int folder = -1, lock = -1;
	char by[LIMIT_NAME + 1];
	auto_volume struct volume v = { 0 };
	int r = volume_load(root, name, &v, err);

	/* One whose record is damaged goes, too. */
	if (r == -ENOENT)
		return r;
	folder = shelf_open(&volumes, root, &lock, err);
	if (folder < 0)
		return folder;
	if (volume_used(root, name, by))
		return err_set(err, EBUSY, "volume '%s' is used by sandbox '%s': remove that first",
			name, by);
	return shelf_take(&volumes, folder, name, err);
}
