/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CPU_CLASS_FIRST 2
#define CPU_CLASS_LAST	64

static const uint64_t memory_classes[] = { 1 * GIB, 4 * GIB, 16 * GIB, 64 * GIB };

/* Locally administered; seen on the wire by nobody. */
static const uint8_t template_mac[6] = { 0x52, 0x54, 0x00, 0x00, 0x00, 0x01 };

uint64_t machine_memory_class(uint64_t bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(memory_classes); i++)
		if (bytes <= memory_classes[i])
			return memory_classes[i];
	return bytes;
}

unsigned machine_cpu_class(uint64_t milli)
{
	unsigned cpus = (unsigned)((milli + 999) / 1000);

	for (unsigned class = CPU_CLASS_FIRST; class <= CPU_CLASS_LAST; class *= 2)
		if (cpus <= class)
			return class;
	return cpus;
}

void machine_config(const struct machine *m, struct vm_config *ret_config)
{
	*ret_config = (struct vm_config){ .vmm = m->vmm,
		.kernel = m->kernel,
		.initramfs = m->initramfs,
		.agent_rootfs = m->agent_rootfs,
		.cmdline = m->cmdline,
		.memory = m->memory,
		.cpus = m->cpus,
		.accel = m->accel,
		.tsc_khz = m->tsc_khz,
		.ram_fd = -1,
		.state_fd = -1,
		.net_fd = -1,
		.vhost_vsock_fd = -1,
		.confine = true };
	memcpy(ret_config->mac, template_mac, sizeof(template_mac));
}

static void add_disk(struct vm_config *c, const char *path, const char *serial, bool read_only)
{
	c->disks[c->n_disks++] =
		(struct vm_disk){ .path = path, .serial = serial, .read_only = read_only };
}

void machine_add_disks(struct vm_config *config, const char *image, const char *scratch)
{
	add_disk(config, image, "image", true);
	add_disk(config, scratch, "scratch", false);
}

int machine_key(const struct machine *m, char out[static TEMPLATE_KEY_LEN + 1], struct err *err)
{
	auto_strbuf struct strbuf identity = STRBUF_INIT;
	struct vm_config c;
	int r;

	machine_config(m, &c);
	machine_add_disks(&c, "image", "scratch");
	/* Any descriptor: only whether there is one is part of it. */
	c.net_fd = m->network ? 0 : -1;
	strbuf_addf(&identity, "micropod %s %s\n", MICROPOD_VERSION, m->driver->name);
	r = m->driver->identity(&c, &identity, err);
	if (r == 0)
		template_key(&identity, out);
	return r;
}
