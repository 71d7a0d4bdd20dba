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

static const struct rest_vmm cloudhv = {
	.kind = &vmm_kinds[VMM_CLOUD_HYPERVISOR],
	.base = "http://localhost/api/v1",
	.ends_panics = true,
};

struct vm {
	struct rest *rest;
	struct rest_paths paths;
};

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
	return json_pack(
		"{s:s,s:s,s:b,s:s}", "id", serial, "path", path, "readonly", read_only, "serial", serial);
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

static int ask_boot(struct vm *vm, const struct vm_config *c)
{
	auto_strbuf struct strbuf words = STRBUF_INIT;
	int r = kernel_words(c, &words);

	if (r < 0)
		return r;
	r = rest_request(vm->rest, "PUT", "/vm.create",
		json_pack("{s:o,s:{s:i,s:i},s:{s:I},s:o,s:{s:i,s:s},s:{s:s},s:{s:i,s:b,s:b},s:{s:s},s:{s:s}}",
			"payload", payload(c, words.data), "cpus", "boot_vcpus", (int)c->cpus, "max_vcpus",
			(int)c->cpus, "memory", "size", (json_int_t)c->memory, "disks", disks(c), "vsock",
			"cid", GUEST_CID, "socket", vm->paths.vsock, "rng", "src", "/dev/urandom", "balloon",
			"size", 0, "deflate_on_oom", 1, "free_page_reporting", 1, "serial", "mode", "Tty",
			"console", "mode", "Off"),
		NULL, NULL, NULL);
	return r < 0 ? r : rest_request(vm->rest, "PUT", "/vm.boot", NULL, NULL, NULL, NULL);
}

/* ---- the table ---- */

static int cloudhv_probe(const char *vmm, char **ret_version, struct err *err)
{
	return vmm_probe(cloudhv.kind, vmm, ret_version, err);
}

static int cloudhv_identity(const struct vm_config *config, struct strbuf *out, struct err *err)
{
	return rest_no_identity(cloudhv.kind, err);
}

static int launch(struct loop *loop, struct vm *vm, const struct vm_config *c,
	const struct vm_events *events, struct err *err)
{
	auto_free char *program = NULL;
	struct confine_spec spec = { .off = !c->confine };
	char socket[sizeof(vm->paths.api) + 8];
	char *argv[] = { (char *)cloudhv.kind->program, (char *)"--api-socket", socket, NULL };
	int r = vmm_find_program(cloudhv.kind, c->vmm, &program, err);

	if (r < 0)
		return r;
	snprintf(socket, sizeof(socket), "path=%s", vm->paths.api);
	spec.program = program;
	spec.argv = argv;
	r = rest_confine(&spec, c, &vm->paths);
	if (r < 0)
		return err_errno(err, -r, "cannot lay out the confinement");
	r = rest_start(loop, vm, &cloudhv, &spec, &vm->paths, events, &vm->rest, err);
	if (r < 0)
		return r;
	r = ask_boot(vm, c);
	return r < 0 ? err_errno(err, -r, "cannot start a VM") : 0;
}

static void cloudhv_free(struct vm *vm)
{
	if (vm)
		rest_free(vm->rest);
	free(vm);
}

static int cloudhv_start(struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r = rest_check(cloudhv.kind, config, err);

	if (r == 0 && !vm)
		r = err_errno(err, ENOMEM, "cannot start a VM");
	if (r == 0)
		r = rest_make_paths(config->run_dir, &vm->paths, err);
	if (r == 0)
		r = launch(loop, vm, config, events, err);
	if (r < 0)
		cloudhv_free(vm);
	else
		*ret_vm = vm;
	return r;
}

static void cloudhv_open_session(struct vm *vm, enum vm_transport transport, bool reconnect,
	int64_t deadline, void (*cb)(struct io_stream *stream, const struct err *err, void *arg),
	void *arg)
{
	rest_open_session(vm->rest, transport, deadline, cb, arg);
}

static void cloudhv_kill(struct vm *vm)
{
	rest_kill(vm->rest);
}

static pid_t cloudhv_pid(const struct vm *vm)
{
	return rest_pid(vm->rest);
}

const struct driver driver_cloud_hypervisor = {
	.kind = &vmm_kinds[VMM_CLOUD_HYPERVISOR],
	.probe = cloudhv_probe,
	.identity = cloudhv_identity,
	.start = cloudhv_start,
	.open_session = cloudhv_open_session,
	.kill = cloudhv_kill,
	.pid = cloudhv_pid,
	.free = cloudhv_free,
};
