/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/seccomp-rules.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALLOW(n)	{ .kind = SECCOMP_ALLOW, .names = n, .cap = -1 },
#define ALLOW_CAP(c, n) { .kind = SECCOMP_ALLOW_CAP, .names = n, .cap = c },
#define ALLOW_ARG(n, o, a, v) \
	{ .kind = SECCOMP_ALLOW_ARG, .names = n, .cap = -1, .op = o, .arg = a, .value = v },
#define ALLOW_MASKED(c, n, a, m) \
	{ .kind = SECCOMP_ALLOW_MASKED, .names = n, .cap = c, .arg = a, .value = m },
#define ERRNO(c, n, e)	 { .kind = SECCOMP_ERRNO, .names = n, .cap = c, .value = e },
#define ALLOW_ARCH(a, n) { .kind = SECCOMP_ALLOW_ARCH, .names = n, .cap = -1, .arch = a },
const struct seccomp_rule seccomp_rules[] = {
#include "oci/seccomp-default.def"
};
const size_t seccomp_rules_n = sizeof(seccomp_rules) / sizeof(seccomp_rules[0]);

static const struct seccomp_target targets[] = {
	{ "x86_64", { { SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, "SCMP_ARCH_X86_64" },
			    { SCMP_ARCH_X86, AUDIT_ARCH_I386, "SCMP_ARCH_X86" } } },
	{ "aarch64", { { SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, "SCMP_ARCH_AARCH64" },
			     { SCMP_ARCH_ARM, AUDIT_ARCH_ARM, "SCMP_ARCH_ARM" } } },
};

const struct seccomp_target *seccomp_target_find(const char *name)
{
	uint32_t native = seccomp_arch_native();

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		if (name ? strcmp(targets[i].name, name) == 0 : targets[i].arch[0].scmp == native)
			return &targets[i];
	return NULL;
}

bool seccomp_rule_holds(const struct seccomp_rule *r, const struct seccomp_target *t, uint64_t caps)
{
	bool has = r->cap >= 0 && (caps >> r->cap & 1);

	switch (r->kind) {
	case SECCOMP_ALLOW_CAP:
		return has;
	case SECCOMP_ALLOW_MASKED:
	case SECCOMP_ERRNO:
		return !has;
	case SECCOMP_ALLOW_ARCH:
		return strcmp(r->arch, t->name) == 0;
	default:
		return true;
	}
}

int seccomp_rule_each(const struct seccomp_rule *r,
	int (*fn)(const struct seccomp_rule *r, const char *name, void *arg), void *arg)
{
	char *copy = strdup(r->names), *save = NULL;
	int ret = copy ? 0 : -ENOMEM;

	for (char *n = copy ? strtok_r(copy, " ", &save) : NULL; n && ret >= 0;
		n = strtok_r(NULL, " ", &save))
		ret = fn(r, n, arg);
	free(copy);
	return ret < 0 ? ret : 0;
}

static int add_rule(const struct seccomp_rule *r, const char *name, void *arg)
{
	scmp_filter_ctx ctx = arg;
	int nr = seccomp_syscall_resolve_name(name);

	if (nr == __NR_SCMP_ERROR)
		return 0; /* newer than this libseccomp */
	switch (r->kind) {
	case SECCOMP_ALLOW_ARG:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
			SCMP_CMP(r->arg, (enum scmp_compare)r->op, r->value, 0));
	case SECCOMP_ALLOW_MASKED:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
			SCMP_CMP(r->arg, SCMP_CMP_MASKED_EQ, r->value, 0));
	case SECCOMP_ERRNO:
		return seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t)r->value), nr, 0);
	default:
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	}
}

scmp_filter_ctx seccomp_target_filter(const struct seccomp_target *t, uint32_t action)
{
	scmp_filter_ctx ctx = seccomp_init(action);
	int r = ctx ? 0 : -ENOMEM;

	for (int i = 0; r == 0 && i < SECCOMP_ARCHES; i++)
		if (t->arch[i].scmp != seccomp_arch_native())
			r = seccomp_arch_add(ctx, t->arch[i].scmp);
	if (r == 0 && t->arch[0].scmp != seccomp_arch_native())
		r = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r < 0 && ctx)
		seccomp_release(ctx);
	return r < 0 ? NULL : ctx;
}

static size_t put_prefix(
	const struct seccomp_target *t, const int *highest, struct sock_filter *out)
{
	struct sock_filter *f = out;

	for (int i = 0; i < SECCOMP_ARCHES; i++) {
		*f++ = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, 4); /* seccomp_data.arch */
		*f++ = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, t->arch[i].audit, 0, 3);
		*f++ = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, 0); /* seccomp_data.nr */
		*f++ = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JGT | BPF_K, (uint32_t)highest[i], 0, 1);
		*f++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	}
	return (size_t)(f - out);
}

int seccomp_export(scmp_filter_ctx filter, const struct seccomp_target *t, const int *highest,
	struct sock_filter *out, size_t *ret_n)
{
	int fd = memfd_create("bpf", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;
	size_t n = highest ? put_prefix(t, highest, out) : 0;
	ssize_t got = 0;

	if (r == 0)
		r = seccomp_export_bpf(filter, fd);
	if (r == 0) {
		/* One that is too long fills all the room. */
		got = pread(fd, out + n, (BPF_MAXINSNS - n) * sizeof(*out), 0);
		r = got < 0 ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (r < 0)
		return r;
	if (!got || (size_t)got % sizeof(*out) || (size_t)got == (BPF_MAXINSNS - n) * sizeof(*out))
		return -E2BIG;
	*ret_n = n + (size_t)got / sizeof(*out);
	return 0;
}

struct highest {
	uint32_t arch;
	int nr;
};

static int raise_highest(const struct seccomp_rule *r, const char *name, void *arg)
{
	struct highest *h = arg;
	int nr = seccomp_syscall_resolve_name_arch(h->arch, name);

	(void)r;
	if (nr > h->nr)
		h->nr = nr;
	return 0;
}

int seccomp_rules_compile(
	const struct seccomp_target *t, uint64_t caps, struct sock_filter *out, size_t *ret_n)
{
	scmp_filter_ctx ctx = seccomp_target_filter(t, SCMP_ACT_ERRNO(EPERM));
	int highest[SECCOMP_ARCHES], r = ctx ? 0 : -ENOMEM;

	for (int i = 0; i < SECCOMP_ARCHES; i++) {
		struct highest h = { t->arch[i].scmp, 0 };

		/* Also of those that are not allowed: they are known and refused. */
		for (size_t k = 0; k < seccomp_rules_n; k++)
			seccomp_rule_each(&seccomp_rules[k], raise_highest, &h);
		highest[i] = h.nr;
	}
	for (size_t i = 0; r == 0 && i < seccomp_rules_n; i++)
		if (seccomp_rule_holds(&seccomp_rules[i], t, caps))
			r = seccomp_rule_each(&seccomp_rules[i], add_rule, ctx);
	if (r == 0)
		r = seccomp_export(ctx, t, highest, out, ret_n);
	if (ctx)
		seccomp_release(ctx);
	return r;
}
