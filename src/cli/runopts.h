/* SPDX-License-Identifier: Apache-2.0 */
/* The options of run and create, and the sandbox that comes of them. */
#pragma once

#include "cli/cli.h"
#include "image/image.h"

struct run_opts {
	bool detach, interactive, tty, remove, cold, host_access, quiet, sig_proxy;
	bool read_only, init, no_agent, privileged, publish_all;
	const char *name, *workdir, *user, *entrypoint, *hostname, *stop_signal;
	const char *network, *agent_binary, *agent_path, *agent_server, *agent_token_file;
	const char *ip, *oom_score_adj;
	const char *pod;
	struct strv log_opts;
	int log_driver; /* index into run_log_drivers */
	struct strv aliases;
	const char *platform, *health_cmd;
	bool no_healthcheck;
	int64_t health_interval, health_timeout, health_start_period, health_start_interval;
	unsigned health_retries;
	const char *memory_swap, *pids_limit, *cpuset, *mac_address, *cidfile;
	struct strv env, env_files, publish, volumes, mounts, tmpfs;
	struct strv cap_add, cap_drop, security, ulimits, sysctls, groups, labels, label_files;
	struct strv exposed, extra_hosts, dns, dns_search, dns_options, devices;
	unsigned cpu_shares, cpu_period, cpu_quota;
	uint64_t shm_bytes;
	int pull;    /* enum image_policy */
	int runtime; /* index into run_runtimes */
	int rootfs;  /* enum run_rootfs */
	int64_t stop_timeout, timeout, lifetime, idle_timeout;
	const char *restart;
	int at_limit; /* index into at_limits */
	const char *detach_keys;
	uint64_t scratch_bytes;
};

enum run_rootfs { ROOTFS_BLOCK, ROOTFS_VIRTIOFS };

extern const char *const run_log_drivers[], *const run_pulls[], *const run_rootfs[],
									*const run_runtimes[];
extern const struct run_opts run_defaults;

/* What run and create share. */
extern const struct opt run_create_opts[];

/*
 * Checks the options, fetches the image, prepares the guest if need be, and makes the sandbox.
 * words: image, then the command. id: of the new sandbox. Blocks, with progress on stderr. 0, or
 * -errno with err, or the exit code of a host that has said why itself; then nothing is left.
 */
/* A pod: a VM for the containers of others. opts: what they have in common. *id: its. 0 or -errno
 * with err. */
int run_create_pod(
	struct cli *cli, const struct run_opts *opts, char id[static ID_LEN + 1], struct err *err);

int run_create(struct cli *cli, const struct run_opts *opts, const char **words, size_t n,
	char id[static ID_LEN + 1], struct err *err);

/* Says once per verdict on stderr why there is no KVM, if there is none. */
void run_notice(struct cli *cli, enum vm_accel wanted);

/*
 * What the sandbox' first process is, from the image's configuration and the options; words: image,
 * then the command. 0 or -errno with err.
 */
int run_set_process(const struct run_opts *opts, const struct image_config *image,
	const char **words, struct sandbox_config *config, struct err *err);

/* Whether a VM can have so much. 0 or -EINVAL with err. */
int run_check_memory(uint64_t bytes, struct err *err);

/* Memory, CPUs, accelerator, kernel, agent root disk and VMM from the settings. 0 or -errno. */
int run_set_machine(struct cli *cli, struct sandbox_config *config, struct err *err);
