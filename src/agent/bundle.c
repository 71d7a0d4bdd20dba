/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/mounts.h"
#include "agent/virtiofs.h"
#include "agent/volumes.h"
#include "agent/netif.h"
#include "agent/populate.h"
#include "agent/sysctls.h"
#include "agent/userfiles.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/limits.h"
#include "oci/caps.h"
#include "oci/seccomp.h"
#include "oci/spec.h"

#define CGROUP_WAIT    (5 * NSEC_PER_SEC)
#define NOFILE_DEFAULT 1048576
#define OWN_MOUNTS     4 /* resolv.conf, hosts, hostname, init */
#define INIT_PATH                                                                                \
	"/dev/.micropod-init" /* on the container's own tmpfs: nothing of it is left in its root \
			       */

/* What a spec borrows from, alive as long as the worker. */
struct parts {
	struct strv args, env, strings; /* strings: everything else that must be NUL-terminated */
	struct oci_container spec;
	struct oci_user user;
	struct oci_mount *mounts;
	struct oci_rlimit rlimits[OCI_RLIMIT_MAX];
	struct oci_pair *sysctls;
	struct oci_device devices[LIMIT_DEVICES];
	char rootfs[PATH_MAX];
};

int bundle_caps(const API(CreateContainerRequest) * req, uint64_t *ret_caps, struct err *err)
{
	uint64_t caps = 0;
	unsigned cap;

	if (req->privileged)
		caps = OCI_CAPS_ALL;
	else if (!req->n_capabilities && !req->no_capabilities)
		caps = oci_caps_default;
	for (size_t i = 0; i < req->n_capabilities; i++) {
		if (oci_cap_parse(req->capabilities[i], &cap) < 0)
			return err_set(
				err, EINVAL, "unknown capability '%s'", req->capabilities[i]);
		caps |= (uint64_t)1 << cap;
	}
	*ret_caps = caps;
	return 0;
}

/* The copy lives in p->strings; NULL: out of memory or a NUL byte. */
static const char *keep(struct parts *p, const ProtobufCBinaryData *bytes)
{
	return api_add_bytes(&p->strings, bytes) < 0 ? NULL : p->strings.v[p->strings.n - 1];
}

struct mounts_root_disks bundle_root_disks(const API(RootDisks) * d)
{
	return (struct mounts_root_disks){ .image_serial = d->image_serial,
		.image_tag = d->image_tag,
		.scratch_serial = d->scratch_serial,
		.tmpfs_bytes = d->tmpfs_bytes,
		.read_only = d->read_only };
}

static int find_root(const struct bundle *b, struct parts *p, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	const char *path = req->rootfs.len ? keep(p, &req->rootfs) : req->rootfs_path;
	struct stat st;

	if (req->disks) {
		const API(RootDisks) *d = req->disks;
		const struct mounts_root_disks disks = bundle_root_disks(d);

		snprintf(p->rootfs, sizeof(p->rootfs), "%s/%s/rootfs", CONTAINERS_DIR,
			req->container_id);
		return mounts_container_root(req->container_id, &disks,
			deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC / 2), err);
	}
	if (!path || path[0] != '/')
		return err_set(err, EINVAL, "rootfs_path must be an absolute path");
	if (strcmp(path, VIRTIOFS_ROOT) == 0)
		virtiofs_mount_root();
	if (!realpath(path, p->rootfs) || stat(p->rootfs, &st) < 0)
		return err_errno(err, errno, "cannot use '%s' as root of the container", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR,
			"cannot use '%s' as root of the container: it is not a folder", path);
	return 0;
}

static int find_user(const struct bundle *b, struct parts *p, struct err *err)
{
	auto_close int root = open(p->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_strv struct strv words = STRV_INIT;
	const API(User) *user = b->req->user;
	int r = 0;

	if (root < 0)
		return err_errno(err, errno, "cannot open '%s'", p->rootfs);
	if (user)
		r = api_add_bytes(&words, &user->name);
	for (size_t i = 0; user && r == 0 && i < user->n_additional_groups; i++)
		r = api_add_bytes(&words, &user->additional_groups[i]);
	if (r < 0)
		return err_errno(err, -r, "user");
	return userfiles_lookup(root, &words, &p->user, err);
}

/* Makes cwd in the root, part by part, so that no link of the image leads out. One that is there
 * already stays as it is. */
static int make_cwd(const char *rootfs, const char *cwd, struct err *err)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	auto_close int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *path = strdup(cwd);
	auto_close int at = -1;
	char *save = NULL;

	at = fcntl(root, F_DUPFD_CLOEXEC, 3);
	for (char *part = path ? strtok_r(path, "/", &save) : NULL; part && at >= 0;
		part = strtok_r(NULL, "/", &save)) {
		char so_far[PATH_MAX];
		int next;

		/* The whole path so far is looked up anew: ".." and links mean what they mean
		 * inside. */
		snprintf(so_far, sizeof(so_far), "%.*s", (int)(part + strlen(part) - path), cwd);
		next = (int)syscall(SYS_openat2, root, so_far, &how, sizeof(how));
		if (next < 0 && errno == ENOENT && mkdirat(at, part, 0755) == 0)
			next = (int)syscall(SYS_openat2, root, so_far, &how, sizeof(how));
		if (next < 0 && errno == EROFS)
			return 0; /* the runtime says it better */
		safe_close(at);
		at = next;
	}
	return at < 0 ? err_errno(err, errno, "cannot make the working folder '%s'", cwd) : 0;
}

/* Files of the bundle */

static int write_file(const struct bundle *b, const char *name, const char *data, size_t len,
	mode_t mode, struct err *err)
{
	auto_close int dir = open(b->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : fs_replace_file(dir, name, data, len, mode, false);

	return r < 0 ? err_errno(err, -r, "cannot write '%s/%s'", b->dir, name) : 0;
}

static int write_hosts(const struct bundle *b, struct err *err)
{
	auto_strbuf struct strbuf text = STRBUF_INIT;
	char address[INET_ADDRSTRLEN];

	strbuf_adds(&text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
			   "fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-"
			   "allnodes\nff02::2\tip6-allrouters\n");
	/* As Docker: a server that binds to its own name is to be reached from outside. */
	if (netif_own_address(address) < 0)
		return err_set(err, ENOMEM, "cannot write hosts");
	strbuf_addf(&text, "%s\t%s\n", address, b->hostname);
	for (size_t i = 0; i < b->req->n_extra_hosts; i++) {
		const char *entry = b->req->extra_hosts[i], *colon = strchr(entry, ':');

		if (!colon || colon == entry || !colon[1] || strpbrk(entry, " \t\n\r"))
			return err_set(err, EINVAL, "extra_hosts: '%s' is not name:address", entry);
		strbuf_addf(&text, "%s\t%.*s\n", colon + 1, (int)(colon - entry), entry);
	}
	if (strbuf_error(&text) < 0)
		return err_errno(err, ENOMEM, "cannot write hosts");
	return write_file(b, "hosts", text.data, text.len, 0644, err);
}

/* Lines of a resolv.conf (resolv.conf(5)): the words that were asked for, else the guest's own. */
static int put_directive(struct strbuf *out, const char *keyword, char *const *words, size_t n,
	const char *guest, struct err *err)
{
	bool each = strcmp(keyword, "nameserver") == 0;
	struct netif_address address;
	size_t len = strlen(keyword);

	for (size_t i = 0; i < n; i++) {
		if (each ? netif_parse_address(words[i], 0, &address) < 0
			 : !netif_is_word(words[i]))
			return err_set(
				err, EINVAL, "dns: '%.64s' cannot be a %s", words[i], keyword);
		if (each || i == 0)
			strbuf_addf(out, "%s %s", keyword, words[i]);
		else
			strbuf_addf(out, " %s", words[i]);
		if (each || i + 1 == n)
			strbuf_addc(out, '\n');
	}
	for (const char *line = n ? "" : guest; *line; line += strcspn(line, "\n")) {
		line += strspn(line, "\n");
		if (strncmp(line, keyword, len) == 0 && (line[len] == ' ' || line[len] == '\t'))
			strbuf_addf(out, "%.*s\n", (int)strcspn(line, "\n"), line);
	}
	return 0;
}

static int write_resolv(const struct bundle *b, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	auto_strbuf struct strbuf out = STRBUF_INIT;
	auto_free char *guest = NULL;
	int r = fs_read_file(AT_FDCWD, RESOLV_CONF, 64 * KIB, &guest, NULL);

	if (r < 0 && r != -ENOENT)
		return err_errno(err, -r, "cannot read " RESOLV_CONF);
	r = put_directive(
		&out, "nameserver", req->dns_servers, req->n_dns_servers, guest ? guest : "", err);
	if (r == 0)
		r = put_directive(&out, "search", req->dns_search, req->n_dns_search,
			guest ? guest : "", err);
	if (r == 0)
		r = put_directive(&out, "options", req->dns_options, req->n_dns_options,
			guest ? guest : "", err);
	if (r < 0)
		return r;
	if (strbuf_error(&out) < 0)
		return err_errno(err, ENOMEM, "cannot write resolv.conf");
	return write_file(b, "resolv.conf", out.data ? out.data : "", out.len, 0644, err);
}

int bundle_write_names(const struct bundle *b, struct err *err)
{
	char line[80];
	int r;

	snprintf(line, sizeof(line), "%s\n", b->hostname);
	r = write_file(b, "hostname", line, strlen(line), 0644, err);
	if (r == 0)
		r = write_hosts(b, err);
	return r < 0 ? r : write_resolv(b, err);
}

/* The container's pid 1 is a copy of the agent of its own: what it does to that file concerns
 * nobody else. */
static int write_init(const struct bundle *b, struct err *err)
{
	auto_free char *path = NULL;
	auto_close int out = -1;
	int r;

	if (asprintf(&path, "%s/" BUNDLE_INIT, b->dir) < 0)
		return err_errno(err, ENOMEM, "cannot write the init");
	out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	r = out < 0 ? -errno : fd_copy_sparse(b->self_fd, out);
	return r < 0 ? err_errno(err, -r, "cannot write '%s'", path) : 0;
}

/* Parts of the spec */

static int put_args(const struct bundle *b, struct parts *p, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	int r = 0;

	if (req->init) {
		r = write_init(b, err);
		if (r < 0)
			return r;
		r = strv_addv(&p->args, (const char *const[]){ INIT_PATH, "reap", "--", NULL });
	}
	for (size_t i = 0; r == 0 && i < req->n_args; i++)
		r = api_add_bytes(&p->args, &req->args[i]);
	for (size_t i = 0; r == 0 && !req->n_args && i < req->n_process_args; i++)
		r = strv_add(&p->args, req->process_args[i]);
	for (size_t i = 0; r == 0 && i < req->n_env; i++)
		r = api_add_bytes(&p->env, &req->env[i]);
	if (r == 0)
		r = oci_env_defaults(&p->env, b->hostname, req->tty, p->user.home);
	return r < 0 ? err_errno(err, -r, "args or env") : 0;
}

static void bind_own(struct parts *p, const struct bundle *b, const char *name,
	const char *destination, bool read_only)
{
	static const char *const rw[] = { "rbind", "rprivate", NULL }, *const ro[] = { "rbind",
		"rprivate", "ro", NULL };

	/* Out of memory shows as a missing string, checked by the caller. */
	(void)strv_addf(&p->strings, "%s/%s", b->dir, name);
	p->mounts[p->spec.n_mounts++] =
		(struct oci_mount){ .source = p->strings.v[p->strings.n - 1],
			.destination = destination,
			.options = read_only ? ro : rw };
}

/* Whether a file can be bound there: it is in the root, or the runtime can make it. */
static bool bindable(const struct bundle *b, const struct parts *p, const char *path)
{
	auto_close int root = -1, fd = -1;

	if (!b->req->disks || !b->req->disks->read_only)
		return true;
	root = open(p->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = userfiles_open(root, path, O_RDONLY);
	return fd >= 0;
}

static bool is_bind(const API(Mount) * m)
{
	return !*m->type || strcmp(m->type, "bind") == 0;
}

/* Whether its options say so themselves: for a runtime it is they that count. */
static bool binds(const API(Mount) * m)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (strcmp(m->options[i], "bind") == 0 || strcmp(m->options[i], "rbind") == 0)
			return true;
	return false;
}

static int fill_volume(
	const struct parts *p, const char *destination, const char *volume, struct err *err)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	auto_close int root = open(p->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_close int from = (int)syscall(SYS_openat2, root, destination, &how, sizeof(how));
	auto_close int to = open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* The image has nothing there. */
	if (from < 0)
		return 0;
	return to < 0 ? err_errno(err, errno, "cannot fill the volume") : populate(from, to, err);
}

/* A shared folder is mounted here, and bound by the runtime. */
static int put_volume(const struct bundle *b, struct parts *p, size_t i, struct oci_mount *out,
	const char **options, struct err *err)
{
	char path[PATH_MAX];
	int r = volumes_mount(b->req->container_id, i, b->req->mounts[i],
		deadline_in(LIMIT_WORKER_MS * NSEC_PER_MSEC / 2), path, err);

	if (r == 0 && volumes_is_populated(b->req->mounts[i]))
		r = fill_volume(p, out->destination, path, err);
	if (r == 0 && (r = strv_add(&p->strings, path)) < 0)
		err_errno(err, -r, "mounts");
	if (r < 0)
		return r;
	out->source = p->strings.v[p->strings.n - 1];
	out->type = "bind";
	/* Those of ours mean nothing to a runtime. */
	options[0] = "rbind";
	options[1] = volumes_is_read_only(b->req->mounts[i]) ? "ro" : NULL;
	return 0;
}

static int put_mounts(const struct bundle *b, struct parts *p, struct err *err)
{
	static const char *const names[] = { "resolv.conf", "hosts", "hostname" };
	static const char *const paths[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/hostname" };
	const API(CreateContainerRequest) *req = b->req;
	int r;

	p->mounts = calloc(req->n_mounts + OWN_MOUNTS, sizeof(*p->mounts));
	if (!p->mounts)
		return err_errno(err, ENOMEM, "mounts");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (bindable(b, p, paths[i]))
			bind_own(p, b, names[i], paths[i], false);
	if (req->init)
		bind_own(p, b, BUNDLE_INIT, INIT_PATH, true);
	for (size_t i = 0; i < req->n_mounts; i++) {
		const API(Mount) *m = req->mounts[i];
		struct oci_mount *out = &p->mounts[p->spec.n_mounts++];
		const char **options = calloc(m->n_options + 2, sizeof(*options));

		*out = (struct oci_mount){ .source = m->source.len ? keep(p, &m->source) : NULL,
			.destination = keep(p, &m->destination),
			.type = *m->type ? m->type : NULL,
			.options = options };
		if (!options || !out->destination || (m->source.len && !out->source))
			return err_set(err, EINVAL, "mounts: a path with a NUL byte");
		memcpy(options, m->options, m->n_options * sizeof(*options));
		if (is_bind(m) && !binds(m))
			options[m->n_options] = "rbind";
		r = volumes_is(m) ? put_volume(b, p, i, out, options, err) : 0;
		if (r < 0)
			return r;
	}
	p->spec.mounts = p->mounts;
	return 0;
}

/*
 * The default limits are Docker's. An agent that may not raise its own that far, as in a container
 * of its own, leaves them where they are.
 */
static void lower_defaults(struct parts *p)
{
	static const int resources[] = { RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_CORE };

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++) {
		rlim_t want = resources[i] == RLIMIT_NOFILE ? NOFILE_DEFAULT : RLIM_INFINITY;
		struct rlimit now, wanted = { want, want };
		bool given = false;

		for (size_t k = 0; k < p->spec.n_rlimits; k++)
			given |= p->rlimits[k].resource == resources[i];
		/* Tried out: this is a worker, and its own limits end with it. */
		if (given || p->spec.n_rlimits == OCI_RLIMIT_MAX ||
			getrlimit(resources[i], &now) < 0 || setrlimit(resources[i], &wanted) == 0)
			continue;
		p->rlimits[p->spec.n_rlimits++] =
			(struct oci_rlimit){ resources[i], now.rlim_max, now.rlim_max };
	}
}

static int parse_rlimits(
	const API(CreateContainerRequest) * req, struct oci_rlimit *out, struct err *err)
{
	if (req->n_rlimits > OCI_RLIMIT_MAX)
		return err_set(err, E2BIG, "more than %d rlimits", OCI_RLIMIT_MAX);
	for (size_t i = 0; i < req->n_rlimits; i++) {
		struct oci_rlimit *l = &out[i];

		*l = (struct oci_rlimit){ .soft = req->rlimits[i]->soft,
			.hard = req->rlimits[i]->hard };
		if (oci_rlimit_parse_name(req->rlimits[i]->type, &l->resource) < 0 ||
			l->soft > l->hard)
			return err_set(err, EINVAL,
				"rlimits: '%s' is unknown or its soft limit is above the hard one",
				req->rlimits[i]->type);
	}
	return 0;
}

int bundle_rlimits(const API(CreateContainerRequest) * req, struct oci_rlimit *out, size_t *ret_n,
	struct err *err)
{
	int r = parse_rlimits(req, out, err);

	if (r < 0)
		return r;
	*ret_n = req->n_rlimits;
	for (size_t i = 0; i < oci_rlimits_default_n; i++) {
		bool given = false;

		for (size_t k = 0; k < req->n_rlimits; k++)
			given |= out[k].resource == oci_rlimits_default[i].resource;
		if (!given && *ret_n < OCI_RLIMIT_MAX)
			out[(*ret_n)++] = oci_rlimits_default[i];
	}
	return 0;
}

static int put_limits(const struct bundle *b, struct parts *p, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	const API(Resources) *res = req->resources;

	int r = parse_rlimits(req, p->rlimits, err);

	if (r < 0)
		return r;
	p->spec.rlimits = p->rlimits;
	p->spec.n_rlimits = req->n_rlimits;
	lower_defaults(p);
	p->sysctls = calloc(req->n_sysctls + 1, sizeof(*p->sysctls));
	if (!p->sysctls)
		return err_errno(err, ENOMEM, "sysctls");
	/* Runtimes take those of a namespace that they make, and have no right to refuse the rest.
	 */
	for (size_t i = 0; i < req->n_sysctls; i++) {
		const char *key = req->sysctls[i]->key, *value = req->sysctls[i]->value;

		if (sysctl_is_ipc(key))
			p->sysctls[p->spec.n_sysctls++] = (struct oci_pair){ key, value };
		else if ((r = sysctl_set(key, value, err)) < 0)
			return r;
	}
	p->spec.sysctls = p->sysctls;
	p->spec.oom_score_adj = b->req->oom_score_adj;
	if (res)
		p->spec.resources = (struct oci_resources){ .memory = res->memory_bytes,
			.memory_swap = res->memory_swap_bytes,
			.cpu_milli = res->cpu_milli,
			.cpu_shares = res->cpu_shares,
			.pids = res->pids,
			.cpuset = *res->cpuset ? res->cpuset : NULL };
	return 0;
}

/* path: of the guest, a node of it in the last place. */
static int put_device(struct parts *p, const char *path, const struct stat *st, const char *target,
	const char *access, struct err *err)
{
	int r;

	if (p->spec.n_devices == LIMIT_DEVICES)
		return err_set(err, E2BIG, "devices: more than %d", LIMIT_DEVICES);
	if (target[0] != '/')
		return err_set(err, EINVAL, "devices: '%s' is not an absolute path", target);
	r = strv_add(&p->strings, target);
	if (r < 0)
		return err_errno(err, -r, "devices: '%s'", path);
	p->devices[p->spec.n_devices++] = (struct oci_device){
		.path = p->strings.v[p->strings.n - 1],
		.block = S_ISBLK(st->st_mode),
		.major = major(st->st_rdev),
		.minor = minor(st->st_rdev),
		.mode = st->st_mode & 0777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.access = access,
	};
	return 0;
}

static bool is_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
}

/* All devices of a folder, as Docker does; not of those in it. */
static int put_device_folder(
	struct parts *p, const char *path, const char *target, const char *access, struct err *err)
{
	auto_closedir DIR *dir = opendir(path);
	const struct dirent *de;
	int r = dir ? 0 : err_errno(err, errno, "devices: cannot read '%s'", path);

	while (r == 0 && (de = readdir(dir))) {
		char to[PATH_MAX];
		struct stat st;

		if (fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!is_device(&st))
			continue;
		snprintf(to, sizeof(to), "%.2000s/%.255s", target, de->d_name);
		r = put_device(p, de->d_name, &st, to, access, err);
	}
	return r;
}

static int put_devices(const struct bundle *b, struct parts *p, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	int r = 0;

	p->spec.devices = p->devices;
	for (size_t i = 0; r == 0 && i < req->n_devices; i++) {
		const API(Device) *d = req->devices[i];
		const char *access = *d->permissions ? d->permissions : "rwm";
		const char *path = keep(p, &d->path);
		const char *target = path && d->destination.len ? keep(p, &d->destination) : path;
		struct stat st;

		if (!path || !target || path[0] != '/' || access[strspn(access, "rwm")])
			return err_set(err, EINVAL,
				"devices: an absolute path and permissions of r, w and m are "
				"wanted");
		if (stat(path, &st) < 0)
			return err_errno(err, errno, "devices: the guest has no '%s'", path);
		if (S_ISDIR(st.st_mode))
			r = put_device_folder(p, path, target, access, err);
		else if (is_device(&st))
			r = put_device(p, path, &st, target, access, err);
		else
			r = err_set(err, ENODEV, "devices: '%s' of the guest is no device", path);
	}
	return r;
}

static int put_seccomp(const struct bundle *b, struct parts *p, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	const struct sock_fprog *def = oci_seccomp_default();

	if (req->seccomp_unconfined || req->privileged)
		p->spec.seccomp = OCI_SECCOMP_NONE;
	else if (req->seccomp_bpf.len && !b->bpf)
		return err_set(err, EOPNOTSUPP,
			"seccomp_bpf: this container runtime takes no compiled filter; crun does");
	else if (b->bpf)
		p->spec.seccomp = OCI_SECCOMP_BPF;
	else
		p->spec.seccomp = OCI_SECCOMP_JSON;
	p->spec.seccomp_bpf =
		req->seccomp_bpf.len ? req->seccomp_bpf.data : (const void *)def->filter;
	p->spec.seccomp_bpf_len =
		req->seccomp_bpf.len ? req->seccomp_bpf.len : def->len * sizeof(*def->filter);
	return 0;
}

static int make_spec(
	const struct bundle *b, struct parts *p, struct oci_spec *ret_spec, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	struct oci_container *c = &p->spec;
	int r;

	*c = (struct oci_container){ .user = &p->user,
		.tty = req->tty,
		.privileged = req->privileged,
		.no_new_privileges = req->no_new_privileges,
		.rootfs = p->rootfs,
		.hostname = b->hostname,
		.read_only_root = req->read_only_root || (req->disks && req->disks->read_only),
		.shm_size = req->shm_bytes,
		.cgroups_path = b->cgroups_path };
	if (req->window) {
		c->rows = req->window->rows;
		c->columns = req->window->columns;
	}
	if (req->cwd.len) {
		c->cwd = keep(p, &req->cwd);
		if (!c->cwd)
			return err_set(err, EINVAL, "cwd has a NUL byte");
		r = make_cwd(p->rootfs, c->cwd, err);
		if (r < 0)
			return r;
	}
	r = put_args(b, p, err);
	if (r == 0)
		r = put_mounts(b, p, err);
	if (r == 0)
		r = put_limits(b, p, err);
	if (r == 0)
		r = put_devices(b, p, err);
	if (r == 0)
		r = put_seccomp(b, p, err);
	if (r == 0)
		r = bundle_caps(req, &c->caps, err);
	if (r < 0)
		return r;
	c->args = (const char *const *)strv_items(&p->args);
	c->env = (const char *const *)strv_items(&p->env);
	return oci_spec_make(c, ret_spec, err);
}

static int full_spec(
	const struct bundle *b, const struct parts *p, struct oci_spec *ret_spec, struct err *err)
{
	const API(CreateContainerRequest) *req = b->req;
	bool terminal;

	return oci_spec_merge_full(req->oci_spec.data, req->oci_spec.len,
		p->rootfs[0] ? p->rootfs : NULL, b->cgroups_path, ret_spec, &terminal, err);
}

int bundle_make(void *arg, struct strbuf *result, struct err *err)
{
	const struct bundle *b = arg;
	const API(CreateContainerRequest) *req = b->req;
	struct parts *p = calloc(1, sizeof(*p));
	struct bundle_result out = { 0 };
	struct oci_spec spec = { 0 };
	int r;

	if (!p || (r = fs_make_dirs(b->dir, 0700)) < 0)
		return err_errno(err, p ? -r : ENOMEM, "cannot make '%s'", b->dir);
	if (req->oci_spec.len && !req->disks && !req->rootfs.len && !*req->rootfs_path)
		r = 0; /* the spec has its own */
	else
		r = find_root(b, p, err);
	if (r == 0 && req->oci_spec.len) {
		r = full_spec(b, p, &spec, err);
	} else if (r == 0) {
		r = find_user(b, p, err);
		if (r == 0)
			r = bundle_write_names(b, err);
		if (r == 0)
			r = make_spec(b, p, &spec, err);
	}
	if (r == 0)
		r = write_file(b, "config.json", spec.json, spec.json_len, 0600, err);
	if (r == 0 && spec.blob)
		r = write_file(b, BUNDLE_BLOB, spec.blob, spec.blob_len, 0600, err);
	if (r < 0)
		return r;
	out.blob = spec.blob != NULL;
	strbuf_add(result, &out, sizeof(out));
	return 0;
}

int bundle_remove(void *arg, struct strbuf *result, struct err *err)
{
	const struct bundle_removal *b = arg;
	int r = b->disks ? mounts_container_root_remove(b->id, err) : 0;

	if (r == 0)
		r = volumes_unmount(b->id, err);
	if (r < 0)
		return r;
	/* What was killed may still be on its way out, and holds the group until then. */
	cgroup_wait_empty(b->cgroups_path, deadline_in(CGROUP_WAIT));
	r = fs_remove_tree(AT_FDCWD, b->dir);
	return r < 0 ? err_errno(err, -r, "cannot remove '%s'", b->dir) : 0;
}
