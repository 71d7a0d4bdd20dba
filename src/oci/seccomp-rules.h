/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of seccomp-default.def, and how they become a BPF program by libseccomp. Used while
 * micropod is built (gen-seccomp.c) and for containers with other capabilities (profile.c); needs
 * libc and libseccomp only.
 */
#pragma once

#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum seccomp_kind {
	SECCOMP_ALLOW,
	SECCOMP_ALLOW_CAP,
	SECCOMP_ALLOW_ARG,
	SECCOMP_ALLOW_MASKED,
	SECCOMP_ERRNO,
	SECCOMP_ALLOW_ARCH,
};

struct seccomp_rule {
	enum seccomp_kind kind;
	const char *names, *arch; /* names: separated by spaces */
	int cap;		  /* -1: any */
	int op;
	unsigned arg;
	uint64_t value;
};

extern const struct seccomp_rule seccomp_rules[];
extern const size_t seccomp_rules_n;

#define SECCOMP_ARCHES 2

struct seccomp_target {
	const char *name; /* as meson and uname(2) have it */
	struct {
		uint32_t scmp, audit;
		const char *json;
	} arch[SECCOMP_ARCHES]; /* the native one first, then its 32-bit form */
};

/* NULL: none of that name; name NULL: this machine's. */
const struct seccomp_target *seccomp_target_find(const char *name);

/* Whether a rule is in force for a container with these capabilities (oci/caps.h). */
bool seccomp_rule_holds(
	const struct seccomp_rule *rule, const struct seccomp_target *target, uint64_t caps);

/* Calls fn for each name of a rule until one returns negative, which is returned. */
int seccomp_rule_each(const struct seccomp_rule *rule,
	int (*fn)(const struct seccomp_rule *rule, const char *name, void *arg), void *arg);

/* A filter without rules for the target's architectures; seccomp_release(). NULL: libseccomp
 * cannot. */
scmp_filter_ctx seccomp_target_filter(const struct seccomp_target *target, uint32_t action);

/*
 * The program of a filter: in front of libseccomp's, numbers beyond highest[i] of architecture i
 * are ENOSYS, so that a newer C library falls back to older calls; highest NULL: they are not.
 * out: room for BPF_MAXINSNS. 0 or -errno.
 */
int seccomp_export(scmp_filter_ctx filter, const struct seccomp_target *target, const int *highest,
	struct sock_filter *out, size_t *ret_n);

/* The default profile for these capabilities. 0 or -errno. */
int seccomp_rules_compile(
	const struct seccomp_target *target, uint64_t caps, struct sock_filter *out, size_t *ret_n);
