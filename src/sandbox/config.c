/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sandbox/fields.h"

static_assert(offsetof(struct sandbox_config, n_ports) ==
		      offsetof(struct sandbox_config, ports) + sizeof(void *),
	"FIELD_PORTS finds the count behind the pointer");
static_assert(offsetof(struct sandbox_state, n_ports) ==
		      offsetof(struct sandbox_state, ports) + sizeof(void *),
	"FIELD_PORTS finds the count behind the pointer");

static const char *const accel_words[] = {
	[VM_ACCEL_AUTO] = "auto",
	[VM_ACCEL_TCG] = "tcg",
	[VM_ACCEL_KVM] = "kvm",
};
static_assert(ARRAY_SIZE(accel_words) == VM_ACCEL_MAX, "a word for each accelerator");

static const char *const phase_words[] = {
	[SANDBOX_CREATED] = "created",
	[SANDBOX_STARTING] = "starting",
	[SANDBOX_RUNNING] = "running",
	[SANDBOX_STOPPING] = "stopping",
	[SANDBOX_EXITED] = "exited",
	[SANDBOX_RESTARTING] = "restarting",
	[SANDBOX_DEAD] = "dead",
};
static_assert(ARRAY_SIZE(phase_words) == SANDBOX_PHASE_MAX, "a word for each phase");

#define CONFIG(key, type)                                               \
	{                                                               \
#key, type, offsetof(struct sandbox_config, key),       \
			sizeof(((struct sandbox_config *)0)->key), NULL \
	}

static const struct field config_fields[] = {
	CONFIG(id, FIELD_CHARS),
	CONFIG(name, FIELD_CHARS),
	CONFIG(created_ns, FIELD_I64),
	CONFIG(image, FIELD_STRING),
	CONFIG(image_digest, FIELD_STRING),
	CONFIG(image_disk, FIELD_STRING),
	CONFIG(image_tree, FIELD_STRING),
	CONFIG(args, FIELD_STRV),
	CONFIG(env, FIELD_STRV),
	CONFIG(cwd, FIELD_STRING),
	CONFIG(user, FIELD_STRING),
	CONFIG(hostname, FIELD_STRING),
	CONFIG(tty, FIELD_BOOL),
	CONFIG(open_stdin, FIELD_BOOL),
	CONFIG(detached, FIELD_BOOL),
	CONFIG(remove, FIELD_BOOL),
	CONFIG(stop_signal, FIELD_STRING),
	CONFIG(stop_grace_ns, FIELD_I64),
	CONFIG(timeout_ns, FIELD_I64),
	CONFIG(lifetime_ns, FIELD_I64),
	CONFIG(idle_ns, FIELD_I64),
	CONFIG(limit_removes, FIELD_BOOL),
	CONFIG(pause, FIELD_BOOL),
	CONFIG(is_pod, FIELD_BOOL),
	CONFIG(pod, FIELD_STRING),
	CONFIG(restart, FIELD_STRING),
	CONFIG(restart_max, FIELD_U64),
	CONFIG(memory, FIELD_U64),
	CONFIG(cpu_milli, FIELD_U64),
	CONFIG(ports, FIELD_PORTS),
	CONFIG(volumes, FIELD_STRV),
	CONFIG(slots, FIELD_U64),
	CONFIG(vsock, FIELD_BOOL),
	CONFIG(bridge, FIELD_STRING),
	CONFIG(no_network, FIELD_BOOL),
	CONFIG(host_access, FIELD_BOOL),
	CONFIG(network, FIELD_STRING),
	CONFIG(ip, FIELD_STRING),
	CONFIG(address, FIELD_CHARS),
	CONFIG(reach, FIELD_STRING),
	CONFIG(aliases, FIELD_STRV),
	CONFIG(mac, FIELD_MAC),
	{ "accel", FIELD_WORD, offsetof(struct sandbox_config, accel), VM_ACCEL_MAX, accel_words },
	CONFIG(vmm, FIELD_STRING),
	CONFIG(vmm_kind, FIELD_STRING),
	CONFIG(kernel, FIELD_STRING),
	CONFIG(kernel_kind, FIELD_STRING),
	CONFIG(initramfs, FIELD_STRING),
	CONFIG(agent_rootfs, FIELD_STRING),
	CONFIG(runtime, FIELD_STRING),
	CONFIG(scratch_bytes, FIELD_U64),
	CONFIG(cold, FIELD_BOOL),
	CONFIG(template_limit, FIELD_U64),
	CONFIG(read_only, FIELD_BOOL),
	CONFIG(init, FIELD_BOOL),
	CONFIG(privileged, FIELD_BOOL),
	CONFIG(no_new_privileges, FIELD_BOOL),
	CONFIG(publish_all, FIELD_BOOL),
	CONFIG(own_mac, FIELD_BOOL),
	CONFIG(tmpfs, FIELD_STRV),
	CONFIG(memory_swap, FIELD_I64),
	CONFIG(pids_limit, FIELD_I64),
	CONFIG(cpu_shares, FIELD_U64),
	CONFIG(shm_bytes, FIELD_U64),
	CONFIG(cpuset, FIELD_STRING),
	CONFIG(cap_add, FIELD_STRV),
	CONFIG(cap_drop, FIELD_STRV),
	CONFIG(seccomp, FIELD_STRING),
	CONFIG(seccomp_filter, FIELD_STRING),
	CONFIG(health_test, FIELD_STRV),
	CONFIG(health_interval_ns, FIELD_I64),
	CONFIG(health_timeout_ns, FIELD_I64),
	CONFIG(health_start_period_ns, FIELD_I64),
	CONFIG(health_start_interval_ns, FIELD_I64),
	CONFIG(health_retries, FIELD_U64),
	CONFIG(ulimits, FIELD_STRV),
	CONFIG(sysctls, FIELD_STRV),
	CONFIG(labels, FIELD_STRV),
	CONFIG(groups, FIELD_STRV),
	CONFIG(extra_hosts, FIELD_STRV),
	CONFIG(dns, FIELD_STRV),
	CONFIG(dns_search, FIELD_STRV),
	CONFIG(dns_options, FIELD_STRV),
	CONFIG(devices, FIELD_STRV),
	CONFIG(log_bytes, FIELD_U64),
	CONFIG(log_files, FIELD_U64),
	CONFIG(log_driver, FIELD_STRING),
	CONFIG(oom_score_adj, FIELD_I64),
	CONFIG(engine, FIELD_STRING),
	CONFIG(image_arch, FIELD_STRING),
	CONFIG(image_volumes, FIELD_STRV),
	CONFIG(agent, FIELD_STRING),
	CONFIG(agent_path, FIELD_STRING),
	CONFIG(no_agent, FIELD_BOOL),
	CONFIG(agent_server, FIELD_STRING),
	CONFIG(agent_token_file, FIELD_STRING),
};

#define STATE(key, type)                                               \
	{                                                              \
#key, type, offsetof(struct sandbox_state, key),       \
			sizeof(((struct sandbox_state *)0)->key), NULL \
	}

static const struct field state_fields[] = {
	{ "phase", FIELD_WORD, offsetof(struct sandbox_state, phase), SANDBOX_PHASE_MAX,
		phase_words },
	STATE(boot_id, FIELD_CHARS),
	STATE(shim_pid, FIELD_I32),
	STATE(vmm_pid, FIELD_I32),
	STATE(net_pid, FIELD_I32),
	STATE(shim_start, FIELD_U64),
	STATE(vmm_start, FIELD_U64),
	STATE(net_start, FIELD_U64),
	STATE(helpers, FIELD_STRV),
	STATE(started_ns, FIELD_I64),
	STATE(finished_ns, FIELD_I64),
	STATE(exit_code, FIELD_I32),
	STATE(deadline_ns, FIELD_I64),
	STATE(stopped_by, FIELD_CHARS),
	STATE(restarts, FIELD_I32),
	STATE(oom_killed, FIELD_BOOL),
	STATE(paused, FIELD_BOOL),
	STATE(health, FIELD_CHARS),
	STATE(health_failing, FIELD_I32),
	STATE(health_log, FIELD_STRV),
	STATE(error, FIELD_CHARS),
	STATE(ports, FIELD_PORTS),
};

const char *sandbox_container_id(const struct sandbox_config *config)
{
	return config->pod ? config->id : SANDBOX_CONTAINER_ID;
}

void sandbox_log_name(unsigned n, char out[static SANDBOX_LOG_NAME])
{
	if (n)
		snprintf(out, SANDBOX_LOG_NAME, "container.log.%u", n);
	else
		snprintf(out, SANDBOX_LOG_NAME, "container.log");
}

void sandbox_device_split(char *text, char **ret_target, char **ret_access)
{
	char *target = strchr(text, ':'), *access = NULL;

	if (target)
		*target++ = 0;
	/* "/dev/x:rwm" too. */
	if (target && *target != '/') {
		access = target;
		target = NULL;
	} else if (target && (access = strchr(target, ':'))) {
		*access++ = 0;
	}
	*ret_target = target;
	*ret_access = access;
}

void sandbox_config_deinit(struct sandbox_config *config)
{
	fields_free(config_fields, ARRAY_SIZE(config_fields), config);
}

int sandbox_config_write(const struct sandbox_config *config, char **ret_text, struct err *err)
{
	int r = fields_write(config_fields, ARRAY_SIZE(config_fields), config, ret_text);

	return r < 0 ? err_errno(err, -r, "cannot write the configuration of '%s'", config->name)
		     : 0;
}

int sandbox_config_read(
	const char *text, size_t len, struct sandbox_config *ret_config, struct err *err)
{
	struct sandbox_config c = { 0 };
	int r = fields_read(config_fields, ARRAY_SIZE(config_fields), text, len, &c, err);

	if (r < 0) {
		sandbox_config_deinit(&c);
		return r;
	}
	*ret_config = c;
	return 0;
}

void sandbox_state_deinit(struct sandbox_state *state)
{
	fields_free(state_fields, ARRAY_SIZE(state_fields), state);
}

int sandbox_state_write(const struct sandbox_state *state, char **ret_text, struct err *err)
{
	int r = fields_write(state_fields, ARRAY_SIZE(state_fields), state, ret_text);

	return r < 0 ? err_errno(err, -r, "cannot write the sandbox's state") : 0;
}

int sandbox_state_read(
	const char *text, size_t len, struct sandbox_state *ret_state, struct err *err)
{
	struct sandbox_state s = { 0 };
	int r = fields_read(state_fields, ARRAY_SIZE(state_fields), text, len, &s, err);

	if (r < 0) {
		sandbox_state_deinit(&s);
		return r;
	}
	*ret_state = s;
	return 0;
}

const char *sandbox_phase_name(enum sandbox_phase phase)
{
	return phase_words[phase];
}
