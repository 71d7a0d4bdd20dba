/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/machine.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"

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

unsigned machine_slot_class(uint64_t slots)
{
	return slots > LIMIT_VM_SHARES ? LIMIT_VM_SLOTS : slots ? LIMIT_VM_SHARES : 0;
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
		.slots = m->slots,
		.ram_fd = -1,
		.state_fd = -1,
		.net_fd = -1,
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
	add_disk(config, image, MACHINE_IMAGE_SERIAL, true);
	add_disk(config, scratch, MACHINE_SCRATCH_SERIAL, false);
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
	strbuf_addf(&identity, "micropod %s %s\n", MICROPOD_VERSION, m->driver->kind->word);
	r = m->driver->identity(&c, &identity, err);
	if (r == 0)
		template_key(&identity, out);
	return r;
}

/* Choosing */

int machine_choose(struct sandbox_root *root, const struct driver *driver,
	const struct sandbox_config *c, struct sandbox_guest *guest, struct machine *ret_machine,
	struct accel_verdict *ret_verdict, struct err *err)
{
	bool runc = c->runtime && strcmp(c->runtime, "runc") == 0;
	struct machine m = { .driver = driver,
		.vmm = c->vmm,
		.agent_rootfs = c->agent_rootfs,
		.runtime = c->runtime ? c->runtime : "builtin",
		.memory = machine_memory_class(c->memory),
		.cpus = machine_cpu_class(c->cpu_milli),
		.slots = machine_slot_class(c->slots),
		.network = !c->no_network };
	int r = accel_choose(root->path, c->accel, ret_verdict, err);

	if (r == 0 && !(c->kernel && (c->initramfs || c->agent_rootfs)))
		r = sandbox_guest_current(root, c->kernel_kind, guest, err);
	if (r == 0)
		r = accel_tsc_of_boot(root->path, &m.tsc_khz, err);
	if (r == 0 && runc && !c->initramfs && !guest->initramfs_runc)
		r = err_set(err, ENOENT,
			"runc was not installed when the guest was prepared: install it, then run "
			"micropod setup");
	if (r < 0)
		return r;
	m.accel = ret_verdict->accel;
	m.kernel = c->kernel ? c->kernel : guest->kernel;
	m.initramfs = c->initramfs ? c->initramfs : runc ? guest->initramfs_runc : guest->initramfs;
	snprintf(m.cmdline, sizeof(m.cmdline), "micropod.runtime=%s%s", m.runtime,
		m.slots ? " micropod.late" : "");
	*ret_machine = m;
	return 0;
}

/* Words */

enum word_type { WORD_STRING, WORD_CHARS, WORD_U64, WORD_UNSIGNED, WORD_ACCEL, WORD_BOOL };

#define WORD(name, field, type)                                                                   \
	{                                                                                         \
		name, type, offsetof(struct machine, field), sizeof(((struct machine *)0)->field) \
	}

static const struct word {
	const char *name;
	enum word_type type;
	size_t offset, size;
} words[] = {
	WORD("vmm", vmm, WORD_STRING),
	WORD("kernel", kernel, WORD_STRING),
	WORD("initramfs", initramfs, WORD_STRING),
	WORD("agent-rootfs", agent_rootfs, WORD_STRING),
	WORD("runtime", runtime, WORD_STRING),
	WORD("cmdline", cmdline, WORD_CHARS),
	WORD("memory", memory, WORD_U64),
	WORD("cpus", cpus, WORD_UNSIGNED),
	WORD("accel", accel, WORD_ACCEL),
	WORD("tsc-khz", tsc_khz, WORD_U64),
	WORD("slots", slots, WORD_UNSIGNED),
	WORD("network", network, WORD_BOOL),
};

static int add_word(const struct machine *m, const struct word *w, struct strv *argv)
{
	const void *field = (const char *)m + w->offset;

	switch (w->type) {
	case WORD_STRING: {
		const char *const *s = field;

		return *s ? strv_addf(argv, "--%s=%s", w->name, *s) : 0;
	}
	case WORD_CHARS:
		return strv_addf(argv, "--%s=%s", w->name, (const char *)field);
	case WORD_U64:
		return strv_addf(
			argv, "--%s=%llu", w->name, (unsigned long long)*(const uint64_t *)field);
	case WORD_UNSIGNED:
		return strv_addf(argv, "--%s=%u", w->name, *(const unsigned *)field);
	case WORD_ACCEL:
		return strv_addf(
			argv, "--%s=%s", w->name, accel_name(*(const enum vm_accel *)field));
	case WORD_BOOL:
		return strv_addf(argv, "--%s=%s", w->name, *(const bool *)field ? "yes" : "no");
	}
	return -EINVAL;
}

int machine_words(const struct machine *m, struct strv *argv)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words) && r == 0; i++)
		r = add_word(m, &words[i], argv);
	return r;
}

static int take_value(struct machine *m, const struct word *w, const char *value)
{
	void *field = (char *)m + w->offset;

	switch (w->type) {
	case WORD_STRING:
		*(const char **)field = value;
		return 0;
	case WORD_CHARS:
		return (size_t)snprintf(field, w->size, "%s", value) < w->size ? 0 : -EINVAL;
	case WORD_U64:
		return parse_u64(value, 0, INT64_MAX, field);
	case WORD_UNSIGNED:
		return parse_uint(value, 0, 1024, field);
	case WORD_ACCEL:
		return accel_parse(value, field);
	case WORD_BOOL:
		return parse_bool(value, field);
	}
	return -EINVAL;
}

int machine_take_word(struct machine *m, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].name);

		if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, words[i].name, len) == 0 &&
			word[2 + len] == '=')
			return take_value(m, &words[i], word + 2 + len + 1) < 0 ? -EINVAL : 0;
	}
	return -ENOENT;
}

int machine_template_order(const struct sandbox_root *root, const struct machine *machine,
	uint64_t max_bytes, bool wait, struct strv *argv)
{
	int r = strv_add(argv, TEMPLATE_VERB);

	if (r == 0)
		r = strv_addf(argv, "--root=%s", root->path);
	if (r == 0)
		r = strv_addf(argv, "--max-bytes=%llu", (unsigned long long)max_bytes);
	if (r == 0 && wait)
		r = strv_add(argv, "--wait");
	return r < 0 ? r : machine_words(machine, argv);
}
