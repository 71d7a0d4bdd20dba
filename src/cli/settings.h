/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be set for all sandboxes: micropod.yaml (/etc/micropod, then $XDG_CONFIG_HOME/micropod
 * or
 * ~/.config/micropod), then MICROPOD_* in the environment, then options. The same table names all
 * three: "agent-rootfs" is the option --agent-rootfs, the key agent_rootfs and the variable
 * MICROPOD_AGENT_ROOTFS.
 */
#pragma once

#include "base/opt.h"
#include "base/strv.h"
#include "driver/driver.h"

enum settings_driver { SETTINGS_DRIVER_VM, SETTINGS_DRIVER_DOCKER, SETTINGS_DRIVER_MAX };

#define SETTINGS_ROWS_MAX 16

struct settings {
	const char *builder;			    /* image that builds images; NULL: not set */
	const char *firecracker, *cloud_hypervisor; /* binaries; NULL: found in PATH */
	const char *kernel, *agent_rootfs, *vmm;    /* paths (kernel: or a kind); NULL: not set */
	int accel;				    /* enum vm_accel */
	int driver;				    /* enum settings_driver */
	uint64_t memory;			    /* bytes; 0: not set */
	uint64_t cpu_milli;			    /* thousandths of a CPU; 0: not set */
	uint64_t template_limit;		    /* bytes of all templates; 0: not set */
	bool enable_virtio_fs;			    /* volumes (-v) may be used */
	bool enable_vsock;			    /* agents are joined over vsock */
	/* Where each of the table's rows was set last, by a file or the environment; NULL: nowhere
	 */
	const char *from[SETTINGS_ROWS_MAX];
	struct strv owned; /* strings that do not live in argv or the environment */
};

/* All keys. The first SETTINGS_KEYS_ONLY are set in files and the environment only, the others are
 * options of verbs as well. */
extern const struct opt settings_opts[];
#define SETTINGS_KEYS_ONLY 3
#define SETTINGS_OPTIONS   (&settings_opts[SETTINGS_KEYS_ONLY])
/* What holds if nothing is set. */
extern const struct settings settings_defaults;

/* Files and environment, in that order, over what is there. Blocks. 0 or -errno with err naming
 * file and line, or the variable. */
int settings_load(struct settings *settings, struct err *err);

/* One file; a missing one is no error. */
int settings_load_file(struct settings *settings, const char *path, struct err *err);

/* A row's name as a key ("agent_rootfs") or as the end of a variable ("AGENT_ROOTFS"). */
void settings_spell(const char *name, bool upper, char *out, size_t size);

void settings_deinit(struct settings *settings);
