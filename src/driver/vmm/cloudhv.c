/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cloud Hypervisor (https://github.com/cloud-hypervisor/cloud-hypervisor), by its API
 * (vmm/src/api/openapi/cloud-hypervisor.yaml): one request has all of the VM, another boots it. A
 * guest that resets is booted anew, so ours power off, and are ended by us when they have panicked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "driver/vmm/rest.h"

#define GUEST_CID 3

/* ---- what it is told ---- */

static int kernel_words(const struct vm_config *c, struct strbuf *out)
{
	strbuf_adds(out,
		"console=ttyS0 quiet panic=0 cryptomgr.notests lsm=landlock,yama micropod.vsock");
	if (c->agent_rootfs && c->initramfs)
		strbuf_adds(out, " micropod.root=agentroot");
	else if (c->agent_rootfs)
		strbuf_addf(out, " root=/dev/vd%c ro rootfstype=ext4 init=/sbin/init",
			'a' + (int)c->n_disks);
	if (c->cmdline && *c->cmdline)
		strbuf_addf(out, " %s", c->cmdline);
	return strbuf_error(out);
}

static json_t *disk(const char *serial, const char *path, bool read_only)
{
	return json_pack("{s:s,s:s,s:b,s:s}", "id", serial, "path", path, "readonly", read_only,
		"serial", serial);
}

static json_t *disks(const struct vm_config *c)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->n_disks; i++)
		json_array_append_new(
			list, disk(c->disks[i].serial, c->disks[i].path, c->disks[i].read_only));
	if (c->agent_rootfs)
		json_array_append_new(list, disk("agentroot", c->agent_rootfs, true));
	return list;
}

static json_t *payload(const struct vm_config *c, const char *words)
{
	json_t *o = json_pack("{s:s,s:s}", "kernel", c->kernel, "cmdline", words);

	if (c->initramfs)
		json_object_set_new(o, "initramfs", json_string(c->initramfs));
	return o;
}

static int ask(struct vm *vm, const struct rest_paths *paths, const struct vm_config *c)
{
	auto_strbuf struct strbuf words = STRBUF_INIT;
	int r = kernel_words(c, &words);

	if (r < 0)
		return r;
	r = rest_request(vm, "PUT", "/vm.create",
		json_pack("{s:o,s:{s:i,s:i},s:{s:I},s:o,s:{s:i,s:s},s:{s:s},s:{s:i,s:b,s:b},s:{s:s}"
			  ",s:{s:s}}",
			"payload", payload(c, words.data), "cpus", "boot_vcpus", (int)c->cpus,
			"max_vcpus", (int)c->cpus, "memory", "size", (json_int_t)c->memory, "disks",
			disks(c), "vsock", "cid", GUEST_CID, "socket", paths->vsock, "rng", "src",
			"/dev/urandom", "balloon", "size", 0, "deflate_on_oom", 1,
			"free_page_reporting", 1, "serial", "mode", "Tty", "console", "mode",
			"Off"),
		NULL, NULL, NULL);
	return r < 0 ? r : rest_request(vm, "PUT", "/vm.boot", NULL, NULL, NULL, NULL);
}

static int arguments(const struct rest_paths *paths, struct strv *argv)
{
	int r = strv_add(argv, "--api-socket");

	return r < 0 ? r : strv_addf(argv, "path=%s", paths->api);
}

static const struct rest_vmm cloudhv = {
	.kind = &vmm_kinds[VMM_CLOUD_HYPERVISOR],
	.base = "http://localhost/api/v1",
	.ends_panics = true,
	.arguments = arguments,
	.ask = ask,
};

/* ---- the table ---- */

static int cloudhv_probe(const char *vmm, char **ret_version, struct err *err)
{
	return vmm_probe(cloudhv.kind, vmm, ret_version, err);
}

static int cloudhv_identity(const struct vm_config *config, struct strbuf *out, struct err *err)
{
	return rest_no_identity(cloudhv.kind, err);
}

static int cloudhv_start(struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err)
{
	return rest_start(&cloudhv, loop, config, events, ret_vm, err);
}

const struct driver driver_cloud_hypervisor = {
	.kind = &vmm_kinds[VMM_CLOUD_HYPERVISOR],
	.probe = cloudhv_probe,
	.identity = cloudhv_identity,
	.start = cloudhv_start,
	.open_session = rest_open_session,
	.kill = rest_kill,
	.pid = rest_pid,
	.free = rest_free,
};
