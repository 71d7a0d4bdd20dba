/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: everything that can be wrong with the options is found before anything is fetched
 * or made. The sandbox is written down before its image's disk is asked for a last time, so that a
 * prune in between cannot take it away.
 */
#include "cli/runopts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/parse.h"
#include "base/trace.h"
#include "cli/container.h"
#include "cli/docker.h"
#include "cli/envs.h"
#include "cli/guest.h"
#include "cli/images.h"
#include "cli/ports.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/target.h"
#include "cli/volumes.h"
#include "driver/accel.h"
#include "driver/virtiofsd.h"
#include "image/disk.h"
#include "oci/signal.h"
#include "sandbox/network.h"
#include "sandbox/template.h"
#include "sandbox/volume.h"

#define MEMORY_DEFAULT GIB
#define MEMORY_MIN     (64 * MIB)
#define MEMORY_MAX     TIB
#define CPUS_DEFAULT   2
#define CPUS_MAX       64
#define SCRATCH_BYTES  (16 * GIB)
#define SCRATCH_MIN    (16 * MIB) /* image/disk.h */
#define SCRATCH_MAX    (1000 * GIB)
#define HOSTNAME_LEN   63

const char *const run_pulls[] = {
	[IMAGE_PULL_MISSING] = "missing",
	[IMAGE_PULL_ALWAYS] = "always",
	[IMAGE_PULL_NEVER] = "never",
	NULL,
};
const char *const run_log_drivers[] = { "json-file", "local", "none", NULL };
const char *const run_rootfs[] = { [ROOTFS_BLOCK] = "block", [ROOTFS_VIRTIOFS] = "virtiofs", NULL };
const char *const run_runtimes[] = { "builtin", "crun", "runc", NULL };
static_assert(ARRAY_SIZE(run_pulls) == IMAGE_PULL_MAX + 1, "a word for each policy");

/* Docker's option: KEY=VALUE, of which there is one. */
static int parse_storage(const char *value, void *field, struct err *err)
{
	uint64_t bytes;

	if (strncmp(value, "size=", 5) != 0)
		return err_set(err, EINVAL, "the only key is 'size', as in size=10G");
	if (parse_size(value + 5, &bytes) < 0 || bytes < SCRATCH_MIN || bytes > SCRATCH_MAX)
		return err_set(err, EINVAL, "give a size from %llu MiB to %llu GiB",
			(unsigned long long)(SCRATCH_MIN / MIB),
			(unsigned long long)(SCRATCH_MAX / GIB));
	*(uint64_t *)field = bytes;
	return 0;
}

static const char *const at_limits[] = { "stop", "remove", NULL };

#define AT(field) offsetof(struct run_opts, field)
const struct opt run_create_opts[] = {
	{ "add-host", 0, OPT_LIST, AT(extra_hosts), "NAME:ADDRESS",
		"a name that the container's /etc/hosts has" },
	{ "agent-binary", 0, OPT_STRING, AT(agent_binary), "FILE",
		"docker: the agent to put in (default: the one installed with micropod)" },
	{ "agent-path", 0, OPT_STRING, AT(agent_path), "PATH",
		"docker: copy it there (default: nothing is copied, it is seen "
		"at " DOCKER_AGENT_HERE "; with a remote engine: " DOCKER_AGENT_PATH ")" },
	{ "agent-server", 0, OPT_STRING, AT(agent_server), "URL",
		"docker: a server that its agent dials, besides its shim here" },
	{ "agent-token-file", 0, OPT_STRING, AT(agent_token_file), "FILE",
		"docker: who it is there (micropod token create --agent)" },
	{ "at-limit", 0, OPT_WORD, AT(at_limit), "WHAT",
		"what happens after --lifetime or --idle-timeout", .words = at_limits },
	{ "cap-add", 0, OPT_LIST, AT(cap_add), "CAPABILITY",
		"give it this capability too, such as NET_ADMIN; ALL: all" },
	{ "cap-drop", 0, OPT_LIST, AT(cap_drop), "CAPABILITY",
		"take this capability from it; ALL: all" },
	{ "cidfile", 0, OPT_STRING, AT(cidfile), "FILE", "write the sandbox's id into a new file" },
	{ "cold", 0, OPT_FLAG, AT(cold), NULL,
		"boot the VM instead of starting it from a template" },
	{ "cpu-period", 0, OPT_UINT, AT(cpu_period), "MICROSECONDS",
		"what --cpu-quota is of (default: 100000)", .min = 1000, .max = 1000000 },
	{ "cpu-quota", 0, OPT_UINT, AT(cpu_quota), "MICROSECONDS",
		"CPU time of each --cpu-period, in place of --cpus", .min = 1000,
		.max = 100000000 },
	{ "cpu-shares", 'c', OPT_UINT, AT(cpu_shares), "SHARES",
		"its weight where CPUs are short: 2 to 262144, others have 1024", .min = 2,
		.max = 262144 },
	{ "cpuset-cpus", 0, OPT_STRING, AT(cpuset), "CPUS", "CPUs that it runs on, such as 0-1,3" },
	{ "device", 0, OPT_LIST, AT(devices), "DEVICE[:PATH[:rwm]]",
		"let it use a device of the host; in a VM: of the guest, such as /dev/fuse" },
	{ "dns", 0, OPT_LIST, AT(dns), "ADDRESS", "a name server in place of the usual one" },
	{ "dns-option", 0, OPT_LIST, AT(dns_options), "OPTION", "an option of resolv.conf(5)" },
	{ "dns-search", 0, OPT_LIST, AT(dns_search), "DOMAIN",
		"a domain in which short names are looked up" },
	{ "entrypoint", 0, OPT_STRING, AT(entrypoint), "PROGRAM",
		"run this instead of the image's entrypoint" },
	{ "env", 'e', OPT_LIST, AT(env), "KEY=VALUE",
		"set a variable; KEY alone takes its value from here" },
	{ "env-file", 0, OPT_LIST, AT(env_files), "FILE",
		"set the variables of a file, one KEY=VALUE a line" },
	{ "expose", 0, OPT_LIST, AT(exposed), "PORT[/udp]",
		"a port, or several (8000-8002), that --publish-all makes reachable too" },
	{ "group-add", 0, OPT_LIST, AT(groups), "GROUP",
		"one more group of the process, by name or number" },
	{ "health-cmd", 0, OPT_STRING, AT(health_cmd), "COMMAND",
		"the shell's command that finds out whether the program does its work" },
	{ "health-interval", 0, OPT_DURATION, AT(health_interval), "SECONDS",
		"time between two checks (default: 30s)" },
	{ "health-retries", 0, OPT_UINT, AT(health_retries), "N",
		"failures in a row that make it unhealthy (default: 3)", .min = 1, .max = 1000000 },
	{ "health-start-interval", 0, OPT_DURATION, AT(health_start_interval), "SECONDS",
		"time between two checks while it starts (default: 5s)" },
	{ "health-start-period", 0, OPT_DURATION, AT(health_start_period), "SECONDS",
		"how long it may take to start, when failures do not count (default: 0s)" },
	{ "health-timeout", 0, OPT_DURATION, AT(health_timeout), "SECONDS",
		"how long a check may take (default: 30s)" },
	{ "host-access", 0, OPT_FLAG, AT(host_access), NULL,
		"let it reach this host's loopback as 10.0.2.2" },
	{ "hostname", 'h', OPT_STRING, AT(hostname), "NAME",
		"host name inside (default: the sandbox's id)" },
	{ "idle-timeout", 0, OPT_DURATION, AT(idle_timeout), "SECONDS",
		"end the sandbox when nobody has used it for so long (0: never)" },
	{ "init", 0, OPT_FLAG, AT(init), NULL,
		"a process 1 that reaps what others leave behind, before the program" },
	{ "interactive", 'i', OPT_FLAG, AT(interactive), NULL, "keep stdin open" },
	{ "ip", 0, OPT_STRING, AT(ip), "ADDRESS",
		"its IPv4 address on a network with a name (default: a free one)" },
	{ "label", 'l', OPT_LIST, AT(labels), "KEY=VALUE", "note this down with the sandbox" },
	{ "label-file", 0, OPT_LIST, AT(label_files), "FILE",
		"note down the labels of a file, one KEY=VALUE a line" },
	{ "lifetime", 0, OPT_DURATION, AT(lifetime), "SECONDS",
		"end the sandbox so long after its start, unless extended (0: never)" },
	{ "log-driver", 0, OPT_WORD, AT(log_driver), "DRIVER",
		"how its output is kept: json-file and local, in files; none, not at all",
		.words = run_log_drivers },
	{ "log-opt", 0, OPT_LIST, AT(log_opts), "KEY=VALUE",
		"max-size=SIZE of a file of its log (default: 20m), max-file=N of them (default: "
		"5)" },
	{ "mac-address", 0, OPT_STRING, AT(mac_address), "MAC",
		"of its network card, such as 02:00:00:00:00:01 (default: made up)" },
	{ "memory-swap", 0, OPT_STRING, AT(memory_swap), "SIZE",
		"memory and swap together, -1: no limit (a VM has no swap)" },
	{ "mount", 0, OPT_LIST, AT(mounts), "type=bind,...",
		"the same as -v and --tmpfs: type=bind, volume or tmpfs, source=, target=, "
		"readonly" },
	{ "name", 0, OPT_STRING, AT(name), "NAME", "name of the sandbox (default: made up)" },
	{ "network", 0, OPT_STRING, AT(network), "WHICH",
		"network of the sandbox: default, none, private-only (addresses of private "
		"networks), "
		"internet-only (all others), or one that 'network create' has made; docker: what "
		"the engine has" },
	{ "network-alias", 0, OPT_LIST, AT(aliases), "NAME",
		"one more name that others on its network find it by" },
	{ "no-agent", 0, OPT_FLAG, AT(no_agent), NULL,
		"docker: run the image as it is; exec, attach and cp cannot do anything then" },
	{ "no-healthcheck", 0, OPT_FLAG, AT(no_healthcheck), NULL,
		"do not do what the image says about that" },
	{ "oom-score-adj", 0, OPT_STRING, AT(oom_score_adj), "N",
		"how gladly its processes are killed when memory runs out, -1000 to 1000" },
	{ "pids-limit", 0, OPT_STRING, AT(pids_limit), "N",
		"processes it may have at once, -1: no limit" },
	{ "platform", 0, OPT_STRING, AT(platform), "OS/ARCHITECTURE",
		"what the image has to be for; only this machine's runs" },
	{ "pod", 0, OPT_STRING, AT(pod), "POD",
		"run it in the VM of a pod, beside others, with their network and IPC" },
	{ "privileged", 0, OPT_FLAG, AT(privileged), NULL,
		"no confinement of the container; in a VM: inside of it" },
	{ "publish", 'p', OPT_LIST, AT(publish), "[IP:]HOST:PORT",
		"make its port reachable on this host" },
	{ "publish-all", 'P', OPT_FLAG, AT(publish_all), NULL,
		"make all ports that the image names reachable on free ports of this host" },
	{ "pull", 0, OPT_WORD, AT(pull), "WHEN", "when to fetch the image", .words = run_pulls },
	{ "quiet", 'q', OPT_FLAG, AT(quiet), NULL, "no progress and no notices" },
	{ "rootfs", 0, OPT_WORD, AT(rootfs), "HOW",
		"what its root file system comes as: block, a disk image; virtiofs, a folder of "
		"this "
		"host",
		.words = run_rootfs },
	{ "read-only", 0, OPT_FLAG, AT(read_only), NULL,
		"its root file system cannot be written to" },
	{ "restart", 0, OPT_STRING, AT(restart), "POLICY",
		"start it again when it has ended: no, on-failure[:TIMES], always, "
		"unless-stopped" },
	{ "rm", 0, OPT_FLAG, AT(remove), NULL, "remove the sandbox when it ends" },
	{ "runtime", 0, OPT_WORD, AT(runtime), "WHICH", "what starts the container",
		.words = run_runtimes },
	{ "security-opt", 0, OPT_LIST, AT(security), "OPTION",
		"no-new-privileges, seccomp=FILE or seccomp=unconfined" },
	{ "shm-size", 0, OPT_SIZE, AT(shm_bytes), "SIZE", "size of /dev/shm (default: 64m)" },
	{ "stop-signal", 0, OPT_STRING, AT(stop_signal), "SIGNAL",
		"what stop sends (default: the image's, or TERM)" },
	{ "stop-timeout", 0, OPT_DURATION, AT(stop_timeout), "SECONDS",
		"how long stop waits before it kills" },
	{ "storage-opt", 0, OPT_CALL, AT(scratch_bytes), "size=SIZE",
		"room for what it writes (default: 16g); taken from the disk as it is used",
		.parse = parse_storage },
	{ "sysctl", 0, OPT_LIST, AT(sysctls), "KEY=VALUE",
		"a kernel setting of its own, such as net.core.somaxconn=1024" },
	{ "timeout", 0, OPT_DURATION, AT(timeout), "SECONDS",
		"kill it if it runs longer, and exit with 124 (0: never)" },
	{ "tmpfs", 0, OPT_LIST, AT(tmpfs), "DIR[:OPTIONS]", "a file system in memory" },
	{ "tty", 't', OPT_FLAG, AT(tty), NULL, "give the process a terminal" },
	{ "ulimit", 0, OPT_LIST, AT(ulimits), "NAME=SOFT[:HARD]",
		"a limit of its processes, such as nofile=1024:2048" },
	{ "user", 'u', OPT_STRING, AT(user), "USER[:GROUP]", "user, by name or number" },
	{ "volume", 'v', OPT_LIST, AT(volumes), "HOST|NAME:DIR[:ro]",
		"show a folder or file of this host, or a volume, in the container" },
	{ "workdir", 'w', OPT_STRING, AT(workdir), "DIR", "folder that the process starts in" },
	{ NULL },
};

const struct run_opts run_defaults = { .sig_proxy = true, .stop_timeout = 10 * NSEC_PER_SEC };

static int set(char **field, const char *value, struct err *err)
{
	if (!value)
		return 0;
	*field = strdup(value);
	return *field ? 0 : err_errno(err, ENOMEM, "cannot make the sandbox");
}

/* A file that the VMM will read, as an absolute path. */
static int set_file(char **field, const char *path, const char *what, struct err *err)
{
	auto_close int fd = -1;
	struct stat st;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read the %s '%s'", what, path);
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return err_set(
			err, EINVAL, "the %s '%s' is not a file with something in it", what, path);
	*field = realpath(path, NULL);
	return *field ? 0 : err_errno(err, errno, "cannot find the %s '%s'", what, path);
}

static unsigned host_cpus(void)
{
	cpu_set_t set_of_cpus;

	return sched_getaffinity(0, sizeof(set_of_cpus), &set_of_cpus) < 0
		       ? 1
		       : (unsigned)CPU_COUNT(&set_of_cpus);
}

int run_check_memory(uint64_t bytes, struct err *err)
{
	if (bytes < MEMORY_MIN || bytes > MEMORY_MAX)
		return err_set(err, EINVAL,
			"memory of %llu MiB is out of range: give from %llu MiB to %llu GiB",
			(unsigned long long)(bytes / MIB), (unsigned long long)(MEMORY_MIN / MIB),
			(unsigned long long)(MEMORY_MAX / GIB));
	return 0;
}

/* A kind, or a file: a QEMU. */
static int set_vmm(const struct settings *s, struct sandbox_config *c, struct err *err)
{
	const struct vmm_kind *kind = s->vmm ? vmm_kind_find(s->vmm) : NULL;
	auto_free char *program = NULL;

	if (!kind)
		return set_file(&c->vmm, s->vmm, "VMM", err);
	if (kind == vmm_kinds)
		return 0;
	/* Its agent is joined so in any case. */
	c->slots -= c->vsock;
	c->vsock = false;
	if (set(&c->vmm_kind, kind->word, err) < 0)
		return -err->code;
	if (set_file(&c->vmm,
		    kind == &vmm_kinds[VMM_FIRECRACKER] ? s->firecracker : s->cloud_hypervisor,
		    "VMM", err) < 0)
		return -err->code;
	/* Before an image is fetched. */
	return vmm_find_program(kind, c->vmm, &program, err);
}

/* What only some VMMs have. */
static int check_vmm(const struct sandbox_config *c, struct err *err)
{
	const struct vmm_kind *kind = vmm_kind_find(c->vmm_kind);

	if (c->slots && !(kind->abilities & VM_CAN_FS))
		return err_set(err, ENOTSUP,
			"%s has no virtio-fs, which '-v' and '--rootfs virtiofs' need, and takes "
			"no "
			"disks while it runs: use --vmm qemu",
			kind->title);
	if (!c->no_network && !(kind->abilities & VM_CAN_USER_NET))
		return err_set(err, ENOTSUP,
			"%s has no user-mode network: give '--network none', or use --vmm qemu",
			kind->title);
	if (c->accel == VM_ACCEL_TCG && !(kind->abilities & VM_CAN_EMULATE))
		return err_set(err, ENOTSUP, "%s needs KVM: use --vmm qemu", kind->title);
	return 0;
}

int run_set_machine(struct cli *cli, struct sandbox_config *c, struct err *err)
{
	const struct settings *s = &cli->settings;
	int r;

	c->accel = (enum vm_accel)s->accel;
	c->vsock = s->enable_vsock;
	c->slots += c->vsock;
	c->memory = s->memory ? s->memory : MEMORY_DEFAULT;
	r = run_check_memory(c->memory, err);
	if (r < 0)
		return r;
	c->cpu_milli = s->cpu_milli ? s->cpu_milli : 1000 * MIN(CPUS_DEFAULT, host_cpus());
	if (c->cpu_milli > 1000 * CPUS_MAX)
		return err_set(err, EINVAL, "%llu CPUs are too many: give %d at most",
			(unsigned long long)(c->cpu_milli / 1000), CPUS_MAX);
	r = container_check_cpus(c, (unsigned)((c->cpu_milli + 999) / 1000), err);
	if (r < 0)
		return r;
	if (s->kernel && sandbox_guest_is_kind(s->kernel))
		r = set(&c->kernel_kind, s->kernel, err);
	else
		r = set_file(&c->kernel, s->kernel, "kernel", err);
	if (r == 0)
		r = set_file(&c->agent_rootfs, s->agent_rootfs, "agent root disk", err);
	return r < 0 ? r : set_vmm(s, c, err);
}

static bool hostname_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= HOSTNAME_LEN && s[0] != '-' && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == n;
}

static bool is_none(const char *network)
{
	return network && strcmp(network, "none") == 0;
}

static int set_ports(
	bool docker, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	struct port_list list = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->publish.n; i++)
		r = ports_parse(o->publish.v[i], &list, err);
	c->ports = list.v;
	c->n_ports = list.n;
	/* A VM's go by the agent then. */
	if (r == 0 && list.n && is_none(o->network) && docker)
		return err_set(err, EINVAL,
			"option '--publish' needs a network: leave '--network none' out");
	for (size_t i = 0; r == 0 && is_none(o->network) && i < list.n; i++)
		if (list.v[i].udp)
			return err_set(err, ENOTSUP,
				"port %u/udp cannot be published without a network: only TCP goes "
				"by the "
				"agent",
				list.v[i].guest);
	return r;
}

static int set_volumes(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	const struct volumes_where where = { cli->root,
		cli->settings.driver == SETTINGS_DRIVER_DOCKER };
	auto_free char *program = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->volumes.n; i++)
		r = volumes_parse(&where, o->volumes.v[i], &c->volumes, err);
	for (size_t i = 0; r == 0 && i < o->mounts.n; i++)
		r = volumes_parse_mount(&where, o->mounts.v[i], &c->volumes, &c->tmpfs, err);
	if (r == 0)
		r = volumes_sort(&c->volumes, err);
	if (r < 0 || cli->settings.driver == SETTINGS_DRIVER_DOCKER)
		return r;
	if ((c->volumes.n || o->rootfs == ROOTFS_VIRTIOFS) && !cli->settings.enable_virtio_fs)
		return err_set(err, EPERM,
			"folders cannot be shared: 'enable_virtio_fs' is false (micropod config "
			"show says where)");
	c->slots = c->volumes.n / SANDBOX_VOLUME_WORDS + (o->rootfs == ROOTFS_VIRTIOFS);
	if (c->slots > LIMIT_VM_SHARES)
		return err_set(
			err, E2BIG, "at most %d folders can be shared with a VM", LIMIT_VM_SHARES);
	/* Before an image is fetched. */
	return c->slots ? virtiofsd_find(&program, err) : 0;
}

/* What needs nothing but the options. */
static int set_options(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	int r, number;

	if (o->workdir && o->workdir[0] != '/')
		return err_set(err, EINVAL, "option '--workdir' is '%s': give an absolute path",
			o->workdir);
	if (o->hostname && !hostname_valid(o->hostname))
		return err_set(err, EINVAL,
			"option '--hostname' is '%.100s': use at most %d letters, digits, '-' and "
			"'.'",
			o->hostname, HOSTNAME_LEN);
	if (o->stop_signal && oci_signal_parse(o->stop_signal, &number) < 0)
		return err_set(err, EINVAL,
			"option '--stop-signal' is '%.100s': give a signal's name or number, such "
			"as TERM",
			o->stop_signal);
	if (o->host_access && is_none(o->network))
		return err_set(err, EINVAL,
			"option '--host-access' needs a network: leave '--network none' out");
	if (o->lifetime > LIMIT_LIFETIME || o->idle_timeout > LIMIT_LIFETIME)
		return err_set(err, EINVAL,
			"options '--lifetime' and '--idle-timeout' take at most ten years");
	r = container_set_restart(o, c, err);
	if (r < 0)
		return r;
	c->tty = o->tty;
	c->open_stdin = o->interactive;
	c->detached = o->detach;
	c->remove = o->remove;
	c->cold = o->cold;
	c->template_limit = cli->settings.template_limit ? cli->settings.template_limit
							 : TEMPLATE_LIMIT_DEFAULT;
	c->host_access = o->host_access;
	c->no_network = is_none(o->network);
	c->stop_grace_ns = o->stop_timeout;
	c->timeout_ns = o->timeout;
	c->lifetime_ns = o->lifetime;
	c->idle_ns = o->idle_timeout;
	c->limit_removes = o->at_limit == 1;
	c->scratch_bytes = o->scratch_bytes ? o->scratch_bytes : SCRATCH_BYTES;
	random_bytes(c->mac, sizeof(c->mac));
	c->mac[0] = (uint8_t)((c->mac[0] & 0xfc) | 0x02); /* locally administered, unicast */
	r = set(&c->hostname, o->hostname, err);
	if (r == 0)
		r = set(&c->stop_signal, o->stop_signal, err);
	if (r == 0)
		r = set(&c->runtime, run_runtimes[o->runtime], err);
	if (r == 0)
		r = set_ports(cli->settings.driver == SETTINGS_DRIVER_DOCKER, o, c, err);
	if (r == 0)
		r = set_volumes(cli, o, c, err);
	return r < 0 ? r : container_set(cli, o, c, err);
}

/* Told before the image is fetched; sandbox_create() decides. */
static int check_name(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	struct err none = ERR_INIT;
	char id[ID_LEN + 1];
	struct sandbox box;
	bool taken;

	if (!o->name)
		return 0;
	if (!name_valid(o->name))
		return err_set(err, EINVAL,
			"'%.100s' is no name: use 2 to %d letters, digits, '_', '.', '-', the "
			"first a letter or digit",
			o->name, LIMIT_NAME);
	memcpy(c->name, o->name, strlen(o->name) + 1);
	if (sandbox_find(cli->root, o->name, id, &none) < 0 ||
		sandbox_load(cli->root, id, &box, &none) < 0)
		return 0;
	taken = strcmp(box.config.name, o->name) == 0;
	sandbox_deinit(&box);
	if (!taken)
		return 0;
	return err_set(err, EEXIST,
		"name '%s' is taken by sandbox %.12s: remove it (micropod rm %s) or choose another "
		"name",
		o->name, id, o->name);
}

int run_set_process(const struct run_opts *o, const struct image_config *image, const char **words,
	struct sandbox_config *c, struct err *err)
{
	auto_strv struct strv env = STRV_INIT;
	auto_imgconf_process struct imgconf_process p = { 0 };
	struct imgconf_overrides over = {
		.entrypoint = o->entrypoint,
		.args = words + 1,
		.working_dir = o->workdir,
		.user = o->user,
		.tty = o->tty,
	};
	int r = envs_build(&o->env_files, &o->env, &env, err);

	if (r < 0)
		return r;
	over.env = (const char *const *)strv_items(&env);
	r = imgconf_process(image, &over, &p, err);
	if (r < 0)
		return err_wrap(err, "image '%s'", words[0]);
	c->args = p.argv;
	c->env = p.env;
	p.argv = p.env = STRV_INIT;
	c->cwd = take_ptr(p.cwd);
	c->user = take_ptr(p.user);
	if (!c->stop_signal)
		r = set(&c->stop_signal, image->stop_signal, err);
	return r;
}

static int make_scratch(const char *path, uint64_t bytes, void *arg, struct err *err)
{
	return disk_make_scratch(arg, path, bytes, err);
}

/* The image as the guest is given it: its disk, or the folder that it is shared as. */
static int provide_root(struct image_store *store, const struct image *image,
	const struct image_disk_opts *disk, bool tree, char **ret_path, struct err *err)
{
	return tree ? image_tree(store, image, disk, ret_path, err)
		    : image_disk(store, image, disk, ret_path, err);
}

/* What has the image's place in a VM whose root is shared: a disk with nothing on it. */
static int empty_disk(const char *cache, char **ret_path, struct err *err)
{
	if (asprintf(ret_path, "%s/empty.img", cache) < 0) {
		*ret_path = NULL;
		return err_errno(err, ENOMEM, "cannot make the sandbox");
	}
	return access(*ret_path, R_OK) == 0 ? 0
					    : disk_make_scratch(cache, *ret_path, SCRATCH_MIN, err);
}

static int make_box(struct cli *cli, struct image_store *store, const struct image *image,
	const struct image_disk_opts *disk, bool tree, struct sandbox_config *c, struct err *err)
{
	auto_free char *cache = NULL, *path = NULL;
	struct err ignored = ERR_INIT;
	int r;

	if (asprintf(&cache, "%s/cache", cli->root->path) < 0) {
		cache = NULL;
		return err_errno(err, ENOMEM, "cannot make the sandbox");
	}
	r = provide_root(store, image, disk, tree, tree ? &c->image_tree : &c->image_disk, err);
	if (r == 0 && tree)
		r = empty_disk(cache, &c->image_disk, err);
	if (r == 0)
		r = volume_make_anonymous(cli->root, &c->volumes, err);
	if (r == 0 && (r = sandbox_create(cli->root, c, make_scratch, cache, err)) < 0)
		volume_remove_anonymous(cli->root, &c->volumes);
	if (r < 0)
		return r;
	/* It may have been removed before there was a sandbox that uses it. */
	r = provide_root(store, image, disk, tree, &path, err);
	if (r < 0) {
		sandbox_remove(cli->root, c->id, true, &ignored);
		volume_remove_anonymous(cli->root, &c->volumes);
	}
	return r;
}

/* Options that only the other driver has. */
static int check_vm_options(const struct run_opts *o, struct err *err)
{
	const char *only = o->agent_binary	 ? "agent-binary"
			   : o->agent_path	 ? "agent-path"
			   : o->agent_server	 ? "agent-server"
			   : o->agent_token_file ? "agent-token-file"
			   : o->no_agent	 ? "no-agent"
						 : NULL;

	if (only)
		return err_set(err, EINVAL, "option '--%s' needs '--driver docker'", only);
	return 0;
}

/* What only a network with a name has; and of a VM, which network that is. */
static int set_network(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	bool docker = cli->settings.driver == SETTINGS_DRIVER_DOCKER, only = false;
	const char *name = o->network && strcmp(o->network, "default") != 0 && !c->no_network
				   ? o->network
				   : NULL;
	int r = 0;

	if (name && !docker && strcmp(name, "bridge") == 0)
		name = NULL;
	if (name && !docker && (strcmp(name, "host") == 0 || strncmp(name, "container:", 10) == 0))
		return err_set(err, ENOTSUP,
			"option '--network' is '%.100s': a VM has a network of its own; publish "
			"ports with -p, reach the host's loopback with --host-access",
			name);
	if (name && !docker) {
		only = strcmp(name, NETWORK_PRIVATE) == 0;
		if (only || strcmp(name, NETWORK_INTERNET) == 0)
			r = set(&c->reach, only ? "private" : "internet", err);
		only = c->reach != NULL;
	}
	if ((o->ip || o->aliases.n) && (!name || only))
		return err_set(err, EINVAL,
			"options '--ip' and '--network-alias' need a network with a name");
	for (size_t i = 0; i < o->aliases.n; i++)
		if (!name_valid(o->aliases.v[i]))
			return err_set(err, EINVAL,
				"option '--network-alias' is '%.100s': use 2 to %d letters, "
				"digits, '_', '.', '-', the first a letter or digit",
				o->aliases.v[i], LIMIT_NAME);
	if (r == 0 && name)
		r = set(&c->network, name, err);
	if (r == 0 && o->ip)
		r = set(&c->ip, o->ip, err);
	if (r == 0 && strv_addv(&c->aliases, (const char *const *)o->aliases.v) < 0)
		r = err_errno(err, ENOMEM, "cannot make the sandbox");
	/* Before an image is fetched. */
	return r == 0 && !docker && network_shared(c) ? network_check(cli->root, c->network, err)
						      : r;
}

/* A guest has this machine's processor, and nothing in it that translates another's programs. */
static int check_platform(
	const struct run_opts *o, char buf[static 32], const char **ret_arch, struct err *err)
{
	int r = images_platform(o->platform, buf, ret_arch, err);

	if (r < 0 || !*ret_arch || strcmp(*ret_arch, image_host_architecture()) == 0)
		return r;
	return err_set(err, ENOTSUP,
		"option '--platform' is '%.100s': this host's VMs run programs for linux/%s only",
		o->platform, image_host_architecture());
}

static int create_vm(struct cli *cli, const struct run_opts *o, const char **words,
	struct sandbox_config *c, struct err *err)
{
	auto_progress struct progress progress;
	auto_clean(image_store) struct image_store *store = NULL;
	auto_clean(image) struct image *image = NULL;
	struct image_pull_opts pull = { .policy = (enum image_policy)o->pull,
		.progress = progress_show,
		.progress_arg = &progress };
	struct image_disk_opts disk = { .progress = progress_show, .progress_arg = &progress };
	char arch[32];
	int r;

	progress_init(&progress, o->quiet);
	r = check_platform(o, arch, &pull.architecture, err);
	if (r == 0)
		r = image_store_open(cli->root->path, &store, err);
	if (r == 0)
		r = image_pull(store, words[0], &pull, &image, err);
	if (r == 0)
		r = run_set_process(o, &image->config, words, c, err);
	if (r == 0)
		r = container_set_image(o, &image->config, c, err);
	if (r == 0)
		r = set(&c->image, words[0], err);
	if (r == 0)
		r = set(&c->image_digest, image->id, err);
	progress_clear(&progress);
	trace_step("image found");
	if (r == 0 && !(c->kernel && c->agent_rootfs))
		r = guest_ensure(cli, o->quiet, err);
	return r < 0 ? r : make_box(cli, store, image, &disk, o->rootfs == ROOTFS_VIRTIOFS, c, err);
}

/* What belongs to the pod, and not to who runs in it. */
static int check_member_options(const struct run_opts *o, struct err *err)
{
	const char *wrong = o->publish.n || o->publish_all ? "publish"
			    : o->network		   ? "network"
			    : o->ip || o->aliases.n	   ? "ip"
			    : o->host_access		   ? "host-access"
			    : o->mac_address		   ? "mac-address"
			    : o->volumes.n || o->mounts.n  ? "volume"
			    : o->rootfs == ROOTFS_VIRTIOFS ? "rootfs"
			    : o->cold			   ? "cold"
			    : o->runtime		   ? "runtime"
			    : o->init			   ? "init"
			    : o->privileged		   ? "privileged"
			    : o->devices.n		   ? "device"
							   : NULL;

	return wrong ? err_set(err, EINVAL,
			       "option '--%s' does not go with '--pod': its network is the pod's "
			       "(micropod pod create), its root a disk of its own",
			       wrong)
		     : 0;
}

static int set_pod(
	struct cli *cli, const struct run_opts *o, struct sandbox_config *c, struct err *err)
{
	auto_sandbox struct sandbox pod = { 0 };
	int r = target_load(cli, o->pod, &pod, err);

	if (r == 0 && !pod.config.is_pod)
		r = err_set(err, EINVAL, "'%s' is no pod (micropod pod create makes one)", o->pod);
	if (r == 0)
		r = check_member_options(o, err);
	if (r == 0)
		r = set(&c->pod, pod.config.id, err);
	if (r < 0)
		return r;
	/* Of the pod's; no limit unless one is asked for. */
	c->memory = cli->settings.memory;
	c->cpu_milli = cli->settings.cpu_milli;
	return 0;
}

static int create(struct cli *cli, const struct run_opts *o, const char **words,
	struct sandbox_config *c, struct err *err)
{
	bool docker = cli->settings.driver == SETTINGS_DRIVER_DOCKER;
	int r = docker ? docker_check_options(o, err) : check_vm_options(o, err);

	if (r == 0)
		r = set_options(cli, o, c, err);
	if (r == 0 && !docker)
		r = run_set_machine(cli, c, err);
	if (r == 0 && !docker && !o->pod)
		r = check_vmm(c, err);
	if (r == 0)
		r = set_network(cli, o, c, err);
	if (r == 0 && o->pod)
		r = docker ? err_set(err, EINVAL,
				     "option '--pod' is for VMs, not for '--driver docker'")
			   : set_pod(cli, o, c, err);
	if (r == 0)
		r = check_name(cli, o, c, err);
	if (r < 0)
		return r;
	return docker ? docker_create(cli, o, words, c, err) : create_vm(cli, o, words, c, err);
}

int run_create_pod(
	struct cli *cli, const struct run_opts *o, char id[static ID_LEN + 1], struct err *err)
{
	struct sandbox_config c = { 0 };
	auto_free char *cache = NULL;
	int r = set_options(cli, o, &c, err);

	if (r == 0)
		r = run_set_machine(cli, &c, err);
	if (r == 0)
		r = set_network(cli, o, &c, err);
	if (r == 0)
		r = check_name(cli, o, &c, err);
	if (r == 0 && !(c.kernel && c.agent_rootfs))
		r = guest_ensure(cli, o->quiet, err);
	if (r == 0 && asprintf(&cache, "%s/cache", cli->root->path) < 0) {
		cache = NULL;
		r = err_errno(err, ENOMEM, "cannot make the pod");
	}
	if (r == 0)
		r = empty_disk(cache, &c.image_disk, err);
	c.is_pod = c.pause = c.detached = true;
	c.slots = LIMIT_VM_SLOTS;
	if (r == 0)
		r = check_vmm(&c, err);
	c.scratch_bytes = SCRATCH_MIN;
	if (r == 0)
		r = sandbox_create(cli->root, &c, make_scratch, cache, err);
	if (r == 0)
		memcpy(id, c.id, ID_LEN + 1);
	sandbox_config_deinit(&c);
	return r;
}

/* As `create` there: what the options name of this host, its environment, is read here. */
static int create_there(struct cli *cli, const struct run_opts *o, const char **words,
	char id[static ID_LEN + 1], struct err *err)
{
	auto_strbuf struct strbuf out = STRBUF_INIT;
	auto_strv struct strv args = STRV_INIT, env = STRV_INIT, labels = STRV_INIT,
			      security = STRV_INIT;
	struct run_opts there = *o;
	int r = envs_build(&o->env_files, &o->env, &env, err);

	if (r < 0)
		return r;
	if (o->agent_token_file)
		return err_set(err, EINVAL,
			"option '--agent-token-file' is a file of this host: a sandbox over a "
			"server is reached by that");
	r = container_for_host(o, &labels, &security, err);
	if (r < 0)
		return r;
	there.env = env;
	there.labels = labels;
	there.security = security;
	there.env_files = there.label_files = STRV_INIT;
	there.cidfile = NULL;
	r = strv_add(&args, "create");
	if (r == 0)
		r = opt_unparse(run_create_opts, &there, &run_defaults, &args);
	if (r == 0)
		r = opt_unparse(SETTINGS_OPTIONS, &cli->settings, &settings_defaults, &args);
	if (r == 0 && o->scratch_bytes)
		r = strv_addf(
			&args, "--storage-opt=size=%llu", (unsigned long long)o->scratch_bytes);
	if (r == 0)
		r = strv_add(&args, "--");
	if (r == 0)
		r = strv_addv(&args, words);
	if (r < 0)
		return err_errno(err, -r, "cannot ask the server");
	r = remote_command(cli->remote, NULL, &args, &out, err);
	if (r != 0)
		return r;
	if (!out.data || out.len < ID_LEN)
		return err_set(err, EPROTO, "the host's answer has no id");
	memcpy(id, out.data, ID_LEN);
	id[ID_LEN] = 0;
	/* So that the server says who has it. */
	return remote_find(cli->remote, id, id, err);
}

static int create_anywhere(struct cli *cli, const struct run_opts *opts, const char **words,
	char id[static ID_LEN + 1], struct err *err)
{
	struct sandbox_config config = { 0 };
	int r;

	if (cli->remote)
		return create_there(cli, opts, words, id, err);
	r = create(cli, opts, words, &config, err);

	if (r == 0)
		memcpy(id, config.id, ID_LEN + 1);
	sandbox_config_deinit(&config);
	return r;
}

int run_create(struct cli *cli, const struct run_opts *opts, const char **words, size_t n,
	char id[static ID_LEN + 1], struct err *err)
{
	const char *path = opts->cidfile;
	auto_close int fd = -1;
	int r;

	if (path) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return err_errno(err, errno, "cannot make the file '%s' for the id", path);
	}
	r = create_anywhere(cli, opts, words, id, err);
	if (r != 0 && path)
		unlink(path);
	/* Docker writes no newline. */
	if (r == 0 && path && write(fd, id, ID_LEN) != ID_LEN)
		r = err_errno(err, errno ? errno : EIO, "cannot write the id into '%s'", path);
	return r;
}

/* The verdict holds for this boot; so does having said it. */
void run_notice(struct cli *cli, enum vm_accel wanted)
{
	struct accel_verdict verdict;
	auto_free char *said = NULL, *text = NULL;
	struct err err = ERR_INIT;
	int n;

	if (accel_choose(cli->root->path, wanted, &verdict, &err) < 0 || !verdict.notice[0])
		return;
	n = asprintf(&text, "%s\n%s\n", cli->root->boot_id, verdict.notice);
	if (n < 0) {
		text = NULL;
		return;
	}
	if (fs_read_file(cli->root->fd, "cache/notice", 4096, &said, NULL) == 0 &&
		strcmp(said, text) == 0)
		return;
	fprintf(stderr, "micropod: %s\n", verdict.notice);
	fs_replace_file(cli->root->fd, "cache/notice", text, (size_t)n, 0600, false);
}
