/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's root out of disks, below CONTAINERS_DIR/<id>:
 *   disks/image   the image's disk, or the folder of the host that it is, read-only
 *   disks/layer   the writable layer: a disk or a tmpfs, with upper/ and work/
 *   rootfs        overlayfs of both; for a read-only root the image's disk itself
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/mounts.h"
#include "agent/uevent.h"
#include "agent/virtiofs.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/limits.h"

#define SERIAL_MAX 20 /* VIRTIO_BLK_ID_BYTES, virtio 1.2 section 5.2.6 */

static bool serial_valid(const char *serial)
{
	size_t n = strlen(serial);

	return n && n <= SERIAL_MAX &&
	       strspn(serial,
		       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

/* Looking through /sys takes an emulated guest that has just gone on several milliseconds. */
static struct {
	char serial[SERIAL_MAX + 1], path[32];
} remembered[LIMIT_DISKS];
static bool named; /* they were given, and do not change */

static bool read_serial(int block, const char *name, char out[static SERIAL_MAX + 1])
{
	auto_free char *text = NULL;
	char path[300];
	size_t len;

	snprintf(path, sizeof(path), "%s/serial", name);
	if (fs_read_file(block, path, 64, &text, &len) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	snprintf(out, SERIAL_MAX + 1, "%s", text);
	return true;
}

static bool has_serial(int block, const char *name, const char *serial)
{
	char its[SERIAL_MAX + 1];

	return read_serial(block, name, its) && strcmp(its, serial) == 0;
}

void mounts_remember_disks(void)
{
	auto_closedir DIR *dir = named ? NULL : opendir("/sys/block");
	struct dirent *de;
	size_t n = 0;

	while (dir && n < ARRAY_SIZE(remembered) && (de = readdir(dir))) {
		if (strncmp(de->d_name, "vd", 2) != 0 || strlen(de->d_name) >= 16 ||
			!read_serial(dirfd(dir), de->d_name, remembered[n].serial))
			continue;
		snprintf(remembered[n].path, sizeof(remembered[n].path), "/dev/%.16s", de->d_name);
		n++;
	}
}

int mounts_name_disks(const char *names, struct err *err)
{
	size_t n = 0;

	for (const char *p = names; *p; n++) {
		size_t len = strcspn(p, ",");

		if (n == ARRAY_SIZE(remembered) || len >= sizeof(remembered[n].serial))
			return err_set(err, EINVAL, "'%.64s' cannot be the names of disks", names);
		memcpy(remembered[n].serial, p, len);
		remembered[n].serial[len] = '\0';
		if (!serial_valid(remembered[n].serial))
			return err_set(err, EINVAL, "'%.64s' cannot be the names of disks", names);
		snprintf(remembered[n].path, sizeof(remembered[n].path), "/dev/vd%c", 'a' + (int)n);
		p += len + (p[len] == ',');
	}
	named = true;
	return 0;
}

static bool recall(const char *serial, char path[static 32])
{
	for (size_t i = 0; i < ARRAY_SIZE(remembered); i++) {
		if (strcmp(remembered[i].serial, serial) == 0) {
			memcpy(path, remembered[i].path, sizeof(remembered[i].path));
			return access(path, F_OK) == 0;
		}
	}
	return false;
}

/* 0, or -ENOENT when no disk of that number is there now. */
static int scan_disks(const char *serial, char path[static 32])
{
	auto_closedir DIR *dir = opendir("/sys/block");
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		if (strncmp(de->d_name, "vd", 2) == 0 && strlen(de->d_name) < 16 &&
			has_serial(dirfd(dir), de->d_name, serial)) {
			snprintf(path, 32, "/dev/%.16s", de->d_name);
			return access(path, F_OK) == 0 ? 0 : -ENOENT;
		}
	}
	return -ENOENT;
}

int mounts_find_disk(const char *serial, int64_t deadline, char path[static 32], struct err *err)
{
	auto_close int events = -1;
	int r;

	if (!serial_valid(serial))
		return err_set(
			err, EINVAL, "'%.32s' cannot be the serial number of a disk", serial);
	if (recall(serial, path))
		return 0;
	r = scan_disks(serial, path);
	if (r == 0)
		return 0;
	/* Listening comes first, then another look: a disk that comes in between is not missed. */
	events = uevent_open();
	if (events < 0)
		return err_errno(err, -events, "cannot listen for devices");
	while ((r = scan_disks(serial, path)) == -ENOENT) {
		r = uevent_wait(events, "block", deadline);
		if (r == -ETIMEDOUT)
			return err_set(err, ENODEV, "there is no disk with the serial number '%s'",
				serial);
		if (r < 0)
			return err_errno(err, -r, "cannot wait for the disk '%s'", serial);
	}
	return 0;
}

struct paths {
	char base[160], disks[176], image[192], layer[192], upper[208], work[208], root[176];
};

static void make_paths(const char *id, struct paths *p)
{
	snprintf(p->base, sizeof(p->base), CONTAINERS_DIR "/%.128s", id);
	snprintf(p->disks, sizeof(p->disks), "%s/disks", p->base);
	snprintf(p->image, sizeof(p->image), "%s/image", p->disks);
	snprintf(p->layer, sizeof(p->layer), "%s/layer", p->disks);
	snprintf(p->upper, sizeof(p->upper), "%s/upper", p->layer);
	snprintf(p->work, sizeof(p->work), "%s/work", p->layer);
	snprintf(p->root, sizeof(p->root), "%s/rootfs", p->base);
}

static int make_folders(const struct paths *p)
{
	const char *const all[] = { p->base, p->disks, p->image, p->layer, p->root };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (mkdir(all[i], 0711) < 0 && errno != EEXIST)
			return -errno;
	return 0;
}

/*
 * noload: nobody may write the image, so its journal, should it have one, stays as it is. A
 * writable layer needs no thread that fills inode tables or reads all its bitmaps ahead: it is new
 * and large.
 */
static int mount_ext4(const char *device, const char *target, bool read_only)
{
	if (read_only)
		return mount(device, target, "ext4", MS_RDONLY, "noload");
	if (mount(device, target, "ext4", 0, "noinit_itable,no_prefetch_block_bitmaps") == 0)
		return 0;
	/* Kernels before 5.13 do not know the second, and read nothing ahead. */
	return errno == EINVAL ? mount(device, target, "ext4", 0, NULL) : -1;
}

static int mount_disk(
	const char *serial, int64_t deadline, const char *target, bool read_only, struct err *err)
{
	char device[32];
	int r = mounts_find_disk(serial, deadline, device, err);

	if (r < 0)
		return r;
	/* Nothing is cached of a disk that a saved machine had: Quiesce sees to it, once for all.
	 */
	if (mount_ext4(device, target, read_only) < 0)
		return err_errno(err, errno, "cannot mount the disk '%s'", serial);
	return 0;
}

static int mount_image(
	const struct mounts_root_disks *d, int64_t deadline, const char *target, struct err *err)
{
	return d->image_tag && *d->image_tag
		       ? virtiofs_mount(d->image_tag, target, MS_RDONLY | MS_NODEV, deadline, err)
		       : mount_disk(d->image_serial, deadline, target, true, err);
}

static int mount_layer(
	const struct mounts_root_disks *d, int64_t deadline, const char *target, struct err *err)
{
	char options[64] = "mode=711";

	if (d->scratch_serial && *d->scratch_serial)
		return mount_disk(d->scratch_serial, deadline, target, false, err);
	if (d->tmpfs_bytes)
		snprintf(options, sizeof(options), "mode=711,size=%ju", (uintmax_t)d->tmpfs_bytes);
	if (mount("tmpfs", target, "tmpfs", 0, options) < 0)
		return err_errno(err, errno, "cannot mount a tmpfs as writable layer");
	return 0;
}

/* The merged root takes owner and mode from upper: they must be the image's. An upper of an earlier
 * start stays as it is. */
static int make_upper(const struct paths *p)
{
	struct stat st;

	if (mkdir(p->work, 0711) < 0 && errno != EEXIST)
		return -errno;
	if (mkdir(p->upper, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (stat(p->image, &st) < 0 || chown(p->upper, st.st_uid, st.st_gid) < 0 ||
		chmod(p->upper, st.st_mode & 07777) < 0)
		return -errno;
	return 0;
}

static int mount_overlay(const struct paths *p, struct err *err)
{
	char options[768];
	int r = make_upper(p);

	if (r < 0)
		return err_errno(err, -r, "cannot prepare the writable layer");
	/* Said outright, so that a layer means the same under every kernel's defaults. */
	snprintf(options, sizeof(options),
		"lowerdir=%s,upperdir=%s,workdir=%s,index=off,metacopy=off,redirect_dir=off",
		p->image, p->upper, p->work);
	if (mount("overlay", p->root, "overlay", 0, options) < 0)
		return err_errno(err, errno, "cannot mount the container's root");
	return 0;
}

int mounts_container_root(
	const char *id, const struct mounts_root_disks *disks, int64_t deadline, struct err *err)
{
	struct err undo;
	struct paths p;
	int r;

	make_paths(id, &p);
	r = make_folders(&p);
	if (r < 0)
		return err_errno(err, -r, "cannot make the folders of container '%s'", id);
	if (disks->read_only) {
		r = mount_image(disks, deadline, p.root, err);
	} else {
		r = mount_image(disks, deadline, p.image, err);
		if (r == 0)
			r = mount_layer(disks, deadline, p.layer, err);
		if (r == 0)
			r = mount_overlay(&p, err);
	}
	if (r < 0)
		mounts_container_root_remove(id, &undo);
	return r;
}

int mounts_layers(const struct mounts_root_disks *disks, const char *image, const char *layer,
	int64_t deadline, struct err *err)
{
	int r = mount_image(disks, deadline, image, err);

	return r < 0 ? r : mount_disk(disks->scratch_serial, deadline, layer, false, err);
}

/* EINVAL and ENOENT: it is no mount point. */
static int unmount(const char *path)
{
	if (umount2(path, UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	if (errno == EBUSY && umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
		return 0;
	return -errno;
}

int mounts_container_root_remove(const char *id, struct err *err)
{
	struct paths p;
	int r = 0;

	make_paths(id, &p);
	for (size_t i = 0; i < 3; i++) {
		const char *const points[] = { p.root, p.layer, p.image };
		int one = unmount(points[i]);

		if (one < 0 && r == 0)
			r = err_errno(err, -one, "cannot unmount %s", points[i]);
	}
	/* Only folders that are empty, which mount points are now; the bundle beside them is its
	 * maker's. */
	rmdir(p.root);
	rmdir(p.layer);
	rmdir(p.image);
	rmdir(p.disks);
	return r;
}
