/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VM a sandbox wants. Memory and CPUs come in few classes, so that few templates serve all;
 * what a sandbox asked for is a limit inside. A sandbox that boots gets a VM of the same class.
 */
#pragma once

#include "driver/driver.h"
#include "sandbox/guest.h"
#include "sandbox/template.h"

struct machine {
	const struct driver *driver;
	const char *vmm;			       /* path, or NULL */
	const char *kernel, *initramfs, *agent_rootfs; /* as in vm_config */
	const char *runtime;			       /* "crun", ... */
	char cmdline[64];
	uint64_t memory; /* of the class */
	unsigned cpus;	 /* of the class */
	enum vm_accel accel;
	uint64_t tsc_khz;
	bool network;
};

/* The smallest class that holds bytes or thousandths of CPUs; above the largest: as asked for. */
uint64_t machine_memory_class(uint64_t bytes);
unsigned machine_cpu_class(uint64_t milli);

/*
 * The machine as a vm_config without disks: strings are borrowed from machine. The MAC address is
 * every template's, so a guest that goes on from one must be given its own.
 */
void machine_config(const struct machine *machine, struct vm_config *ret_config);

/* Adds the disks that every sandbox' VM has: the image's and the writable layer's. */
void machine_add_disks(struct vm_config *config, const char *image, const char *scratch);

/* The key of the template that the machine could start from. 0 or -errno with err. */
int machine_key(
	const struct machine *machine, char out[static TEMPLATE_KEY_LEN + 1], struct err *err);
