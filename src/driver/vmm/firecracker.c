/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Firecracker (https://github.com/firecracker-microvm/firecracker), by its API
 * (src/firecracker/swagger/firecracker.yaml). Its guests have no serial port for the agent and no
 * serial numbers on their disks, end with a reset, and are joined over its hybrid vsock. No
 * virtio-fs, no user-mode network.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "driver/vmm/rest.h"

#define GUEST_CID 3

/* ---- what it is told ---- */

static int kernel_words(const struct vm_config *c, struct strbuf *out)
{
	/* Its documentation's, and ours: a reset by the keyboard controller ends it. */
	strbuf_adds(out,
		"console=ttyS0 quiet reboot=k panic=-1 cryptomgr.notests lsm=landlock,yama "
		"i8042.noaux i8042.nomux i8042.dumbkbd micropod.vsock micropod.reset "
		"micropod.disks=");
	for (unsigned i = 0; i < c->n_disks; i++)
		strbuf_addf(out, "%s%s", i ? "," : "", c->disks[i].serial);
	if (c->agent_rootfs)
		strbuf_addf(out, "%sagentroot", c->n_disks ? "," : "");
	if (c->agent_rootfs && c->initramfs)
		strbuf_adds(out, " micropod.root=agentroot");
	else if (c->agent_rootfs)
		strbuf_addf(out, " root=/dev/vd%c ro rootfstype=ext4 init=/sbin/init",
			'a' + (int)c->n_disks);
	if (c->cmdline && *c->cmdline)
		strbuf_addf(out, " %s", c->cmdline);
	return strbuf_error(out);
}

static int ask_drive(
	struct vm *vm, const char *id, const char *path, bool read_only, bool ephemeral)
{
	char route[64];

	snprintf(route, sizeof(route), "/drives/%s", id);
	return rest_request(vm, "PUT", route,
		json_pack("{s:s,s:s,s:b,s:b,s:s}", "drive_id", id, "path_on_host", path,
			"is_root_device", 0, "is_read_only", read_only, "cache_type",
			read_only || ephemeral ? "Unsafe" : "Writeback"),
		NULL, NULL, NULL);
}

static int ask_drives(struct vm *vm, const struct vm_config *c)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < c->n_disks; i++)
		r = ask_drive(vm, c->disks[i].serial, c->disks[i].path, c->disks[i].read_only,
			c->disks[i].ephemeral);
	if (r == 0 && c->agent_rootfs)
		r = ask_drive(vm, "agentroot", c->agent_rootfs, true, false);
	return r;
}

static int ask(struct vm *vm, const struct rest_paths *paths, const struct vm_config *c)
{
	auto_strbuf struct strbuf words = STRBUF_INIT;
	json_t *boot;
	int r = kernel_words(c, &words);

	if (r < 0)
		return r;
	r = rest_request(vm, "PUT", "/machine-config",
		json_pack("{s:i,s:I}", "vcpu_count", (int)c->cpus, "mem_size_mib",
			(json_int_t)(c->memory / MIB)),
		NULL, NULL, NULL);
	boot = json_pack("{s:s,s:s}", "kernel_image_path", c->kernel, "boot_args", words.data);
	if (c->initramfs)
		json_object_set_new(boot, "initrd_path", json_string(c->initramfs));
	if (r == 0)
		r = rest_request(vm, "PUT", "/boot-source", boot, NULL, NULL, NULL);
	else
		json_decref(boot);
	if (r == 0)
		r = ask_drives(vm, c);
	if (r == 0)
		r = rest_request(vm, "PUT", "/vsock",
			json_pack("{s:i,s:s}", "guest_cid", GUEST_CID, "uds_path", paths->vsock),
			NULL, NULL, NULL);
	if (r == 0)
		r = rest_request(vm, "PUT", "/entropy", json_object(), NULL, NULL, NULL);
	if (r == 0)
		r = rest_request(vm, "PUT", "/balloon",
			json_pack("{s:i,s:b}", "amount_mib", 0, "deflate_on_oom", 1), NULL, NULL,
			NULL);
	if (r == 0)
		r = rest_request(vm, "PUT", "/actions",
			json_pack("{s:s}", "action_type", "InstanceStart"), NULL, NULL, NULL);
	return r;
}

static int arguments(const struct rest_paths *paths, struct strv *argv)
{
	return strv_addv(
		argv, (const char *const[]){ "--api-sock", paths->api, "--id", "micropod", NULL });
}

static const struct rest_vmm firecracker = {
	.kind = &vmm_kinds[VMM_FIRECRACKER],
	.base = "http://localhost",
	.fault = "fault_message",
	.arguments = arguments,
	.ask = ask,
};

/* ---- the table ---- */

static int firecracker_probe(const char *vmm, char **ret_version, struct err *err)
{
	return vmm_probe(firecracker.kind, vmm, ret_version, err);
}

static int firecracker_identity(const struct vm_config *config, struct strbuf *out, struct err *err)
{
	return rest_no_identity(firecracker.kind, err);
}

static int firecracker_start(struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err)
{
	return rest_start(&firecracker, loop, config, events, ret_vm, err);
}

const struct driver driver_firecracker = {
	.kind = &vmm_kinds[VMM_FIRECRACKER],
	.probe = firecracker_probe,
	.identity = firecracker_identity,
	.start = firecracker_start,
	.open_session = rest_open_session,
	.kill = rest_kill,
	.pid = rest_pid,
	.free = rest_free,
};
