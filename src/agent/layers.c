/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/mounts.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"

#define PLACE "/run/layers"

/* Both below PLACE; a copy of that, whole, is taken along. */
static int mount_and_clone(const struct mounts_root_disks *disks, struct err *err)
{
	int64_t deadline = deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC / 2);
	int fd, r = mounts_layers(disks, PLACE "/image", PLACE "/layer", deadline, err);

	if (r < 0)
		return r;
	fd = (int)syscall(
		SYS_open_tree, AT_FDCWD, PLACE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	return fd < 0 ? err_errno(err, errno, "cannot take the layers along") : fd;
}

static int make_places(void)
{
	if (mkdir(PLACE, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (mount("layers", PLACE, "tmpfs", 0, "mode=700,size=64k") < 0)
		return -errno;
	if (mkdir(PLACE "/image", 0700) < 0 || mkdir(PLACE "/layer", 0700) < 0)
		return -errno;
	return 0;
}

/* ioctl(2) FIFREEZE: all that was written is on the disk, and what is written now waits. */
static int hold(int fd, int *ret_still, struct err *err)
{
	auto_close int layer = openat(fd, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (layer < 0 || ioctl(layer, FIFREEZE, 0) < 0)
		return err_errno(err, errno, "cannot have the container's files stand still");
	*ret_still = take_fd(&layer);
	return 0;
}

int layers_go_on(int still)
{
	if (still >= 0)
		ioctl(still, FITHAW, 0);
	return safe_close(still);
}

int layers_open(const char *root, const char *layer, int *ret_still, struct err *err)
{
	struct mounts_root_disks disks = { .scratch_serial = layer };
	int r;

	if (strncmp(root, "disk:", 5) == 0)
		disks.image_serial = root + 5;
	else if (strncmp(root, "tag:", 4) == 0)
		disks.image_tag = root + 4;
	else
		return err_set(err, EINVAL, "tool: ROOT is disk:SERIAL or tag:TAG");
	if (!*layer)
		return err_set(err, EINVAL, "tool: LAYER is a disk's serial number");
	r = make_places();
	r = r < 0 ? err_errno(err, -r, "cannot make '%s'", PLACE) : mount_and_clone(&disks, err);
	umount2(PLACE "/layer", MNT_DETACH);
	umount2(PLACE "/image", MNT_DETACH);
	umount2(PLACE, MNT_DETACH);
	if (r < 0 || !ret_still || hold(r, ret_still, err) == 0)
		return r;
	close(r);
	return -err->code;
}
