/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/profile.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/macro.h"
#include "oci/caps.h"
#include "oci/seccomp-rules.h"

/* What the agent needs of a guest's kernel (clone3 into a cgroup, mounts as objects): rules for
 * kernels from an older one on are in force. */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 14

#define ARGS_MAX 6

struct compiler {
	const struct seccomp_target *target;
	uint64_t caps;
	scmp_filter_ctx filter;
	uint32_t action, error; /* of the profile: what holds for all else */
	int highest[SECCOMP_ARCHES];
};

static const struct {
	const char *name;
	uint32_t action;
} actions[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
};

static const struct {
	const char *name;
	enum scmp_compare op;
} compares[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE },
	{ "SCMP_CMP_LT", SCMP_CMP_LT },
	{ "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
	{ "SCMP_CMP_GE", SCMP_CMP_GE },
	{ "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

/* The error number of an object, else the one given. 0 or -EINVAL. */
static int read_errno(const json_t *o, const char *key, uint32_t other, uint32_t *ret)
{
	const json_t *value = json_object_get(o, key);

	*ret = other;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		json_integer_value(value) > 4095)
		return -EINVAL;
	*ret = (uint32_t)json_integer_value(value);
	return 0;
}

static int read_action(const json_t *o, const char *key, uint32_t error, uint32_t *ret)
{
	const char *word = json_string_value(json_object_get(o, key));

	if (word && strcmp(word, "SCMP_ACT_ERRNO") == 0) {
		*ret = SCMP_ACT_ERRNO(error);
		return 0;
	}
	for (size_t i = 0; word && i < ARRAY_SIZE(actions); i++) {
		if (strcmp(word, actions[i].name) == 0) {
			*ret = actions[i].action;
			return 0;
		}
	}
	return -EINVAL;
}

/* Conditions */

static bool has_arch(const struct compiler *c, const json_t *list)
{
	/* Docker writes them as Go does. */
	const char *name = strcmp(c->target->name, "x86_64") == 0 ? "amd64" : "arm64";
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *word = json_string_value(item);

		if (word && strcmp(word, name) == 0)
			return true;
	}
	return false;
}

static bool has_cap(const struct compiler *c, const json_t *list)
{
	const json_t *item;
	unsigned cap;
	size_t i;

	json_array_foreach(list, i, item) if (json_is_string(item) &&
					      oci_cap_parse(json_string_value(item), &cap) == 0 &&
					      (c->caps >> cap & 1)) return true;
	return false;
}

static bool has_kernel(const char *version)
{
	unsigned major = 0, minor = 0;

	return sscanf(version, "%u.%u", &major, &minor) == 2 &&
	       (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor <= KERNEL_MINOR));
}

/* Every condition that is given for a rule to be in force, one of each that is for it not to be. */
static bool in_force(const struct compiler *c, const json_t *rule)
{
	const json_t *with = json_object_get(rule, "includes"),
		     *without = json_object_get(rule, "excludes");
	const json_t *arches = json_object_get(with, "arches"),
		     *caps = json_object_get(with, "caps");
	const char *kernel = json_string_value(json_object_get(with, "minKernel")),
		   *not_from = json_string_value(json_object_get(without, "minKernel"));

	if (json_array_size(arches) && !has_arch(c, arches))
		return false;
	if (json_array_size(caps) && !has_cap(c, caps))
		return false;
	if (kernel && *kernel && !has_kernel(kernel))
		return false;
	return !has_arch(c, json_object_get(without, "arches")) &&
	       !has_cap(c, json_object_get(without, "caps")) &&
	       !(not_from && *not_from && has_kernel(not_from));
}

/* Rules */

static int read_args(const json_t *list, struct scmp_arg_cmp *out, unsigned *ret_n)
{
	const json_t *item;
	size_t i;

	*ret_n = 0;
	json_array_foreach(list, i, item)
	{
		json_int_t index = json_integer_value(json_object_get(item, "index"));
		const char *op = json_string_value(json_object_get(item, "op"));
		uint64_t value = (uint64_t)json_integer_value(json_object_get(item, "value"));
		uint64_t two = (uint64_t)json_integer_value(json_object_get(item, "valueTwo"));
		size_t k = 0;

		while (op && k < ARRAY_SIZE(compares) && strcmp(op, compares[k].name) != 0)
			k++;
		if (!op || k == ARRAY_SIZE(compares) || index < 0 || index >= ARGS_MAX ||
			*ret_n == ARGS_MAX)
			return -EINVAL;
		out[(*ret_n)++] =
			(struct scmp_arg_cmp){ (unsigned)index, compares[k].op, value, two };
	}
	return 0;
}

/* libseccomp takes one condition of each argument in a rule; runtimes make a rule of each then. */
static bool repeats(const struct scmp_arg_cmp *args, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = i + 1; k < n; k++)
			if (args[i].arg == args[k].arg)
				return true;
	return false;
}

static int add_name(struct compiler *c, const char *name, uint32_t action,
	const struct scmp_arg_cmp *args, unsigned n)
{
	int nr = seccomp_syscall_resolve_name(name), r = 0;

	if (nr == __NR_SCMP_ERROR || action == c->action)
		return 0;
	if (!repeats(args, n))
		return seccomp_rule_add_array(c->filter, action, nr, n, args);
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add_array(c->filter, action, nr, 1, &args[i]);
	return r;
}

/* Also of rules that are not in force: what they name is known, and refused. */
static void raise_highest(struct compiler *c, const json_t *rule)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(rule, "names"), i, item)
	{
		const char *name = json_string_value(item);

		for (int k = 0; name && k < SECCOMP_ARCHES; k++)
			c->highest[k] = MAX(c->highest[k],
				seccomp_syscall_resolve_name_arch(c->target->arch[k].scmp, name));
	}
}

static int add_rule(struct compiler *c, const json_t *rule)
{
	const json_t *names = json_object_get(rule, "names"), *item;
	const char *one = json_string_value(json_object_get(rule, "name"));
	struct scmp_arg_cmp args[ARGS_MAX];
	uint32_t action, error;
	unsigned n = 0;
	size_t i;
	int r;

	if (!json_is_object(rule))
		return -EINVAL;
	raise_highest(c, rule);
	if (!in_force(c, rule))
		return 0;
	r = read_errno(rule, "errnoRet", c->error, &error);
	if (r == 0)
		r = read_action(rule, "action", error, &action);
	if (r == 0)
		r = read_args(json_object_get(rule, "args"), args, &n);
	if (r == 0 && one)
		r = add_name(c, one, action, args, n);
	json_array_foreach(names, i, item)
	{
		if (r < 0)
			break;
		r = json_is_string(item) ? add_name(c, json_string_value(item), action, args, n)
					 : -EINVAL;
	}
	return r;
}

static int compile(struct compiler *c, const char *text, size_t len, struct sock_filter *out,
	size_t *ret_n, struct err *err)
{
	json_error_t where;
	json_t *profile = json_loadb(text, len, 0, &where);
	const json_t *rules = json_object_get(profile, "syscalls"), *item;
	size_t i;
	int r = 0;

	if (!json_is_object(profile)) {
		json_decref(profile);
		return err_set(err, EINVAL, "the seccomp profile is no JSON object (line %d: %s)",
			where.line, where.text);
	}
	if (read_errno(profile, "defaultErrnoRet", EPERM, &c->error) < 0 ||
		read_action(profile, "defaultAction", c->error, &c->action) < 0)
		r = err_set(err, EINVAL, "the seccomp profile has no defaultAction that is known");
	if (r == 0) {
		c->filter = seccomp_target_filter(c->target, c->action);
		if (!c->filter)
			r = err_set(err, ENOMEM, "cannot make a seccomp filter");
	}
	json_array_foreach(rules, i, item)
	{
		int ret = r == 0 ? add_rule(c, item) : 0;

		if (ret < 0)
			r = err_errno(err, -ret, "rule %zu of the seccomp profile", i + 1);
	}
	json_decref(profile);
	if (r < 0)
		return r;
	/* What is refused in general is refused as if the kernel did not have it, if it is new. */
	r = seccomp_export(c->filter, c->target,
		c->action == SCMP_ACT_ALLOW || c->action == SCMP_ACT_LOG ? NULL : c->highest, out,
		ret_n);
	return r < 0 ? err_errno(err, -r, "cannot compile the seccomp profile") : 0;
}

bool oci_profile_differs(uint64_t caps)
{
	const struct seccomp_target *t = seccomp_target_find(NULL);

	for (size_t i = 0; t && i < seccomp_rules_n; i++)
		if (seccomp_rule_holds(&seccomp_rules[i], t, caps) !=
			seccomp_rule_holds(&seccomp_rules[i], t, oci_caps_default))
			return true;
	return false;
}

int oci_profile_compile(
	const char *text, size_t len, uint64_t caps, char **ret_hex, struct err *err)
{
	struct compiler c = { .target = seccomp_target_find(NULL), .caps = caps };
	auto_free struct sock_filter *prog = calloc(BPF_MAXINSNS, sizeof(*prog));
	size_t n = 0;
	int r;

	if (!prog || !c.target)
		return err_set(err, prog ? ENOTSUP : ENOMEM, "cannot make a seccomp filter");
	if (text) {
		r = compile(&c, text, len, prog, &n, err);
	} else {
		r = seccomp_rules_compile(c.target, caps, prog, &n);
		if (r < 0)
			err_errno(err, -r, "cannot compile the default seccomp profile");
	}
	if (c.filter)
		seccomp_release(c.filter);
	if (r < 0)
		return r;
	*ret_hex = malloc(n * sizeof(*prog) * 2 + 1);
	if (!*ret_hex)
		return err_set(err, ENOMEM, "cannot make a seccomp filter");
	hex_encode(prog, n * sizeof(*prog), *ret_hex);
	return 0;
}
