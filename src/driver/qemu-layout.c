/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu-layout.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TRIM_PATH "/trim.so" /* of the plugin */

int qemu_find_program(const char *wanted, char **ret_path, struct err *err)
{
	return vmm_find_program(&vmm_kinds[VMM_QEMU], wanted, ret_path, err);
}

/* Opens a file only to say in clear words, before QEMU does in its own, that and why it cannot be
 * had. */
static int check_file(const char *path, bool read_only, const char *what, struct err *err)
{
	auto_close int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? err_errno(err, errno, "cannot open %s '%s'", what, path) : 0;
}

int qemu_check_files(const struct vm_config *c, struct err *err)
{
	bool boots = c->state_fd < 0;
	int r = boots ? check_file(c->kernel, true, "the kernel", err) : 0;

	if (r == 0 && boots && c->initramfs)
		r = check_file(c->initramfs, true, "the initramfs", err);
	if (r == 0 && c->agent_rootfs)
		r = check_file(c->agent_rootfs, true, "the agent's root file system", err);
	for (unsigned i = 0; i < c->n_disks && r == 0; i++)
		r = check_file(c->disks[i].path, c->disks[i].read_only, "the disk", err);
	return r;
}

void qemu_layout_deinit(struct qemu_layout *l)
{
	for (unsigned i = 0; i < l->n_sources; i++)
		free(l->sources[i]);
}

static int bind_firmware(struct qemu_layout *l, const char *program)
{
	static const char *const files[] = { "bios-microvm.bin", "qboot.rom", "linuxboot_dma.bin",
		"linuxboot.bin", "pvh.bin" };
	static const char *const targets[] = { "/firmware/bios-microvm.bin", "/firmware/qboot.rom",
		"/firmware/linuxboot_dma.bin", "/firmware/linuxboot.bin", "/firmware/pvh.bin" };
	const char *slash = strrchr(program, '/');
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0; i++) {
		auto_free char *path = NULL;

		if (asprintf(&path, "%.*s/../share/qemu/%s", (int)(slash - program), program,
			    files[i]) < 0)
			return -ENOMEM;
		if (access(path, R_OK) < 0) {
			free(take_ptr(path));
			if (asprintf(&path, "/usr/share/qemu/%s", files[i]) < 0)
				return -ENOMEM;
		}
		l->sources[l->n_sources] = take_ptr(path);
		r = confine_bind(
			&l->spec, l->sources[l->n_sources++], targets[i], CONFINE_OPTIONAL);
	}
	if (r == 0 &&
		strncmp(program, "/usr/bin/", 9) != 0) { /* its loadable parts, if it has any */
		if (asprintf(&l->sources[l->n_sources], "%.*s/../lib", (int)(slash - program),
			    program) < 0)
			return -ENOMEM;
		l->n_sources++;
		r = confine_bind(&l->spec, l->sources[l->n_sources - 1],
			l->sources[l->n_sources - 1], CONFINE_OPTIONAL | CONFINE_EXECUTE);
	}
	return r;
}

static int bind_files(struct qemu_layout *l, const struct vm_config *c)
{
	bool boots = c->state_fd < 0;
	int r = boots ? confine_bind(&l->spec, c->kernel, "/kernel", 0) : 0;

	if (r == 0 && boots && c->initramfs)
		r = confine_bind(&l->spec, c->initramfs, "/initramfs", 0);
	for (unsigned i = 0; i < c->n_disks + (c->agent_rootfs != NULL) && r == 0; i++) {
		bool extra = i == c->n_disks, read_only = extra || c->disks[i].read_only;

		snprintf(l->targets[i], sizeof(l->targets[i]), "/disk/%u", i);
		r = confine_bind(&l->spec, extra ? c->agent_rootfs : c->disks[i].path,
			l->targets[i], read_only ? 0 : CONFINE_WRITE);
	}
	/* A private one is not there at all: the guard gives QEMU a descriptor of it. */
	if (r == 0 && c->ram == VM_RAM_SHARED)
		r = confine_bind(&l->spec, c->ram_path, QEMU_RAM_PATH, CONFINE_WRITE);
	if (r == 0 && l->view.trim)
		r = confine_bind(&l->spec, c->trim_plugin, TRIM_PATH, CONFINE_EXECUTE);
	if (r == 0 && c->accel == VM_ACCEL_KVM)
		r = confine_bind(&l->spec, "/dev/kvm", "/dev/kvm", CONFINE_DEVICE);
	return r;
}

bool qemu_io_uring_works(void)
{
	struct io_uring_params params = { 0 };
	/* As many entries as QEMU asks for. */
	auto_close int fd = (int)syscall(SYS_io_uring_setup, 128, &params);

	return fd >= 0;
}

/* Whether the guard gives QEMU the memory file. */
bool qemu_ram_by_descriptor(const struct vm_config *c)
{
	return c->ram == VM_RAM_PRIVATE || c->ram == VM_RAM_OWN;
}

int qemu_layout_make(
	struct qemu_layout *l, const struct vm_config *c, const char *program, bool trims)
{
	struct qemu_view *v = &l->view;
	int r;

	*l = (struct qemu_layout){
		.spec = { .program = program, .off = !c->confine, .ramguard_sock = -1 }
	};
	*v = (struct qemu_view){ .program = "qemu",
		.firmware = c->confine ? "/firmware" : NULL,
		.kernel = c->confine ? "/kernel" : c->kernel,
		.initramfs = c->confine ? "/initramfs" : c->initramfs,
		.ram = c->confine || qemu_ram_by_descriptor(c) ? QEMU_RAM_PATH : c->ram_path,
		.qmp_fd = QEMU_FD_QMP,
		.console_fd = QEMU_FD_CONSOLE,
		.agent_fd = QEMU_FD_AGENT,
		.net_fd = c->net_fd >= 0 ? QEMU_FD_NET : -1,
		.trim = !trims	     ? NULL
			: c->confine ? TRIM_PATH
				     : c->trim_plugin,
		.trim_fd = QEMU_FD_TRIM };
	r = confine_bind_system(&l->spec);
	if (r == 0)
		r = bind_firmware(l, program);
	if (r == 0)
		r = bind_files(l, c);
	for (unsigned i = 0; i < c->n_disks; i++)
		v->disks[i] = c->confine ? l->targets[i] : c->disks[i].path;
	if (c->agent_rootfs)
		v->disks[c->n_disks] = c->confine ? l->targets[c->n_disks] : c->agent_rootfs;
	return r;
}
