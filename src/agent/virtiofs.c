/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/virtiofs.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent/uevent.h"
#include "base/cleanup.h"
#include "base/clock.h"

/* EINVAL is what the kernel has for a tag that no device has (fs/fuse/virtio_fs.c). */
int virtiofs_mount(
	const char *tag, const char *target, unsigned long flags, int64_t deadline, struct err *err)
{
	auto_close int events = uevent_open();
	int r;

	if (events < 0)
		return err_errno(err, -events, "cannot listen for devices");
	while (mount(tag, target, "virtiofs", flags, NULL) < 0) {
		if (errno != EINVAL)
			return err_errno(err, errno, "cannot mount the shared folder '%s'", tag);
		r = uevent_wait(events, "virtio", deadline);
		if (r == -ETIMEDOUT)
			return err_set(err, ENODEV, "there is no shared folder '%s'", tag);
		if (r < 0)
			return err_errno(err, -r, "cannot wait for the shared folder '%s'", tag);
	}
	return 0;
}

void virtiofs_mount_root(void)
{
	static const char tag[] = "container_rootfs";
	struct err ignored = ERR_INIT;
	struct stat root, above;

	if (mkdir(VIRTIOFS_ROOT, 0755) < 0 && errno != EEXIST)
		return;
	if (stat(VIRTIOFS_ROOT, &root) == 0 && stat("/", &above) == 0 &&
		root.st_dev != above.st_dev)
		return;
	virtiofs_mount(tag, VIRTIOFS_ROOT, MS_NODEV, clock_monotonic(), &ignored);
}
