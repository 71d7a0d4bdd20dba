/* SPDX-License-Identifier: Apache-2.0 */
/* The VMMs that micropod knows, whether their drivers are in this program or not. */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

/* Ability bits of a driver, as `doctor` lists them; the words are in kinds.c. */
enum vm_ability {
	VM_CAN_PAUSE = 1 << 0,
	VM_CAN_SNAPSHOT = 1 << 1,
	VM_CAN_PLUG = 1 << 2,
	VM_CAN_FS = 1 << 3, /* virtio-fs */
	VM_CAN_VSOCK = 1 << 4,
	VM_CAN_BALLOON = 1 << 5,
	VM_CAN_SERIAL = 1 << 6,	  /* a virtio-serial port for the agent */
	VM_CAN_USER_NET = 1 << 7, /* frames over a socket, to micropod-net */
	VM_CAN_EMULATE = 1 << 8,  /* without KVM */
};

enum { VMM_QEMU, VMM_FIRECRACKER, VMM_CLOUD_HYPERVISOR, VMM_MAX };

struct vmm_kind {
	const char *word;    /* as in --vmm: "qemu" */
	const char *title;   /* "QEMU" */
	const char *program; /* in PATH */
	const char *hint;    /* how to get it */
	unsigned abilities;
};

/* All of them; the first is the usual one. */
extern const struct vmm_kind vmm_kinds[VMM_MAX];

/* NULL: none is called so. word NULL: the usual one. */
const struct vmm_kind *vmm_kind_find(const char *word);

/* The program: wanted, or found in PATH. *ret_path is malloc'd. 0, or -errno with err: -ENOENT and
 * the hint. */
int vmm_find_program(
	const struct vmm_kind *kind, const char *wanted, char **ret_path, struct err *err);

/* The version, malloc'd: the last word of the first line that `--version` prints, without a "v". 0
 * or -errno with err. Blocks. */
int vmm_probe(const struct vmm_kind *kind, const char *wanted, char **ret_version, struct err *err);

/* Appends the abilities in words: "snapshots, plugging, virtio-fs". */
void vmm_abilities(unsigned abilities, struct strbuf *out);
