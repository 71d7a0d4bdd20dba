/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <errno.h>
#include <jansson.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "oci/caps.h"
#include "oci/spec.h"

static int keep_filter(struct exec_settings *s, const void *data, size_t len)
{
	s->seccomp = malloc(len);
	if (!s->seccomp)
		return -ENOMEM;
	memcpy(s->seccomp, data, len);
	s->seccomp_len = len;
	return 0;
}

static int set_filter(struct exec_settings *s, const ProtobufCBinaryData *bpf, struct err *err)
{
	const struct sock_fprog *def = oci_seccomp_default();
	struct sock_fprog prog;
	int r;

	if (bpf->len) {
		r = oci_seccomp_check(bpf->data, bpf->len, &prog, err);
		if (r < 0)
			return r;
		r = keep_filter(s, bpf->data, bpf->len);
	} else {
		r = keep_filter(s, def->filter, def->len * sizeof(*def->filter));
	}
	return r < 0 ? err_errno(err, -r, "seccomp_bpf") : 0;
}

static bool has_home(const struct strv *env)
{
	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], "HOME=", 5) == 0)
			return true;
	return false;
}

static int set_env(
	const API(CreateContainerRequest) * req, const char *hostname, struct exec_settings *s)
{
	bool home;
	int r = 0;

	for (size_t i = 0; r == 0 && i < req->n_env; i++)
		r = api_add_bytes(&s->env, &req->env[i]);
	if (r < 0)
		return r;
	home = has_home(&s->env);
	r = oci_env_defaults(&s->env, hostname, req->tty, NULL);
	/* Each exec gets its own user's, which the child looks up. */
	if (r == 0 && !home) {
		free(s->env.v[--s->env.n]);
		s->env.v[s->env.n] = NULL;
	}
	return r;
}

int settings_from_request(const API(CreateContainerRequest) * req, const char *hostname,
	struct exec_settings *s, struct err *err)
{
	int r = set_env(req, hostname, s);

	if (r == 0)
		r = api_dup_bytes(&req->cwd, &s->cwd);
	s->oom_score_adj = req->oom_score_adj;
	if (r < 0)
		return err_errno(err, -r, "env or cwd");
	return req->seccomp_unconfined || req->privileged ? 0
							  : set_filter(s, &req->seccomp_bpf, err);
}

/* A whole spec */

static int add_strings(struct strv *sv, const json_t *array)
{
	const json_t *item;
	size_t i;

	json_array_foreach(
		array, i, item) if (!json_is_string(item) ||
				    strv_add(sv, json_string_value(item)) < 0) return -EINVAL;
	return 0;
}

static uint64_t number(const json_t *value)
{
	double d = json_number_value(value);

	/* Integers come as reals, since RLIM_INFINITY does not fit into the parser's. */
	return d <= 0 ? 0 : d >= 18446744073709549568.0 ? UINT64_MAX : (uint64_t)d;
}

static uint64_t caps_of(const json_t *caps, const char *set)
{
	const json_t *item;
	uint64_t mask = 0;
	unsigned cap;
	size_t i;

	json_array_foreach(json_object_get(caps, set), i,
		item) if (json_is_string(item) && oci_cap_parse(json_string_value(item), &cap) == 0)
		mask |= (uint64_t)1 << cap;
	return mask;
}

static int read_limits(struct exec_settings *s, const json_t *limits)
{
	const json_t *item;
	size_t i;

	json_array_foreach(limits, i, item)
	{
		struct oci_rlimit *l = &s->rlimits[s->n_rlimits];
		const char *type = json_string_value(json_object_get(item, "type"));

		if (s->n_rlimits == OCI_RLIMIT_MAX || !type ||
			oci_rlimit_parse_name(type, &l->resource) < 0)
			return -EINVAL;
		l->soft = number(json_object_get(item, "soft"));
		l->hard = number(json_object_get(item, "hard"));
		s->n_rlimits++;
	}
	return 0;
}

static int read_user(struct exec_settings *s, const json_t *user)
{
	const json_t *item;
	size_t i;

	s->user.uid = (uid_t)number(json_object_get(user, "uid"));
	s->user.gid = (gid_t)number(json_object_get(user, "gid"));
	json_array_foreach(json_object_get(user, "additionalGids"), i, item)
	{
		if (s->user.n_groups == OCI_GROUPS_MAX)
			return -E2BIG;
		s->user.groups[s->user.n_groups++] = (gid_t)number(item);
	}
	return 0;
}

/* What is the same however the spec came to be. */
static int read_rights(struct exec_settings *s, const json_t *process)
{
	const json_t *caps = json_object_get(process, "capabilities");
	int r;

	s->bounding = caps_of(caps, "bounding");
	s->effective = caps_of(caps, "effective");
	s->permitted = caps_of(caps, "permitted");
	s->inheritable = caps_of(caps, "inheritable");
	s->ambient = caps_of(caps, "ambient");
	s->no_new_privileges = json_is_true(json_object_get(process, "noNewPrivileges"));
	s->oom_score_adj = (int)json_number_value(json_object_get(process, "oomScoreAdj"));
	r = read_user(s, json_object_get(process, "user"));
	return r < 0 ? r : read_limits(s, json_object_get(process, "rlimits"));
}

int settings_from_config(const char *text, struct exec_settings *s, struct err *err)
{
	json_t *spec = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
	int r = spec ? read_rights(s, json_object_get(spec, "process")) : -EPROTO;

	json_decref(spec);
	return r < 0 ? err_errno(err, -r, "config.json") : 0;
}

static int read_words(struct exec_settings *s, const json_t *process, struct strv *args)
{
	const char *cwd = json_string_value(json_object_get(process, "cwd"));
	int r;

	s->cwd = strdup(cwd ? cwd : "/");
	if (!s->cwd)
		return -ENOMEM;
	r = add_strings(&s->env, json_object_get(process, "env"));
	if (r == 0)
		r = add_strings(args, json_object_get(process, "args"));
	return r == 0 && !args->n ? -EINVAL : r;
}

int settings_from_spec(const API(CreateContainerRequest) * req, struct exec_settings *s,
	bool *ret_terminal, struct strv *ret_args, struct err *err)
{
	json_error_t where;
	json_t *spec;
	const json_t *process;
	int r;

	if (req->oci_spec.len > LIMIT_OCI_SPEC)
		return err_set(err, EFBIG, "oci_spec is longer than %llu bytes",
			(unsigned long long)LIMIT_OCI_SPEC);
	spec = json_loadb((const char *)req->oci_spec.data, req->oci_spec.len,
		JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &where);
	if (!spec)
		return err_set(err, EINVAL, "oci_spec: line %d: %s", where.line, where.text);
	process = json_object_get(spec, "process");
	*ret_terminal = json_is_true(json_object_get(process, "terminal"));
	r = read_words(s, process, ret_args);
	if (r < 0)
		err_errno(err, -r, "oci_spec: process");
	else if (req->seccomp_bpf.len || json_object_get(json_object_get(spec, "linux"), "seccomp"))
		r = set_filter(s, &req->seccomp_bpf, err);
	json_decref(spec);
	return r;
}

/* Execs */

static void remove_env(struct strv *env, const char *key)
{
	size_t len = strlen(key), n = 0;

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], key, len) == 0 && env->v[i][len] == '=')
			free(env->v[i]);
		else
			env->v[n++] = env->v[i];
	}
	env->n = n;
	if (env->v)
		env->v[n] = NULL;
}

static int change_env(struct exec_settings *s, const API(ProcessSpec) * spec)
{
	int r = 0;

	if (spec->tty && (r = strv_setenv(&s->env, "TERM=xterm")) < 0)
		return r;
	for (size_t i = 0; r == 0 && i < spec->n_env; i++) {
		auto_free char *entry = NULL;

		r = api_dup_bytes(&spec->env[i], &entry);
		if (r == 0 && strchr(entry, '='))
			r = strv_setenv(&s->env, entry);
		else if (r == 0)
			remove_env(&s->env, entry);
	}
	return r;
}

static int change_user(struct exec_settings *s, const API(User) * user)
{
	int r;

	s->by_name = true;
	/* Instead of the container's, groups included. */
	s->as_is = false;
	strv_deinit(&s->user_words);
	r = api_add_bytes(&s->user_words, &user->name);
	for (size_t i = 0; r == 0 && i < user->n_additional_groups; i++)
		r = api_add_bytes(&s->user_words, &user->additional_groups[i]);
	/* HOME is that user's, unless the request says otherwise. */
	remove_env(&s->env, "HOME");
	return r;
}

int settings_for_exec(struct exec_settings *s, const API(ProcessSpec) * spec, struct err *err)
{
	int r = spec->user ? change_user(s, spec->user) : 0;

	if (r == 0)
		r = change_env(s, spec);
	if (r == 0 && spec->cwd.len) {
		free(s->cwd);
		s->cwd = NULL;
		r = api_dup_bytes(&spec->cwd, &s->cwd);
	}
	if (r < 0)
		return err_errno(err, -r, "env, cwd or user");
	if (spec->privileged) {
		s->bounding = s->permitted = s->effective = OCI_CAPS_ALL;
		s->inheritable = s->ambient = 0;
		free(s->seccomp);
		s->seccomp = NULL;
	}
	return 0;
}

static int read_own_groups(struct oci_user *user, struct err *err)
{
	int n = getgroups(OCI_GROUPS_MAX, user->groups);

	if (n < 0)
		return err_errno(err, errno, "cannot read the groups of this process");
	user->n_groups = (size_t)n;
	return 0;
}

static int read_own_caps(struct exec_settings *s, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &head, d) < 0)
		return err_errno(err, errno, "cannot read the capabilities of this process");
	s->permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
	s->effective = d[0].effective | (uint64_t)d[1].effective << 32;
	s->inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
	for (unsigned cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_READ, cap) == 1)
			s->bounding |= (uint64_t)1 << cap;
	return 0;
}

int settings_from_self(struct exec_settings *s, struct err *err)
{
	int r = strv_addv(&s->env, (const char *const *)environ);

	s->as_is = true;
	s->user.uid = geteuid();
	s->user.gid = getegid();
	s->cwd = getcwd(NULL, 0);
	if (r < 0 || !s->cwd)
		return err_errno(err, r < 0 ? -r : errno, "cannot read the working folder");
	r = read_own_groups(&s->user, err);
	return r < 0 ? r : read_own_caps(s, err);
}
