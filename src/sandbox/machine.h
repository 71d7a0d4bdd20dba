/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VM a sandbox wants. Memory and CPUs come in few classes, so that few templates serve all;
 * what a sandbox asked for is a limit inside. A sandbox that boots gets a VM of the same class.
 */
#pragma once

#include "driver/accel.h"
#include "driver/driver.h"
#include "sandbox/config.h"
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
	unsigned slots; /* of the class */
	bool network;
};

/* The smallest class that holds bytes or thousandths of CPUs; above the largest: as asked for. */
uint64_t machine_memory_class(uint64_t bytes);
unsigned machine_cpu_class(uint64_t milli);
unsigned machine_slot_class(
	uint64_t slots); /* 0: none, and memory that its guest shares with nobody */

/*
 * The machine for a sandbox on this host. Its strings are borrowed from config and guest, which is
 * filled in as far as config does not name its own kernel. *ret_verdict says why there is no KVM.
 * Blocks shortly. 0 or -errno with err.
 */
int machine_choose(struct sandbox_root *root, const struct driver *driver,
	const struct sandbox_config *config, struct sandbox_guest *guest,
	struct machine *ret_machine, struct accel_verdict *ret_verdict, struct err *err);

/*
 * The machine as a vm_config without disks: strings are borrowed from machine. The MAC address is
 * every template's: the guest is given its own by the agent.
 */
void machine_config(const struct machine *machine, struct vm_config *ret_config);

/* Adds the disks that every sandbox' VM has: the image's and the writable layer's. */
#define MACHINE_IMAGE_SERIAL   "image"
#define MACHINE_SCRATCH_SERIAL "scratch"
void machine_add_disks(struct vm_config *config, const char *image, const char *scratch);

/* The key of the template that the machine could start from. 0 or -errno with err. */
int machine_key(
	const struct machine *machine, char out[static TEMPLATE_KEY_LEN + 1], struct err *err);

/*
 * As words for another program ("--kernel=...") and back. _words appends to argv: 0 or -ENOMEM.
 * _take_word: -ENOENT when it is none of these, -EINVAL when its value is wrong; strings are
 * borrowed from word.
 */
int machine_words(const struct machine *machine, struct strv *argv);
int machine_take_word(struct machine *machine, const char *word);

#define TEMPLATE_VERB "make-template"

/*
 * The words behind micropod-shim that have it make the machine's template, if it is not there, and
 * keep all templates together below max_bytes. wait: for another that makes it already; else it is
 * left to that. 0 or -ENOMEM.
 */
int machine_template_order(const struct sandbox_root *root, const struct machine *machine,
	uint64_t max_bytes, bool wait, struct strv *argv);
