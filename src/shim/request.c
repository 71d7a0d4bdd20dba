/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "driver/virtiofsd.h"
#include "oci/caps.h"
#include "oci/rlimit.h"
#include "sandbox/machine.h"
#include "sandbox/network.h"
#include "sandbox/volume.h"
#include "shim/vm.h"

void container_request_deinit(struct container_request *r)
{
	for (size_t i = 0; i < r->n_owned; i++)
		free(r->owned[i]);
	free(r->owned);
	strv_deinit(&r->strings);
}

/* Zeros for n things, and one more, that live as long as the request. NULL: out of memory. */
static void *own(struct container_request *r, size_t n, size_t size)
{
	void **more = realloc(r->owned, (r->n_owned + 1) * sizeof(*more)), *p;

	if (!more)
		return NULL;
	r->owned = more;
	p = calloc(n + 1, size);
	if (p)
		r->owned[r->n_owned++] = p;
	return p;
}

static void set_bytes(ProtobufCBinaryData *b, const char *s)
{
	b->data = (uint8_t *)s;
	b->len = s ? strlen(s) : 0;
}

static int set_words(struct container_request *r, const struct strv *sv, ProtobufCBinaryData **ret,
	size_t *ret_n)
{
	ProtobufCBinaryData *v = own(r, sv->n, sizeof(*v));

	for (size_t i = 0; v && i < sv->n; i++)
		set_bytes(&v[i], sv->v[i]);
	*ret = v;
	*ret_n = v ? sv->n : 0;
	return v ? 0 : -ENOMEM;
}

/* An array of n pointers to things of a size, which are behind it. */
static void **set_list(struct container_request *r, size_t n, size_t size, void **ret_items)
{
	void **pointers = own(r, n, sizeof(*pointers));
	char *items = pointers ? own(r, n, size) : NULL;

	for (size_t i = 0; items && i < n; i++)
		pointers[i] = items + i * size;
	*ret_items = items;
	return items ? pointers : NULL;
}

void container_request_limits(const struct shim *shim, bool all,
	Micropod__Agent__V1__Resources *limits, char cpuset[static CPUSET_TEXT])
{
	const struct sandbox_config *c = &shim->box.config;
	unsigned cpus = (unsigned)((c->cpu_milli + 999) / 1000);

	/* A pod's VM is not its own: what it is to have of that is what was asked for. */
	if (c->pod) {
		limits->memory_bytes = c->memory;
		limits->memory_swap_bytes = c->memory_swap;
		limits->cpu_milli = c->cpu_milli;
		limits->cpu_shares = c->cpu_shares;
		limits->pids = c->pids_limit;
		limits->cpuset = c->cpuset ? c->cpuset : (char *)"";
		return;
	}
	if (all || c->memory < shim->machine.memory)
		limits->memory_bytes = c->memory;
	limits->memory_swap_bytes = c->memory_swap;
	if (all || c->cpu_milli % 1000)
		limits->cpu_milli = c->cpu_milli;
	limits->cpu_shares = c->cpu_shares;
	limits->pids = c->pids_limit;
	if (c->cpuset) {
		limits->cpuset = c->cpuset;
	} else if (all || cpus < shim->machine.cpus) {
		snprintf(cpuset, CPUSET_TEXT, "0-%u", cpus - 1);
		limits->cpuset = cpuset;
	}
}

static int set_rlimits(const struct sandbox_config *c, struct container_request *r)
{
	Micropod__Agent__V1__Rlimit *v;
	void *items;

	r->req.rlimits =
		(Micropod__Agent__V1__Rlimit **)set_list(r, c->ulimits.n, sizeof(*v), &items);
	v = items;
	for (size_t i = 0; v && i < c->ulimits.n; i++) {
		struct oci_rlimit limit;
		struct err err = ERR_INIT;

		/* Looked at when the sandbox was made. */
		if (oci_rlimit_parse(c->ulimits.v[i], &limit, &err) < 0)
			return -EINVAL;
		v[i] = (Micropod__Agent__V1__Rlimit)MICROPOD__AGENT__V1__RLIMIT__INIT;
		v[i].type = (char *)oci_rlimit_name(limit.resource);
		v[i].soft = limit.soft;
		v[i].hard = limit.hard;
	}
	r->req.n_rlimits = c->ulimits.n;
	return v ? 0 : -ENOMEM;
}

/* Mounts */

static unsigned depth(const Micropod__Agent__V1__Mount *m)
{
	unsigned n = 0;

	for (size_t i = 0; i < m->destination.len; i++)
		n += m->destination.data[i] == '/';
	return n;
}

/* Those that others lie in come first. */
static int by_depth(const void *a, const void *b)
{
	unsigned x = depth(*(Micropod__Agent__V1__Mount *const *)a),
		 y = depth(*(Micropod__Agent__V1__Mount *const *)b);

	return (x > y) - (x < y);
}

static int set_volume(const struct shim_share *share, Micropod__Agent__V1__Mount *m)
{
	static char *read_only[] = { (char *)"ro" }, *populate[] = { (char *)"populate" };
	char name[LIMIT_NAME + 1];

	set_bytes(&m->source, share->tag);
	set_bytes(&m->destination, share->target);
	m->type = (char *)"virtiofs";
	if (share->file)
		set_bytes(&m->subpath, VIRTIOFSD_FILE);
	if (share->read_only) {
		m->options = read_only;
		m->n_options = ARRAY_SIZE(read_only);
	} else if (volume_of(share->shim->root, share->source, name)) {
		m->options = populate;
		m->n_options = ARRAY_SIZE(populate);
	}
	return 0;
}

/* DIR[:OPTIONS]: Docker's defaults, then what was asked for. */
static int set_tmpfs(struct container_request *r, const char *text, Micropod__Agent__V1__Mount *m)
{
	static const char defaults[] = "noexec,nosuid,nodev,mode=1777";
	const char *colon = strchr(text, ':');
	char *words, *save = NULL;
	size_t n = 0;

	if (strv_addn(&r->strings, text, strcspn(text, ":")) < 0)
		return -ENOMEM;
	set_bytes(&m->destination, r->strings.v[r->strings.n - 1]);
	m->type = (char *)"tmpfs";
	if (strv_addf(&r->strings, "%s,%s", defaults, colon ? colon + 1 : "") < 0)
		return -ENOMEM;
	words = r->strings.v[r->strings.n - 1];
	m->options = own(r, strlen(words), sizeof(*m->options));
	for (char *w = m->options ? strtok_r(words, ",", &save) : NULL; w;
		w = strtok_r(NULL, ",", &save))
		m->options[n++] = w;
	m->n_options = n;
	return m->options ? 0 : -ENOMEM;
}

static int set_mounts(const struct shim *shim, struct container_request *r)
{
	const struct sandbox_config *c = &shim->box.config;
	size_t n = shim->n_volumes + c->tmpfs.n;
	Micropod__Agent__V1__Mount *v;
	void *items;
	int ret;

	r->req.mounts = (Micropod__Agent__V1__Mount **)set_list(r, n, sizeof(*v), &items);
	v = items;
	ret = v ? 0 : -ENOMEM;
	for (size_t i = 0; ret == 0 && i < n; i++) {
		v[i] = (Micropod__Agent__V1__Mount)MICROPOD__AGENT__V1__MOUNT__INIT;
		ret = i < shim->n_volumes ? set_volume(&shim->shares[i], &v[i])
					  : set_tmpfs(r, c->tmpfs.v[i - shim->n_volumes], &v[i]);
	}
	if (ret < 0)
		return ret;
	r->req.n_mounts = n;
	qsort(r->req.mounts, n, sizeof(*r->req.mounts), by_depth);
	return 0;
}

static int set_devices(const struct sandbox_config *c, struct container_request *r)
{
	Micropod__Agent__V1__Device *v;
	void *items;

	r->req.devices =
		(Micropod__Agent__V1__Device **)set_list(r, c->devices.n, sizeof(*v), &items);
	v = items;
	for (size_t i = 0; v && i < c->devices.n; i++) {
		char *text, *target, *access;

		if (strv_add(&r->strings, c->devices.v[i]) < 0)
			return -ENOMEM;
		text = r->strings.v[r->strings.n - 1];
		v[i] = (Micropod__Agent__V1__Device)MICROPOD__AGENT__V1__DEVICE__INIT;
		sandbox_device_split(text, &target, &access);
		set_bytes(&v[i].path, text);
		set_bytes(&v[i].destination, target);
		if (access)
			v[i].permissions = access;
	}
	r->req.n_devices = c->devices.n;
	return v ? 0 : -ENOMEM;
}

/* Rights and names */

static int set_caps(const struct sandbox_config *c, struct container_request *r)
{
	const char *bad;
	uint64_t caps;

	if (!c->cap_add.n && !c->cap_drop.n)
		return 0;
	if (oci_caps_tweak(&c->cap_add, &c->cap_drop, &caps, &bad) < 0)
		return -EINVAL;
	r->req.capabilities = own(r, OCI_CAP_MAX, sizeof(*r->req.capabilities));
	if (!r->req.capabilities)
		return -ENOMEM;
	for (unsigned cap = 0; cap < OCI_CAP_MAX; cap++)
		if (caps >> cap & 1)
			r->req.capabilities[r->req.n_capabilities++] = (char *)oci_cap_name(cap);
	r->req.no_capabilities = !caps;
	return 0;
}

static int set_seccomp(const struct sandbox_config *c, struct container_request *r)
{
	size_t n = c->seccomp_filter ? strlen(c->seccomp_filter) / 2 : 0;

	r->req.no_new_privileges = c->no_new_privileges;
	r->req.seccomp_unconfined = c->seccomp && strcmp(c->seccomp, "unconfined") == 0;
	if (!n)
		return 0;
	r->req.seccomp_bpf.data = own(r, n, 1);
	r->req.seccomp_bpf.len = n;
	if (!r->req.seccomp_bpf.data)
		return -ENOMEM;
	return hex_decode(c->seccomp_filter, r->req.seccomp_bpf.data, n);
}

static int set_sysctls(const struct sandbox_config *c, struct container_request *r)
{
	Micropod__Agent__V1__CreateContainerRequest__SysctlsEntry *v;
	void *items;

	r->req.sysctls = (Micropod__Agent__V1__CreateContainerRequest__SysctlsEntry **)set_list(
		r, c->sysctls.n, sizeof(*v), &items);
	v = items;
	for (size_t i = 0; v && i < c->sysctls.n; i++) {
		char *text;

		if (strv_add(&r->strings, c->sysctls.v[i]) < 0)
			return -ENOMEM;
		text = r->strings.v[r->strings.n - 1];
		v[i] = (Micropod__Agent__V1__CreateContainerRequest__SysctlsEntry)
			MICROPOD__AGENT__V1__CREATE_CONTAINER_REQUEST__SYSCTLS_ENTRY__INIT;
		v[i].key = text;
		v[i].value = strchr(text, '=');
		*v[i].value++ = 0;
	}
	r->req.n_sysctls = c->sysctls.n;
	return v ? 0 : -ENOMEM;
}

static int set_hosts(const struct sandbox_config *c, struct container_request *r)
{
	static const char gateway[] = ":host-gateway";
	struct network_plan plan;

	r->req.extra_hosts = own(r, c->extra_hosts.n, sizeof(*r->req.extra_hosts));
	if (!r->req.extra_hosts)
		return -ENOMEM;
	network_plan(c, &plan);
	for (size_t i = 0; i < c->extra_hosts.n; i++) {
		const char *word = c->extra_hosts.v[i], *end = strstr(word, gateway);

		if (end && strv_addf(&r->strings, "%.*s:%s", (int)(end - word), word,
				   plan.gateway) < 0)
			return -ENOMEM;
		r->req.extra_hosts[i] = end ? r->strings.v[r->strings.n - 1] : (char *)word;
	}
	r->req.n_extra_hosts = c->extra_hosts.n;
	return 0;
}

static void set_dns(const struct sandbox_config *c, struct container_request *r)
{
	r->req.dns_servers = c->dns.v;
	r->req.n_dns_servers = c->dns.n;
	r->req.dns_search = c->dns_search.v;
	r->req.n_dns_search = c->dns_search.n;
	r->req.dns_options = c->dns_options.v;
	r->req.n_dns_options = c->dns_options.n;
}

static int make(const struct shim *shim, struct container_request *r)
{
	const struct sandbox_config *c = &shim->box.config;
	Micropod__Agent__V1__CreateContainerRequest *req = &r->req;
	int ret = set_words(r, &c->args, &req->args, &req->n_args);

	if (ret == 0)
		ret = set_words(r, &c->env, &req->env, &req->n_env);
	if (ret == 0)
		ret = set_words(
			r, &c->groups, &r->user.additional_groups, &r->user.n_additional_groups);
	if (ret == 0)
		ret = set_mounts(shim, r);
	if (ret == 0)
		ret = set_rlimits(c, r);
	if (ret == 0)
		ret = set_devices(c, r);
	if (ret == 0)
		ret = set_caps(c, r);
	if (ret == 0)
		ret = set_seccomp(c, r);
	if (ret == 0)
		ret = set_sysctls(c, r);
	return ret < 0 ? ret : set_hosts(c, r);
}

int container_request_make(const struct shim *shim, struct container_request *r)
{
	const struct sandbox_config *c = &shim->box.config;
	Micropod__Agent__V1__CreateContainerRequest *req = &r->req;

	*r = (struct container_request){
		.req = MICROPOD__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT,
		.disks = MICROPOD__AGENT__V1__ROOT_DISKS__INIT,
		.user = MICROPOD__AGENT__V1__USER__INIT,
		.window = MICROPOD__AGENT__V1__WINDOW_SIZE__INIT,
		.limits = MICROPOD__AGENT__V1__RESOURCES__INIT,
	};
	snprintf(r->hostname, sizeof(r->hostname), "%.*s", ID_SHOWN_LEN, c->id);
	r->disks.image_serial =
		shim->image_serial ? shim->image_serial : (char *)MACHINE_IMAGE_SERIAL;
	r->disks.scratch_serial =
		shim->scratch_serial ? shim->scratch_serial : (char *)MACHINE_SCRATCH_SERIAL;
	if (c->image_tree)
		r->disks.image_tag = (char *)SHIM_ROOT_TAG;
	set_bytes(&r->user.name, c->user);
	container_request_limits(shim, false, &r->limits, r->cpuset);
	set_dns(c, r);
	req->container_id = (char *)sandbox_container_id(c);
	req->disks = &r->disks;
	req->user = &r->user;
	req->resources = &r->limits;
	set_bytes(&req->cwd, c->cwd);
	req->tty = c->tty;
	req->open_stdin = c->open_stdin;
	req->hostname = c->hostname ? c->hostname : r->hostname;
	req->stop_signal = c->stop_signal ? c->stop_signal : (char *)"";
	req->read_only_root = c->read_only;
	req->init = c->init;
	req->pause = c->pause;
	req->share_ipc = c->pod != NULL;
	req->oom_score_adj = (int32_t)c->oom_score_adj;
	req->privileged = c->privileged;
	req->shm_bytes = c->shm_bytes;
	if (shim->rows && shim->columns) {
		r->window.rows = shim->rows;
		r->window.columns = shim->columns;
		req->window = &r->window;
	}
	/* Nothing is lost while we keep the log, and we live as long as the VM does. */
	req->output_policy = MICROPOD__AGENT__V1__OUTPUT_POLICY__OUTPUT_POLICY_BLOCK;
	return make(shim, r);
}
