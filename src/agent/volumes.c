/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/virtiofs.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/limits.h"

#define TAG_MAX 36 /* virtio 1.2, 5.11.4 */

bool volumes_is(const API(Mount) * m)
{
	return strcmp(m->type, "virtiofs") == 0;
}

static bool has_option(const API(Mount) * m, const char *option)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (strcmp(m->options[i], option) == 0)
			return true;
	return false;
}

bool volumes_is_read_only(const API(Mount) * m)
{
	return has_option(m, "ro");
}

bool volumes_is_populated(const API(Mount) * m)
{
	return volumes_is(m) && has_option(m, "populate");
}

static int copy_bytes(const ProtobufCBinaryData *bytes, char *out, size_t size)
{
	if (bytes->len >= size || memchr(bytes->data, 0, bytes->len))
		return -EINVAL;
	if (bytes->len)
		memcpy(out, bytes->data, bytes->len);
	out[bytes->len] = 0;
	return 0;
}

static int make_folder(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int volumes_mount(const char *id, size_t n, const API(Mount) * m, int64_t deadline,
	char path[static PATH_MAX], struct err *err)
{
	char tag[TAG_MAX + 1], name[NAME_MAX + 1], base[sizeof(VOLUMES_DIR) + LIMIT_ID + 2];
	unsigned long flags = MS_NODEV | (has_option(m, "ro") ? MS_RDONLY : 0);
	struct stat st;
	int r;

	if (copy_bytes(&m->source, tag, sizeof(tag)) < 0 || !*tag)
		return err_set(err, EINVAL, "mounts: a tag has 1 to %d bytes", TAG_MAX);
	if (copy_bytes(&m->subpath, name, sizeof(name)) < 0 || strchr(name, '/') ||
		strcmp(name, "..") == 0)
		return err_set(err, EINVAL, "mounts: a subpath is one name");
	snprintf(base, sizeof(base), VOLUMES_DIR "/%.*s", LIMIT_ID, id);
	snprintf(path, PATH_MAX, "%s/%zu", base, n);
	r = make_folder(VOLUMES_DIR);
	if (r == 0)
		r = make_folder(base);
	if (r == 0)
		r = make_folder(path);
	if (r < 0)
		return err_errno(err, -r, "cannot make '%s'", path);
	r = virtiofs_mount(tag, path, flags, deadline, err);
	if (r < 0 || !*name)
		return r;
	snprintf(path, PATH_MAX, "%s/%zu/%s", base, n, name);
	if (lstat(path, &st) < 0)
		return err_errno(
			err, errno, "cannot find '%s' in the shared folder '%s'", name, tag);
	if (S_ISLNK(st.st_mode))
		return err_set(
			err, ELOOP, "'%s' in the shared folder '%s' is a symbolic link", name, tag);
	return 0;
}

int volumes_unmount(const char *id, struct err *err)
{
	char base[sizeof(VOLUMES_DIR) + LIMIT_ID + 2], path[PATH_MAX];
	auto_closedir DIR *dir = NULL;
	struct dirent *de;
	int r = 0;

	snprintf(base, sizeof(base), VOLUMES_DIR "/%.*s", LIMIT_ID, id);
	dir = opendir(base);
	while (dir && (de = readdir(dir))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", base, de->d_name);
		/* EINVAL: mounted by the container's first process, for itself. */
		if (umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) < 0 && errno != EINVAL && r == 0)
			r = err_errno(err, errno, "cannot unmount %s", path);
		/* Only an empty one goes. */
		rmdir(path);
	}
	rmdir(base);
	return r;
}
