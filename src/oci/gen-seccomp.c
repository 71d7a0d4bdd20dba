/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs while micropod is built: seccomp-default.def to C, as a BPF program (by libseccomp, its
 * rules in a binary tree) and as JSON, for the default capabilities and one architecture.
 *
 * usage: gen-seccomp x86_64|aarch64 >seccomp-default.c
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/caps.h"

enum kind { ALLOW, ALLOW_CAP, ALLOW_ARG, ALLOW_MASKED, ERRNO, ALLOW_ARCH };

struct rule {
	enum kind kind;
	const char *names, *arch;
	int cap; /* -1: any */
	int op;
	unsigned arg;
	uint64_t value;
};

#define ALLOW(n)	{ .kind = ALLOW, .names = n, .cap = -1 },
#define ALLOW_CAP(c, n) { .kind = ALLOW_CAP, .names = n, .cap = c },
#define ALLOW_ARG(n, o, a, v) \
	{ .kind = ALLOW_ARG, .names = n, .cap = -1, .op = o, .arg = a, .value = v },
#define ALLOW_MASKED(c, n, a, m) \
	{ .kind = ALLOW_MASKED, .names = n, .cap = c, .arg = a, .value = m },
#define ERRNO(c, n, e)	 { .kind = ERRNO, .names = n, .cap = c, .value = e },
#define ALLOW_ARCH(a, n) { .kind = ALLOW_ARCH, .names = n, .cap = -1, .arch = a },
static const struct rule rules[] = {
#include "oci/seccomp-default.def"
};
#undef ALLOW
#undef ALLOW_CAP
#undef ALLOW_ARG
#undef ALLOW_MASKED
#undef ERRNO
#undef ALLOW_ARCH

static const struct target {
	const char *name;
	struct {
		uint32_t scmp, audit;
		const char *json;
	} arch[2]; /* the native one first */
} targets[] = {
	{ "x86_64", { { SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, "SCMP_ARCH_X86_64" },
			    { SCMP_ARCH_X86, AUDIT_ARCH_I386, "SCMP_ARCH_X86" } } },
	{ "aarch64", { { SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, "SCMP_ARCH_AARCH64" },
			     { SCMP_ARCH_ARM, AUDIT_ARCH_ARM, "SCMP_ARCH_ARM" } } },
};
#define ARCHES 2

static void die(const char *what, int code)
{
	fprintf(stderr, "gen-seccomp: %s: %s\n", what, strerror(code < 0 ? -code : code));
	exit(1);
}

/* Whether a rule is in force for the default capabilities. */
static bool holds(const struct rule *r, const struct target *t)
{
	bool has = r->cap >= 0 && (oci_caps_default >> r->cap & 1);

	switch (r->kind) {
	case ALLOW_CAP:
		return has;
	case ALLOW_MASKED:
	case ERRNO:
		return !has;
	case ALLOW_ARCH:
		return strcmp(r->arch, t->name) == 0;
	default:
		return true;
	}
}

/* Calls fn for each name of a rule. */
static void each_name(const struct rule *r,
	void (*fn)(const struct rule *r, const char *name, void *arg), void *arg)
{
	char *copy = strdup(r->names), *save = NULL;

	for (char *n = strtok_r(copy, " ", &save); n; n = strtok_r(NULL, " ", &save))
		fn(r, n, arg);
	free(copy);
}

static void add_rule(const struct rule *r, const char *name, void *arg)
{
	scmp_filter_ctx ctx = arg;
	int nr = seccomp_syscall_resolve_name(name), ret;

	if (nr == __NR_SCMP_ERROR)
		return; /* newer than this libseccomp */
	switch (r->kind) {
	case ALLOW_ARG:
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
			SCMP_CMP(r->arg, (enum scmp_compare)r->op, r->value, 0));
		break;
	case ALLOW_MASKED:
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
			SCMP_CMP(r->arg, SCMP_CMP_MASKED_EQ, r->value, 0));
		break;
	case ERRNO:
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t)r->value), nr, 0);
		break;
	default:
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	}
	if (ret < 0)
		die(name, ret);
}

struct highest {
	uint32_t arch;
	int nr;
};

static void raise_highest(const struct rule *r, const char *name, void *arg)
{
	struct highest *h = arg;
	int nr = seccomp_syscall_resolve_name_arch(h->arch, name);

	(void)r;
	if (nr > h->nr)
		h->nr = nr;
}

/*
 * Goes in front of libseccomp's program: for each architecture, numbers beyond the highest that the
 * table knows (also those that are not allowed: they are known and refused) are ENOSYS.
 */
static size_t make_prefix(const struct target *t, struct sock_filter *out)
{
	struct sock_filter *f = out;

	for (int i = 0; i < ARCHES; i++) {
		struct highest h = { t->arch[i].scmp, 0 };

		for (size_t k = 0; k < sizeof(rules) / sizeof(rules[0]); k++)
			each_name(&rules[k], raise_highest, &h);
		*f++ = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, 4); /* seccomp_data.arch */
		*f++ = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, t->arch[i].audit, 0, 3);
		*f++ = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, 0); /* seccomp_data.nr */
		*f++ = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JGT | BPF_K, (uint32_t)h.nr, 0, 1);
		*f++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	}
	return (size_t)(f - out);
}

static void print_bpf(const struct target *t)
{
	static struct sock_filter prog[BPF_MAXINSNS];
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int fd = memfd_create("bpf", 0), r = ctx ? 0 : -ENOMEM;
	size_t n = make_prefix(t, prog);
	ssize_t got;

	for (int i = 0; r == 0 && i < ARCHES; i++)
		if (t->arch[i].scmp != seccomp_arch_native())
			r = seccomp_arch_add(ctx, t->arch[i].scmp);
	if (r == 0 && t->arch[0].scmp != seccomp_arch_native())
		r = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r < 0)
		die("libseccomp", r);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (holds(&rules[i], t))
			each_name(&rules[i], add_rule, ctx);
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		die("export", r);
	got = pread(fd, prog + n, sizeof(prog) - n * sizeof(prog[0]), 0);
	if (got <= 0 || (size_t)got % sizeof(prog[0]))
		die("read the program", EIO);
	n += (size_t)got / sizeof(prog[0]);
	printf("static const struct sock_filter filter[] = {\n");
	for (size_t i = 0; i < n; i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", prog[i].code, prog[i].jt, prog[i].jf,
			prog[i].k);
	printf("};\n");
	seccomp_release(ctx);
	close(fd);
}

static void print_name(const struct rule *r, const char *name, void *arg)
{
	bool *comma = arg;

	(void)r;
	printf("%s\\\"%s\\\"", *comma ? "," : "", name);
	*comma = true;
}

static void print_json_rule(const struct rule *r)
{
	bool comma = false;

	printf("\t\"{\\\"names\\\":[");
	each_name(r, print_name, &comma);
	printf("],\\\"action\\\":\\\"%s\\\"",
		r->kind == ERRNO ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW");
	if (r->kind == ERRNO)
		printf(",\\\"errnoRet\\\":%u", (unsigned)r->value);
	if (r->kind == ALLOW_ARG)
		printf(",\\\"args\\\":[{\\\"index\\\":%u,\\\"value\\\":%llu,\\\"op\\\":\\\"%s\\\"}"
		       "]",
			r->arg, (unsigned long long)r->value,
			r->op == SCMP_CMP_EQ ? "SCMP_CMP_EQ" : "SCMP_CMP_NE");
	if (r->kind == ALLOW_MASKED)
		printf(",\\\"args\\\":[{\\\"index\\\":%u,\\\"value\\\":%llu,\\\"valueTwo\\\":0,"
		       "\\\"op\\\":\\\"SCMP_CMP_MASKED_EQ\\\"}]",
			r->arg, (unsigned long long)r->value);
	printf("}\"\n");
}

static void print_json(const struct target *t)
{
	bool comma = false;

	printf("static const char json[] "
	       "=\n\t\"{\\\"defaultAction\\\":\\\"SCMP_ACT_ERRNO\\\",\\\"defaultErrnoRet\\\":%d,"
	       "\\\"architectures\\\":[",
		EPERM);
	for (int i = 0; i < ARCHES; i++)
		printf("%s\\\"%s\\\"", i ? "," : "", t->arch[i].json);
	printf("],\\\"syscalls\\\":[\"\n");
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!holds(&rules[i], t))
			continue;
		if (comma)
			printf("\t\",\"\n");
		print_json_rule(&rules[i]);
		comma = true;
	}
	printf("\t\"]}\";\n");
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(targets) / sizeof(targets[0]); i++) {
		if (strcmp(argv[1], targets[i].name) != 0)
			continue;
		printf("/* Made from seccomp-default.def by gen-seccomp. */\n");
		print_bpf(&targets[i]);
		print_json(&targets[i]);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	fprintf(stderr, "usage: gen-seccomp x86_64|aarch64\n");
	return 2;
}
