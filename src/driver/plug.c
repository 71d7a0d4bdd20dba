/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: plugging a disk is add-fd, blockdev-add, device_add, a device of a vhost-user
 * daemon's getfd, chardev-add, device_add, one of the kernel's getfd, device_add, each sent when
 * the one before has been answered, and what has been done is undone when one fails. Unplugging
 * asks the guest (device_del returns at once); once it has let go, DEVICE_DELETED comes, and
 * blockdev-del and remove-fd follow. A guest that does not let go keeps its disk.
 */
#include "driver/plug.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "driver/qemu-args.h"

#define CLEAN_UP      (10 * NSEC_PER_SEC) /* for QEMU to take what undoes a step */
#define SLOT_NAME_MAX QEMU_TAG_MAX	  /* a serial number is shorter */
#define VSOCK_NAME    "vsock device"	  /* no serial number and no tag of ours has a space */

enum plug_state {
	PLUG_FREE,
	PLUG_ADDING,
	PLUG_THERE,
	PLUG_REMOVING, /* the guest has been asked */
	PLUG_CLEANING, /* the guest has let go, or never had it */
};

enum plug_kind {
	PLUG_DISK,
	PLUG_SHARE,
	PLUG_VSOCK,
	PLUG_KERNEL_VSOCK,
};

struct slot {
	struct plugs *plugs;
	unsigned number;
	enum plug_state state;
	enum plug_kind kind;
	struct vm_disk disk;	      /* without its strings */
	unsigned cid;		      /* of a vsock device of the kernel's */
	char name[SLOT_NAME_MAX + 1]; /* the disk's serial number, the folder's tag */
	int64_t deadline;
	struct loop_timer timer;
	bool has_fd, has_node, has_chardev;
	vm_done cb;
	void *arg;
	struct err why; /* an addition's failure, while it is undone */
};

struct plugs {
	struct qmp *qmp;
	struct loop *loop;
	unsigned n;
	struct slot slots[LIMIT_VM_SLOTS];
};

int plugs_new(struct loop *loop, struct qmp *qmp, unsigned n, struct plugs **ret_plugs)
{
	struct plugs *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->loop = loop;
	p->qmp = qmp;
	p->n = MIN(n, LIMIT_VM_SLOTS);
	for (unsigned i = 0; i < p->n; i++) {
		p->slots[i].plugs = p;
		p->slots[i].number = i;
	}
	*ret_plugs = p;
	return 0;
}

struct plugs *plugs_free(struct plugs *p)
{
	if (p)
		for (unsigned i = 0; i < p->n; i++)
			loop_timer_disarm(&p->slots[i].timer);
	free(p);
	return NULL;
}

static void finish(struct slot *s, const struct err *err)
{
	vm_done cb = s->cb;

	s->cb = NULL;
	loop_timer_disarm(&s->timer);
	if (cb)
		cb(err, s->arg);
}

/* Undoing, for either reason */

static void on_clean(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;
	struct err why = s->why;

	/* QEMU may keep a node or descriptor that it still uses: the port stays taken then. */
	if (err) {
		finish(s, why.code ? &why : err);
		return;
	}
	s->state = PLUG_FREE;
	finish(s, why.code ? &why : NULL);
}

static void clean_fd(struct slot *s)
{
	if (!s->has_fd) {
		on_clean(NULL, NULL, s);
		return;
	}
	s->has_fd = false;
	if (qmp_command(s->plugs->qmp, "remove-fd", json_pack("{s:i}", "fdset-id", (int)s->number),
		    deadline_in(CLEAN_UP), on_clean, s) < 0)
		on_clean(NULL, NULL, s); /* the connection has ended, and QEMU with it */
}

static void on_node_gone(json_t *value, const struct err *err, void *arg)
{
	if (err)
		on_clean(NULL, err, arg);
	else
		clean_fd(arg);
}

static json_t *named(const char *key, const struct slot *s)
{
	char name[16];

	snprintf(name, sizeof(name), "plug%u", s->number);
	return json_pack("{s:s}", key, name);
}

static void clean(struct slot *s)
{
	s->state = PLUG_CLEANING;
	if (s->has_chardev) {
		s->has_chardev = false;
		if (qmp_command(s->plugs->qmp, "chardev-remove", named("id", s),
			    deadline_in(CLEAN_UP), on_clean, s) < 0)
			on_clean(NULL, NULL, s);
		return;
	}
	if (!s->has_node) {
		clean_fd(s);
		return;
	}
	s->has_node = false;
	if (qmp_command(s->plugs->qmp, "blockdev-del", named("node-name", s), deadline_in(CLEAN_UP),
		    on_node_gone, s) < 0)
		on_clean(NULL, NULL, s);
}

/* Adding */

static void fail(struct slot *s, const struct err *err)
{
	s->why = *err;
	clean(s);
}

static void fail_errno(struct slot *s, int code)
{
	struct err err = ERR_INIT;

	err_errno(&err, code, "cannot plug '%s' into the VM", s->name);
	fail(s, &err);
}

static void on_device(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;

	if (err) {
		fail(s, err);
		return;
	}
	s->state = PLUG_THERE;
	finish(s, NULL);
}

/* By what the device's options name what is behind it. */
static const char *const backing[] = {
	[PLUG_DISK] = "drive",
	[PLUG_SHARE] = "chardev",
	[PLUG_VSOCK] = "chardev",
	[PLUG_KERNEL_VSOCK] = "vhostfd",
};

/* Behind the slot's port; device is consumed. */
static void add_device(struct slot *s, json_t *device)
{
	char bus[16], name[16];
	int r;

	snprintf(bus, sizeof(bus), "slot%u", s->number);
	snprintf(name, sizeof(name), "plug%u", s->number);
	json_object_set_new(device, "id", json_string(name));
	json_object_set_new(device, "bus", json_string(bus));
	json_object_set_new(device, backing[s->kind], json_string(name));
	r = qmp_command(s->plugs->qmp, "device_add", device, s->deadline, on_device, s);
	if (r < 0)
		fail_errno(s, -r);
}

static void on_node(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;

	if (err) {
		fail(s, err);
		return;
	}
	s->has_node = true;
	add_device(s, json_pack("{s:s,s:s,s:s,s:s}", "driver", "virtio-blk-pci", "serial", s->name,
			      "werror", "report", "rerror", "report"));
}

static void on_fd(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;
	char file[32], name[16];
	int r;

	if (err) {
		fail(s, err);
		return;
	}
	s->has_fd = true;
	snprintf(file, sizeof(file), "/dev/fdset/%u", s->number);
	snprintf(name, sizeof(name), "plug%u", s->number);
	r = qmp_command(s->plugs->qmp, "blockdev-add",
		json_pack("{s:s,s:s,s:b,s:s,s:{s:b},s:{s:s,s:s}}", "driver", "raw", "node-name",
			name, "read-only", s->disk.read_only, "discard",
			s->disk.read_only ? "ignore" : "unmap", "cache", "no-flush",
			s->disk.ephemeral, "file", "driver", "file", "filename", file),
		s->deadline, on_node, s);
	if (r < 0)
		fail_errno(s, -r);
}

static struct slot *find(struct plugs *p, const char *name)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->slots[i].state != PLUG_FREE && strcmp(p->slots[i].name, name) == 0)
			return &p->slots[i];
	return NULL;
}

/* A free port for what is to have that name; NULL with err. */
static struct slot *choose(struct plugs *p, const char *name, struct err *err)
{
	if (find(p, name)) {
		err_set(err, EEXIST, "the VM has '%s' already", name);
		return NULL;
	}
	for (unsigned i = 0; i < p->n; i++)
		if (p->slots[i].state == PLUG_FREE)
			return &p->slots[i];
	err_set(err, ENOSPC, "the VM has no port free for '%s' (of %u)", name, p->n);
	return NULL;
}

/* The first command is on its way. */
static int begin(struct slot *s, const char *name, int64_t deadline, vm_done cb, void *arg)
{
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->deadline = deadline;
	s->why = ERR_INIT;
	s->has_fd = s->has_node = s->has_chardev = false;
	s->state = PLUG_ADDING;
	s->cb = cb;
	s->arg = arg;
	return 0;
}

int plugs_add(struct plugs *p, const struct vm_disk *disk, int64_t deadline, vm_done cb, void *arg,
	struct err *err)
{
	auto_close int fd = -1;
	struct slot *s;
	int r;

	if (strlen(disk->serial) > QEMU_SERIAL_MAX)
		return err_set(err, EINVAL, "the disk's serial number '%s' has more than %d bytes",
			disk->serial, QEMU_SERIAL_MAX);
	s = choose(p, disk->serial, err);
	if (!s)
		return -err->code;
	fd = open(disk->path, (disk->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "cannot open the disk '%s'", disk->path);
	s->disk = *disk;
	s->kind = PLUG_DISK;
	r = qmp_command_fd(p->qmp, "add-fd", json_pack("{s:i}", "fdset-id", (int)s->number), fd,
		deadline, on_fd, s);
	return r < 0 ? err_errno(err, -r, "cannot plug '%s' into the VM", disk->serial)
		     : begin(s, disk->serial, deadline, cb, arg);
}

/* Shared folders, and vsock */

static void on_chardev(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;

	if (err) {
		fail(s, err);
		return;
	}
	s->has_chardev = true;
	if (s->kind == PLUG_VSOCK)
		add_device(s, json_pack("{s:s}", "driver", "vhost-user-vsock-pci"));
	else
		add_device(
			s, json_pack("{s:s,s:s}", "driver", "vhost-user-fs-pci", "tag", s->name));
}

/* The descriptor is the device's from here on, whether it can be made or not. */
static void on_socket(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;
	char name[16];
	int r;

	if (err) {
		fail(s, err);
		return;
	}
	if (s->kind == PLUG_KERNEL_VSOCK) {
		add_device(s, json_pack("{s:s,s:i}", "driver", "vhost-vsock-pci", "guest-cid",
				      (int)s->cid));
		return;
	}
	snprintf(name, sizeof(name), "plug%u", s->number);
	r = qmp_command(s->plugs->qmp, "chardev-add",
		json_pack("{s:s,s:{s:s,s:{s:{s:s,s:{s:s}},s:b}}}", "id", name, "backend", "type",
			"socket", "data", "addr", "type", "fd", "data", "str", name, "server", 0),
		s->deadline, on_chardev, s);
	if (r < 0)
		fail_errno(s, -r);
}

static int hand_over(struct plugs *p, enum plug_kind kind, const char *name, int fd, unsigned cid,
	int64_t deadline, vm_done cb, void *arg, struct err *err)
{
	struct slot *s = choose(p, name, err);
	int r;

	if (!s)
		return -err->code;
	s->kind = kind;
	s->cid = cid;
	r = qmp_command_fd(p->qmp, "getfd", named("fdname", s), fd, deadline, on_socket, s);
	return r < 0 ? err_errno(err, -r, "cannot plug '%s' into the VM", name)
		     : begin(s, name, deadline, cb, arg);
}

int plugs_share(struct plugs *p, const char *tag, int daemon, int64_t deadline, vm_done cb,
	void *arg, struct err *err)
{
	if (!*tag || strlen(tag) > QEMU_TAG_MAX)
		return err_set(err, EINVAL, "the tag '%s' of a shared folder has not 1 to %d bytes",
			tag, QEMU_TAG_MAX);
	return hand_over(p, PLUG_SHARE, tag, daemon, 0, deadline, cb, arg, err);
}

int plugs_vsock(struct plugs *p, const struct vm_vsock *vsock, int64_t deadline, vm_done cb,
	void *arg, struct err *err)
{
	return hand_over(p, vsock->path ? PLUG_VSOCK : PLUG_KERNEL_VSOCK, VSOCK_NAME, vsock->fd,
		vsock->cid, deadline, cb, arg, err);
}

/* Removing */

static void still_there(struct slot *s, const struct err *err)
{
	s->state = PLUG_THERE;
	finish(s, err);
}

static void on_deadline(struct loop_timer *timer)
{
	struct slot *s = container_of(timer, struct slot, timer);
	struct err err = ERR_INIT;

	err_set(&err, ETIMEDOUT, "the guest did not let go of the disk '%s' in time", s->name);
	still_there(s, &err);
}

static void on_asked(json_t *value, const struct err *err, void *arg)
{
	struct slot *s = arg;

	if (err && s->state == PLUG_REMOVING)
		still_there(s, err);
}

int plugs_remove(struct plugs *p, const char *serial, int64_t deadline, vm_done cb, void *arg,
	struct err *err)
{
	struct slot *s = find(p, serial);
	int r;

	if (!s || s->kind != PLUG_DISK)
		return err_set(err, ENOENT, "no disk '%s' has been plugged into the VM", serial);
	if (s->state != PLUG_THERE)
		return err_set(
			err, EBUSY, "the disk '%s' is just being plugged or unplugged", serial);
	r = loop_timer_arm(p->loop, &s->timer, deadline, on_deadline);
	if (r == 0)
		r = qmp_command(p->qmp, "device_del", named("id", s), deadline, on_asked, s);
	if (r < 0) {
		loop_timer_disarm(&s->timer);
		return err_errno(err, -r, "cannot unplug the disk '%s'", serial);
	}
	s->state = PLUG_REMOVING;
	s->why = ERR_INIT;
	s->cb = cb;
	s->arg = arg;
	return 0;
}

void plugs_deleted(struct plugs *p, const char *device)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct slot *s = &p->slots[i];
		char name[16];

		snprintf(name, sizeof(name), "plug%u", i);
		if (strcmp(name, device) != 0 ||
			(s->state != PLUG_THERE && s->state != PLUG_REMOVING))
			continue;
		/* Also after the deadline, or a guest that lets go by itself. */
		loop_timer_disarm(&s->timer);
		clean(s);
	}
}

void plugs_fail(struct plugs *p, const struct err *err)
{
	for (unsigned i = 0; i < p->n; i++) {
		p->slots[i].state = PLUG_FREE;
		finish(&p->slots[i], err);
	}
}
