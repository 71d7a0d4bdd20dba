/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes VMs: a table of functions, one file a VMM. The shim owns one `struct vm` on its loop.
 * Nothing here knows of containers, images or gRPC: a VM has disks, memory, a console, a network
 * descriptor and a byte stream to the agent inside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "io/loop.h"
#include "io/stream.h"
#include "driver/kinds.h"

enum vm_accel {
	VM_ACCEL_AUTO, /* only in requests; accel_choose() makes one of the others of it */
	VM_ACCEL_TCG,
	VM_ACCEL_KVM,
	VM_ACCEL_MAX
};

enum vm_transport {
	VM_TRANSPORT_SERIAL, /* virtio-serial with the greeting of driver/greeting.h */
	VM_TRANSPORT_VSOCK,  /* AF_VSOCK port 1024 of the guest's, once it has the device (vsock) */
	VM_TRANSPORT_MAX
};

/* Where the guest's memory lies. */
enum vm_ram {
	VM_RAM_ANONYMOUS, /* nowhere: gone with the VM */
	VM_RAM_SHARED,	/* in a file that the VM changes: to be saved, or for vhost-user devices */
	VM_RAM_PRIVATE, /* in a file that others start from too: changes are the VM's own */
	VM_RAM_OWN, /* in a memory file of the VM's own (ram_new()), where vhost-user devices reach
		     * it
		     */
};

struct vm_disk {
	const char *path;   /* raw image; DISK_VIRTUAL_SIZE long, sparse */
	const char *serial; /* how the guest finds it: "image", "scratch", "agentroot"; at most 20
			       bytes */
	bool read_only;
	bool ephemeral; /* nobody needs it after the VM's end: flushes are not carried out */
};

/* All strings borrowed until start returns. */
struct vm_config {
	const char *vmm;       /* path of the VMM's binary, or NULL: found by the driver */
	const char *kernel;    /* bzImage or ELF */
	const char *initramfs; /* NULL only where the kernel itself can mount agent_rootfs */
	/*
	 * ext4 image with the agent as /sbin/init, given read-only as the disk with serial
	 * "agentroot"; NULL: the initramfs is the root. With an initramfs the kernel is told
	 * micropod.root=agentroot, and its init changes over to it.
	 */
	const char *agent_rootfs;
	const char *cmdline; /* more kernel command line, or NULL */
	const char *run_dir; /* private folder of this sandbox for what the VMM must find by path */
	/* micropod-trim.so: an emulated VM then gives back what its code was translated to, once
	 * it is idle. NULL: it does not. What is found out about it is kept in state_dir (NULL:
	 * nowhere). */
	const char *trim_plugin, *state_dir;
	uint64_t memory; /* bytes */
	unsigned cpus;
	uint64_t tsc_khz; /* the host's rate (accel_tsc_khz()); 0: unknown */
	enum vm_ram ram;
	const char *ram_path; /* VM_RAM_SHARED: a file of `memory` bytes */
	int ram_fd; /* VM_RAM_PRIVATE: the same, open for reading; VM_RAM_OWN: for writing; borrowed
		     */
	int state_fd; /* what save() wrote, at its begin: the VM goes on from there; borrowed;
			 -1: it boots */
	struct vm_disk disks[LIMIT_DISKS];
	unsigned n_disks;
	unsigned slots; /* for plug(), at most LIMIT_VM_SLOTS; a saved state keeps its number */
	enum vm_accel accel; /* not AUTO */
	int net_fd; /* QEMU `-netdev stream` socket to micropod-net, borrowed; -1: no network device
		     */
	uint8_t mac[6];
	bool confine; /* false only for debugging by --debug-unconfined; true always otherwise */
};

/* Who serves a guest's vsock device, and so how it is dialled from the host. */
struct vm_vsock {
	/*
	 * A unix socket that answers "CONNECT <port>\n" with "OK <its own port>\n" (Firecracker's
	 * docs/vsock.md), and fd is connected to that vhost-user back end (vsock/device.h); NULL:
	 * the kernel serves it, and fd is an open /dev/vhost-vsock that holds cid. Borrowed.
	 */
	const char *path;
	int fd;
	unsigned cid;
};

struct vm;

/* None may free the VM but exited. */
struct vm_events {
	/* Guest console output as it comes. */
	void (*console)(struct vm *vm, const void *data, size_t len, void *arg);
	/* The VMM has ended: why is one line ("guest powered off", "guest panicked", "QEMU was
	 * killed by signal 9", ...). */
	void (*exited)(struct vm *vm, bool clean, const char *why, void *arg);
	/* Something the user should know (a disk error on the host: full), one line. */
	void (*notice)(struct vm *vm, const char *text, void *arg);
	void *arg;
};

/* The end of an operation; err NULL: it went well. Must not free the VM. */
typedef void (*vm_done)(const struct err *err, void *arg);

struct driver {
	const struct vmm_kind *kind;
	/* Whether this host can use it: 0, or -errno with err saying what is missing and how to get
	 * it. *ret_version malloc'd. Blocks. */
	int (*probe)(const char *vmm, char **ret_version, struct err *err);
	/*
	 * Everything that a saved state depends on, as text: whoever starts from the state must
	 * have the same. Files count by identity (device, inode, size, times), not by name. 0 or
	 * -errno.
	 */
	int (*identity)(const struct vm_config *config, struct strbuf *out, struct err *err);
	/* Starts the VMM process; returns when it has been executed, not booted. err names the
	 * step. */
	int (*start)(struct loop *loop, const struct vm_config *config,
		const struct vm_events *events, struct vm **ret_vm, struct err *err);
	/*
	 * Joins the agent over the transport: cb gets a stream that is the caller's, greeted and
	 * ready for HTTP/2, or an error (-ETIMEDOUT at the deadline, -EINTR when somebody has
	 * killed the VMM). One at a time. reconnect: an earlier session may be cut mid-frame.
	 */
	void (*open_session)(struct vm *vm, enum vm_transport transport, bool reconnect,
		int64_t deadline,
		void (*cb)(struct io_stream *stream, const struct err *err, void *arg), void *arg);
	/*
	 * Writes the state of the devices to state_fd (a regular file, borrowed until cb). The
	 * guest runs until it is written, and stands still for ever after; its memory is what lies
	 * in ram_path then (VM_RAM_SHARED). err NULL: done.
	 */
	void (*save)(struct vm *vm, int state_fd, int64_t deadline,
		void (*cb)(const struct err *err, void *arg), void *arg);
	/*
	 * Gives the running guest one more disk, in one of its slots, or takes one of those away
	 * again: a guest needs up to ten seconds to let go of it, and keeps it if it does not. cb
	 * comes once, perhaps from within the call, also when the VM ends. VM_CAN_PLUG.
	 */
	void (*plug)(
		struct vm *vm, const struct vm_disk *disk, int64_t deadline, vm_done cb, void *arg);
	void (*unplug)(struct vm *vm, const char *serial, int64_t deadline, vm_done cb, void *arg);
	/*
	 * Gives the running guest a folder of the host over virtio-fs, under a tag of 1 to 36
	 * bytes, in one of its slots, until the VM ends. daemon: a socket that is connected to the
	 * vhost-user daemon which serves it (driver/virtiofsd.h), borrowed; that maps the guest's
	 * memory, so it must be VM_RAM_SHARED or VM_RAM_OWN. cb as with plug. VM_CAN_FS.
	 */
	void (*share)(struct vm *vm, const char *tag, int daemon, int64_t deadline, vm_done cb,
		void *arg);
	/*
	 * Gives the running guest its vsock device, in one of its slots, until the VM ends; it can
	 * be dialled by open_session() from then on. A back end of vhost-user maps the guest's
	 * memory, so it must be VM_RAM_OWN. cb as with plug. VM_CAN_VSOCK.
	 */
	void (*vsock)(struct vm *vm, const struct vm_vsock *vsock, int64_t deadline, vm_done cb,
		void *arg);
	/* Asks the VMM to end now; exited comes. */
	void (*kill)(struct vm *vm);
	/* The VMM's pid on the host. */
	pid_t (*pid)(const struct vm *vm);
	/* Ends the VMM if it runs, waits for it, frees. */
	void (*free)(struct vm *vm);
};

extern const struct driver driver_qemu;
/* driver/vmm */
extern const struct driver driver_firecracker, driver_cloud_hypervisor;

/* All drivers, NULL-terminated, the default first. */
extern const struct driver *const driver_table[];
