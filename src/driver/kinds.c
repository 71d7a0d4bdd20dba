/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/kinds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/proc.h"

const struct vmm_kind vmm_kinds[VMM_MAX] = {
	[VMM_QEMU] = { "qemu", "QEMU", "qemu-system-x86_64",
		"install it (Debian, Ubuntu: sudo apt-get install qemu-system-x86; Fedora: sudo "
		"dnf "
		"install qemu-system-x86-core)",
		VM_CAN_VSOCK | VM_CAN_SNAPSHOT | VM_CAN_BALLOON | VM_CAN_PLUG | VM_CAN_FS |
			VM_CAN_SERIAL | VM_CAN_USER_NET | VM_CAN_EMULATE },
	[VMM_FIRECRACKER] = { "firecracker", "Firecracker", "firecracker",
		"get it from https://github.com/firecracker-microvm/firecracker/releases, or name "
		"it "
		"by firecracker: in micropod.yaml",
		VM_CAN_VSOCK | VM_CAN_BALLOON },
	[VMM_CLOUD_HYPERVISOR] = { "cloud-hypervisor", "Cloud Hypervisor", "cloud-hypervisor",
		"get it from https://github.com/cloud-hypervisor/cloud-hypervisor/releases, or "
		"name "
		"it by cloud_hypervisor: in micropod.yaml",
		VM_CAN_VSOCK | VM_CAN_BALLOON },
};

static const struct {
	unsigned bit;
	const char *word;
} abilities[] = {
	{ VM_CAN_PAUSE, "pausing" },
	{ VM_CAN_SNAPSHOT, "templates" },
	{ VM_CAN_PLUG, "disks while it runs" },
	{ VM_CAN_FS, "virtio-fs" },
	{ VM_CAN_VSOCK, "vsock" },
	{ VM_CAN_BALLOON, "balloon" },
	{ VM_CAN_SERIAL, "virtio-serial" },
	{ VM_CAN_USER_NET, "user-mode network" },
	{ VM_CAN_EMULATE, "works without KVM" },
};

const struct vmm_kind *vmm_kind_find(const char *word)
{
	for (size_t i = 0; i < VMM_MAX; i++)
		if (!word || strcmp(vmm_kinds[i].word, word) == 0)
			return &vmm_kinds[i];
	return NULL;
}

int vmm_find_program(
	const struct vmm_kind *kind, const char *wanted, char **ret_path, struct err *err)
{
	const char *path = getenv("PATH");

	if (wanted) {
		*ret_path = realpath(wanted, NULL);
		return *ret_path ? 0 : err_errno(err, errno, "cannot use the VMM '%s'", wanted);
	}
	for (path = path ? path : "/usr/bin:/bin"; path; path = strchr(path, ':')) {
		auto_free char *candidate = NULL;

		path += *path == ':';
		if (asprintf(&candidate, "%.*s/%s", (int)strcspn(path, ":"), path, kind->program) <
			0) {
			candidate = NULL;
			return err_errno(err, ENOMEM, "cannot look for %s", kind->title);
		}
		if (*candidate == '/' && access(candidate, X_OK) == 0) {
			*ret_path = realpath(candidate, NULL);
			if (*ret_path)
				return 0;
		}
	}
	return err_set(err, ENOENT, "%s is not installed: %s", kind->program, kind->hint);
}

int vmm_probe(const struct vmm_kind *kind, const char *wanted, char **ret_version, struct err *err)
{
	auto_free char *program = NULL, *out = NULL;
	char *word;
	int r = vmm_find_program(kind, wanted, &program, err);

	if (r < 0)
		return r;
	r = proc_run((const char *const[]){ program, "--version", NULL }, 4096, &out, err);
	if (r < 0)
		return err_wrap(err, "cannot ask the VMM for its version");
	out[strcspn(out, "\n")] = 0;
	word = strrchr(out, ' ');
	if (!word || !word[1])
		return err_set(err, EPROTO, "'%s' does not say which version it is", program);
	*ret_version = strdup(word + 1 + (word[1] == 'v'));
	return *ret_version ? 0 : err_errno(err, ENOMEM, "cannot keep the VMM's version");
}

void vmm_abilities(unsigned have, struct strbuf *out)
{
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
		if (!(have & abilities[i].bit))
			continue;
		strbuf_addf(out, "%s%s", comma, abilities[i].word);
		comma = ", ";
	}
}
