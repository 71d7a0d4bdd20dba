/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs while micropod is built: seccomp-default.def to C, as a BPF program and as JSON, for the
 * default capabilities and one architecture.
 *
 * usage: gen-seccomp x86_64|aarch64 >seccomp-default.c
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/caps.h"
#include "oci/seccomp-rules.h"

static void print_bpf(const struct seccomp_target *t)
{
	static struct sock_filter prog[BPF_MAXINSNS];
	size_t n = 0;
	int r = seccomp_rules_compile(t, oci_caps_default, prog, &n);

	if (r < 0) {
		fprintf(stderr, "gen-seccomp: libseccomp: %s\n", strerror(-r));
		exit(1);
	}
	printf("static const struct sock_filter filter[] = {\n");
	for (size_t i = 0; i < n; i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", prog[i].code, prog[i].jt, prog[i].jf,
			prog[i].k);
	printf("};\n");
}

static int print_name(const struct seccomp_rule *r, const char *name, void *arg)
{
	bool *comma = arg;

	(void)r;
	printf("%s\\\"%s\\\"", *comma ? "," : "", name);
	*comma = true;
	return 0;
}

static void print_json_rule(const struct seccomp_rule *r)
{
	bool comma = false;

	printf("\t\"{\\\"names\\\":[");
	seccomp_rule_each(r, print_name, &comma);
	printf("],\\\"action\\\":\\\"%s\\\"",
		r->kind == SECCOMP_ERRNO ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW");
	if (r->kind == SECCOMP_ERRNO)
		printf(",\\\"errnoRet\\\":%u", (unsigned)r->value);
	if (r->kind == SECCOMP_ALLOW_ARG)
		printf(",\\\"args\\\":[{\\\"index\\\":%u,\\\"value\\\":%llu,\\\"op\\\":\\\"%s\\\"}"
		       "]",
			r->arg, (unsigned long long)r->value,
			r->op == SCMP_CMP_EQ ? "SCMP_CMP_EQ" : "SCMP_CMP_NE");
	if (r->kind == SECCOMP_ALLOW_MASKED)
		printf(",\\\"args\\\":[{\\\"index\\\":%u,\\\"value\\\":%llu,\\\"valueTwo\\\":0,"
		       "\\\"op\\\":\\\"SCMP_CMP_MASKED_EQ\\\"}]",
			r->arg, (unsigned long long)r->value);
	printf("}\"\n");
}

static void print_json(const struct seccomp_target *t)
{
	bool comma = false;

	printf("static const char json[] "
	       "=\n\t\"{\\\"defaultAction\\\":\\\"SCMP_ACT_ERRNO\\\",\\\"defaultErrnoRet\\\":%d,"
	       "\\\"architectures\\\":[",
		EPERM);
	for (int i = 0; i < SECCOMP_ARCHES; i++)
		printf("%s\\\"%s\\\"", i ? "," : "", t->arch[i].json);
	printf("],\\\"syscalls\\\":[\"\n");
	for (size_t i = 0; i < seccomp_rules_n; i++) {
		if (!seccomp_rule_holds(&seccomp_rules[i], t, oci_caps_default))
			continue;
		if (comma)
			printf("\t\",\"\n");
		print_json_rule(&seccomp_rules[i]);
		comma = true;
	}
	printf("\t\"]}\";\n");
}

int main(int argc, char **argv)
{
	const struct seccomp_target *t = argc == 2 ? seccomp_target_find(argv[1]) : NULL;

	if (!t) {
		fprintf(stderr, "usage: gen-seccomp x86_64|aarch64\n");
		return 2;
	}
	printf("/* Made from seccomp-default.def by gen-seccomp. */\n");
	print_bpf(t);
	print_json(t);
	return fflush(stdout) == 0 ? 0 : 1;
}
