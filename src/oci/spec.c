/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the defaults are tables, in the order in which Docker writes them; a spec is
 * written from top to bottom in one pass. oci_spec_merge_full() is in specfull.c.
 */
#include "oci/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/strbuf.h"
#include "oci/caps.h"
#include "oci/execblob.h"
#include "oci/json.h"
#include "oci/seccomp.h"

#define CPU_PERIOD_US 100000

#define OPTIONS(...)              \
	(const char *const[])     \
	{                         \
		__VA_ARGS__, NULL \
	}

const struct oci_mount oci_mounts_default[] = {
	{ "proc", "/proc", "proc", OPTIONS("nosuid", "noexec", "nodev") },
	{ "tmpfs", "/dev", "tmpfs", OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k") },
	{ "devpts", "/dev/pts", "devpts",
		OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5") },
	{ "sysfs", "/sys", "sysfs", OPTIONS("nosuid", "noexec", "nodev", "ro") },
	{ "cgroup", "/sys/fs/cgroup", "cgroup", OPTIONS("ro", "nosuid", "noexec", "nodev") },
	{ "mqueue", "/dev/mqueue", "mqueue", OPTIONS("nosuid", "noexec", "nodev") },
	{ "shm", "/dev/shm", "tmpfs", OPTIONS("nosuid", "noexec", "nodev", "mode=1777") },
};
const size_t oci_mounts_default_n = ARRAY_SIZE(oci_mounts_default);

const char *const oci_masked_paths[] = {
	"/proc/asound",
	"/proc/acpi",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/sys/firmware",
	"/sys/devices/virtual/powercap",
	NULL,
};

const char *const oci_read_only_paths[] = {
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
	NULL,
};

/* What Docker's own service file gives its containers. */
const struct oci_rlimit oci_rlimits_default[] = {
	{ RLIMIT_NOFILE, 1048576, 1048576 },
	{ RLIMIT_NPROC, UINT64_MAX, UINT64_MAX },
	{ RLIMIT_CORE, UINT64_MAX, UINT64_MAX },
};

const size_t oci_rlimits_default_n = ARRAY_SIZE(oci_rlimits_default);

/* Which device nodes may be used; the nodes themselves are the runtime's default ones. minor -1:
 * any. */
static const struct {
	bool allow;
	int major, minor;
} device_rules[] = {
	{ true, 1, 5 },	    /* zero */
	{ true, 1, 3 },	    /* null */
	{ true, 1, 9 },	    /* urandom */
	{ true, 1, 8 },	    /* random */
	{ true, 5, 0 },	    /* tty */
	{ true, 5, 1 },	    /* console */
	{ false, 10, 229 }, /* fuse */
};

void oci_spec_deinit(struct oci_spec *spec)
{
	free(spec->json);
	free(spec->blob);
	*spec = (struct oci_spec){ 0 };
}

static bool is_utf8(const char *s)
{
	return utf8_valid(s, strlen(s));
}

static bool all_utf8(const char *const *v)
{
	for (; v && *v; v++)
		if (!is_utf8(*v))
			return false;
	return true;
}

static size_t bytes_of(const char *const *v)
{
	size_t n = 0;

	for (; v && *v; v++)
		n += strlen(*v) + 1;
	return n;
}

/* Checks */

static int check_text(const char *s, const char *field, struct err *err)
{
	return !s || is_utf8(s) ? 0 : err_set(err, EINVAL, "%s is not UTF-8", field);
}

static int check_mounts(const struct oci_container *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_mounts; i++) {
		const struct oci_mount *m = &c->mounts[i];

		if (!m->destination || m->destination[0] != '/')
			return err_set(
				err, EINVAL, "mounts[%zu].destination is not an absolute path", i);
		r = check_text(m->destination, "mounts.destination", err);
		if (r == 0)
			r = check_text(m->source, "mounts.source", err);
		if (r == 0)
			r = check_text(m->type, "mounts.type", err);
		if (r == 0 && !all_utf8(m->options))
			r = err_set(err, EINVAL, "mounts.options are not UTF-8");
	}
	return r;
}

static int check_pairs(const struct oci_pair *pairs, size_t n, const char *field, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = check_text(pairs[i].key, field, err);
		if (r == 0)
			r = check_text(pairs[i].value, field, err);
	}
	return r;
}

static int check_command(const struct oci_container *c, struct err *err)
{
	if (!c->args || !c->args[0])
		return err_set(err, EINVAL, "args is empty: no command to run");
	if (!c->args[0][0])
		return err_set(err, EINVAL, "args[0] is empty: no command to run");
	for (size_t i = 0; c->env && c->env[i]; i++)
		if (!strchr(c->env[i], '=') || c->env[i][0] == '=')
			return err_set(err, EINVAL, "env[%zu] is not KEY=VALUE", i);
	if (c->cwd && *c->cwd && c->cwd[0] != '/')
		return err_set(err, EINVAL, "cwd is not an absolute path");
	if (bytes_of(c->args) + bytes_of(c->env) > LIMIT_ARGV)
		return err_set(err, E2BIG, "args and env are larger than %ju bytes",
			(uintmax_t)LIMIT_ARGV);
	return 0;
}

static int check(const struct oci_container *c, struct err *err)
{
	int r = check_command(c, err);

	if (r < 0)
		return r;
	if (!c->rootfs || c->rootfs[0] != '/')
		return err_set(err, EINVAL, "rootfs is not an absolute path");
	if (c->seccomp == OCI_SECCOMP_BPF) {
		struct sock_fprog prog;

		r = oci_seccomp_check(c->seccomp_bpf, c->seccomp_bpf_len, &prog, err);
	}
	for (size_t i = 0; i < c->n_rlimits; i++)
		if (!oci_rlimit_name(c->rlimits[i].resource))
			return err_set(err, EINVAL, "rlimits[%zu]: there is no limit %d", i,
				c->rlimits[i].resource);
	if (r == 0)
		r = check_text(c->rootfs, "rootfs", err);
	if (r == 0)
		r = check_text(c->hostname, "hostname", err);
	if (r == 0)
		r = check_text(c->cgroups_path, "cgroups_path", err);
	if (r == 0)
		r = check_text(c->resources.cpuset, "resources.cpuset", err);
	if (r == 0)
		r = check_mounts(c, err);
	if (r == 0)
		r = check_pairs(c->sysctls, c->n_sysctls, "sysctls", err);
	if (r == 0)
		r = check_pairs(c->annotations, c->n_annotations, "annotations", err);
	return r;
}

/* process */

static void put_strings(struct json_out *j, const char *key, const char *const *v)
{
	json_open(j, key, '[');
	for (; v && *v; v++)
		json_str(j, NULL, *v);
	json_close(j, ']');
}

static void put_caps(struct json_out *j, const char *key, uint64_t caps)
{
	json_open(j, key, '[');
	for (unsigned i = 0; i < OCI_CAP_MAX; i++)
		if (caps >> i & 1)
			json_str(j, NULL, oci_cap_name(i));
	json_close(j, ']');
}

static void put_capabilities(struct json_out *j, const struct oci_container *c)
{
	uint64_t caps = c->privileged ? OCI_CAPS_ALL : c->caps & OCI_CAPS_ALL;

	json_open(j, "capabilities", '{');
	put_caps(j, "bounding", caps);
	/* As execve(2) leaves them for a user that is not root. */
	if (!c->user || c->user->uid == 0) {
		put_caps(j, "effective", caps);
		put_caps(j, "permitted", caps);
	}
	json_close(j, '}');
}

static void put_user(struct json_out *j, const struct oci_user *user)
{
	static const struct oci_user root;

	if (!user)
		user = &root;
	json_open(j, "user", '{');
	json_uint(j, "uid", user->uid);
	json_uint(j, "gid", user->gid);
	/* With the own group among them: else leaving it would shed what the group is denied
	 * (CVE-2022-36109). */
	json_open(j, "additionalGids", '[');
	json_uint(j, NULL, user->gid);
	for (size_t i = 0; i < user->n_groups; i++)
		if (user->groups[i] != user->gid)
			json_uint(j, NULL, user->groups[i]);
	json_close(j, ']');
	json_close(j, '}');
}

static void put_rlimit(struct json_out *j, const struct oci_rlimit *limit)
{
	json_open(j, NULL, '{');
	json_str(j, "type", oci_rlimit_name(limit->resource));
	json_uint(j, "hard", limit->hard);
	json_uint(j, "soft", limit->soft);
	json_close(j, '}');
}

static void put_rlimits(struct json_out *j, const struct oci_container *c)
{
	json_open(j, "rlimits", '[');
	for (size_t i = 0; i < ARRAY_SIZE(oci_rlimits_default); i++) {
		bool given = false;

		for (size_t k = 0; k < c->n_rlimits; k++)
			given |= c->rlimits[k].resource == oci_rlimits_default[i].resource;
		if (!given)
			put_rlimit(j, &oci_rlimits_default[i]);
	}
	for (size_t i = 0; i < c->n_rlimits; i++)
		put_rlimit(j, &c->rlimits[i]);
	json_close(j, ']');
}

static void put_process(struct json_out *j, const struct oci_container *c, bool blob)
{
	static const char *const wrapped[] = { OCI_EXEC_ARGV0, "exec-blob", NULL };
	bool cwd_here = c->cwd && *c->cwd && is_utf8(c->cwd);

	json_open(j, "process", '{');
	json_bool(j, "terminal", c->tty);
	if (c->tty && c->rows && c->columns) {
		json_open(j, "consoleSize", '{');
		json_uint(j, "height", c->rows);
		json_uint(j, "width", c->columns);
		json_close(j, '}');
	}
	put_user(j, c->user);
	put_strings(j, "args", blob ? wrapped : c->args);
	put_strings(j, "env", blob ? NULL : c->env);
	json_str(j, "cwd", cwd_here ? c->cwd : "/");
	put_capabilities(j, c);
	put_rlimits(j, c);
	json_bool(j, "noNewPrivileges", c->no_new_privileges);
	/* Always said: what the runtime inherits from the agent is -1000. */
	json_int(j, "oomScoreAdj", c->oom_score_adj);
	json_close(j, '}');
}

/* mounts */

static bool same_path(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);

	while (la > 1 && a[la - 1] == '/')
		la--;
	while (lb > 1 && b[lb - 1] == '/')
		lb--;
	return la == lb && memcmp(a, b, la) == 0;
}

static void put_default_mount(
	struct json_out *j, const struct oci_container *c, const struct oci_mount *m)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (same_path(c->mounts[i].destination, m->destination))
			return;
	json_open(j, NULL, '{');
	json_str(j, "destination", m->destination);
	json_str(j, "type", m->type);
	json_str(j, "source", m->source);
	json_open(j, "options", '[');
	for (const char *const *o = m->options; *o; o++)
		if (!(c->privileged && strcmp(*o, "ro") == 0))
			json_str(j, NULL, *o);
	if (strcmp(m->destination, "/dev/shm") == 0) {
		char size[32];

		snprintf(size, sizeof(size), "size=%ju",
			(uintmax_t)(c->shm_size ? c->shm_size : OCI_SHM_DEFAULT));
		json_str(j, NULL, size);
	}
	json_close(j, ']');
	json_close(j, '}');
}

static void put_mounts(struct json_out *j, const struct oci_container *c)
{
	static const char *const bind[] = { "rbind", NULL };

	json_open(j, "mounts", '[');
	for (size_t i = 0; i < ARRAY_SIZE(oci_mounts_default); i++)
		put_default_mount(j, c, &oci_mounts_default[i]);
	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct oci_mount *m = &c->mounts[i];
		const char *type = m->type && *m->type ? m->type : "bind";

		json_open(j, NULL, '{');
		json_str(j, "destination", m->destination);
		json_str(j, "type", type);
		json_str(j, "source", m->source && *m->source ? m->source : type);
		put_strings(j, "options",
			m->options		    ? m->options
			: strcmp(type, "bind") == 0 ? bind
						    : NULL);
		json_close(j, '}');
	}
	json_close(j, ']');
}

/* linux */

static void put_device_rule(struct json_out *j, bool allow, int major, int minor)
{
	json_open(j, NULL, '{');
	json_bool(j, "allow", allow);
	if (major >= 0) {
		json_str(j, "type", "c");
		json_int(j, "major", major);
		json_int(j, "minor", minor);
	}
	json_str(j, "access", "rwm");
	json_close(j, '}');
}

static void put_device(struct json_out *j, const struct oci_device *d)
{
	json_str(j, "type", d->block ? "b" : "c");
	json_uint(j, "major", d->major);
	json_uint(j, "minor", d->minor);
}

static void put_devices(struct json_out *j, const struct oci_container *c)
{
	if (!c->n_devices)
		return;
	json_open(j, "devices", '[');
	for (size_t i = 0; i < c->n_devices; i++) {
		const struct oci_device *d = &c->devices[i];

		json_open(j, NULL, '{');
		json_str(j, "path", d->path);
		put_device(j, d);
		json_uint(j, "fileMode", d->mode);
		json_uint(j, "uid", d->uid);
		json_uint(j, "gid", d->gid);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_memory_and_cpu(struct json_out *j, const struct oci_resources *res)
{
	if (res->memory) {
		json_open(j, "memory", '{');
		json_uint(j, "limit", res->memory);
		if (res->memory_swap)
			json_int(j, "swap", res->memory_swap);
		json_close(j, '}');
	}
	if (res->cpu_milli || res->cpu_shares || (res->cpuset && *res->cpuset)) {
		json_open(j, "cpu", '{');
		if (res->cpu_shares)
			json_uint(j, "shares", res->cpu_shares);
		if (res->cpu_milli) {
			json_uint(j, "quota", res->cpu_milli * (CPU_PERIOD_US / 1000));
			json_uint(j, "period", CPU_PERIOD_US);
		}
		if (res->cpuset && *res->cpuset)
			json_str(j, "cpus", res->cpuset);
		json_close(j, '}');
	}
	if (res->pids > 0) {
		json_open(j, "pids", '{');
		json_int(j, "limit", res->pids);
		json_close(j, '}');
	}
}

static void put_resources(struct json_out *j, const struct oci_container *c)
{
	json_open(j, "resources", '{');
	json_open(j, "devices", '[');
	put_device_rule(j, c->privileged, -1, -1);
	for (size_t i = 0; !c->privileged && i < ARRAY_SIZE(device_rules); i++)
		put_device_rule(
			j, device_rules[i].allow, device_rules[i].major, device_rules[i].minor);
	for (size_t i = 0; !c->privileged && i < c->n_devices; i++) {
		json_open(j, NULL, '{');
		json_bool(j, "allow", true);
		put_device(j, &c->devices[i]);
		json_str(j, "access", c->devices[i].access);
		json_close(j, '}');
	}
	json_close(j, ']');
	put_memory_and_cpu(j, &c->resources);
	json_close(j, '}');
}

static void put_namespaces(struct json_out *j, const struct oci_container *c)
{
	const struct {
		const char *type;
		bool own;
	} namespaces[] = {
		{ "mount", true },
		{ "network", c->own_network },
		{ "uts", !c->share_uts },
		{ "pid", !c->share_pid },
		{ "ipc", !c->share_ipc },
		{ "cgroup", !c->privileged },
	};

	json_open(j, "namespaces", '[');
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		if (!namespaces[i].own)
			continue;
		json_open(j, NULL, '{');
		json_str(j, "type", namespaces[i].type);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void put_pairs(struct json_out *j, const struct oci_pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		json_str(j, pairs[i].key, pairs[i].value);
}

static void put_linux(struct json_out *j, const struct oci_container *c)
{
	json_open(j, "linux", '{');
	if (c->cgroups_path)
		json_str(j, "cgroupsPath", c->cgroups_path);
	put_devices(j, c);
	put_resources(j, c);
	put_namespaces(j, c);
	if (c->n_sysctls) {
		json_open(j, "sysctl", '{');
		put_pairs(j, c->sysctls, c->n_sysctls);
		json_close(j, '}');
	}
	if (!c->privileged) {
		json_open(j, "maskedPaths", '[');
		for (size_t i = 0; oci_masked_paths[i]; i++)
			json_str(j, NULL, oci_masked_paths[i]);
		json_close(j, ']');
		json_open(j, "readonlyPaths", '[');
		for (size_t i = 0; oci_read_only_paths[i]; i++)
			json_str(j, NULL, oci_read_only_paths[i]);
		json_close(j, ']');
	}
	if (!c->privileged && c->seccomp == OCI_SECCOMP_JSON) {
		size_t len;
		const char *text = oci_seccomp_default_json(&len);

		json_raw(j, "seccomp", text, len);
	}
	json_close(j, '}');
}

/* annotations */

static void add_base64(struct strbuf *sb, const uint8_t *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN(len - i, (size_t)3);
		uint32_t v = (uint32_t)data[i] << 16;

		if (n > 1)
			v |= (uint32_t)data[i + 1] << 8;
		if (n > 2)
			v |= data[i + 2];
		strbuf_addc(sb, digits[v >> 18]);
		strbuf_addc(sb, digits[v >> 12 & 63]);
		strbuf_addc(sb, n > 1 ? digits[v >> 6 & 63] : '=');
		strbuf_addc(sb, n > 2 ? digits[v & 63] : '=');
	}
}

static int put_annotations(struct json_out *j, const struct oci_container *c)
{
	auto_strbuf struct strbuf bpf = STRBUF_INIT;
	bool filter = !c->privileged && c->seccomp == OCI_SECCOMP_BPF;

	json_open(j, "annotations", '{');
	put_pairs(j, c->annotations, c->n_annotations);
	if (filter) {
		add_base64(&bpf, c->seccomp_bpf, c->seccomp_bpf_len);
		if (strbuf_error(&bpf) < 0)
			return -ENOMEM;
		json_str(j, "run.oci.seccomp_bpf_data", bpf.data);
	}
	json_close(j, '}');
	return 0;
}

int oci_spec_make(const struct oci_container *c, struct oci_spec *ret_spec, struct err *err)
{
	auto_strbuf struct strbuf sb = STRBUF_INIT;
	auto_oci_spec struct oci_spec spec = { 0 };
	struct json_out j = { .sb = &sb };
	bool blob = !all_utf8(c->args) || !all_utf8(c->env) || (c->cwd && !is_utf8(c->cwd));
	int r = check(c, err);

	if (r < 0)
		return r;
	if (blob) {
		r = oci_execblob_encode(c->args, c->env, c->cwd, &spec.blob, &spec.blob_len);
		if (r < 0)
			return err_errno(err, -r, "cannot pack the command");
	}
	json_open(&j, NULL, '{');
	json_str(&j, "ociVersion", "1.0.2");
	put_process(&j, c, blob);
	json_open(&j, "root", '{');
	json_str(&j, "path", c->rootfs);
	json_bool(&j, "readonly", c->read_only_root);
	json_close(&j, '}');
	if (c->hostname && !c->share_uts)
		json_str(&j, "hostname", c->hostname);
	put_mounts(&j, c);
	put_linux(&j, c);
	r = put_annotations(&j, c);
	json_close(&j, '}');
	if (r < 0 || strbuf_error(&sb) < 0)
		return err_set(err, ENOMEM, "out of memory for the spec");
	spec.json_len = sb.len;
	spec.json = strbuf_finish(&sb);
	*ret_spec = spec;
	spec = (struct oci_spec){ 0 };
	return 0;
}

/* Environment */

static bool has_key(const struct strv *env, const char *entry)
{
	size_t n = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], entry, n) == 0)
			return true;
	return false;
}

int oci_env_defaults(struct strv *env, const char *hostname, bool tty, const char *home)
{
	auto_strv struct strv out = STRV_INIT;
	int r;

	r = strv_add(&out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (r == 0 && hostname)
		r = strv_addf(&out, "HOSTNAME=%s", hostname);
	if (r == 0 && tty)
		r = strv_add(&out, "TERM=xterm");
	for (size_t i = 0; r == 0 && i < env->n; i++)
		r = strv_setenv(&out, env->v[i]);
	if (r == 0 && !has_key(&out, "HOME="))
		r = strv_addf(&out, "HOME=%s", home ? home : "/");
	if (r < 0)
		return r;
	strv_deinit(env);
	*env = out;
	out = STRV_INIT;
	return 0;
}
