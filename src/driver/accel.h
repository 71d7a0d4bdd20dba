/* SPDX-License-Identifier: Apache-2.0 */
/* Which accelerator works here. A device that opens is no proof: a verdict is kept for this host
 * and boot. */
#pragma once

#include "driver/driver.h"

struct accel_verdict {
	enum vm_accel accel;
	char notice[LIMIT_ERR_MESSAGE]; /* why not KVM and what to do, one line; empty with KVM or
					   when forced */
};

/* What was found out about KVM, apart from the judgement on it. */
struct accel_facts {
	int open_error;	    /* errno of open(/dev/kvm), 0: it opened */
	bool cpu_flag;	    /* vmx or svm in /proc/cpuinfo */
	int vm_error;	    /* errno of KVM_CREATE_VM, 0: a VM could be made */
	bool failed_before; /* a guest did not boot under it since this host's last boot */
	char why_before[128];
	char user[64]; /* who would need the group */
};

/* The verdict for AUTO from the facts alone. */
void accel_judge(const struct accel_facts *facts, struct accel_verdict *ret_verdict);

/*
 * Decides for AUTO: KVM if /dev/kvm opens, the CPU has vmx or svm, a VM can be made, and no earlier
 * boot on this host and boot id failed under it (state_dir/accel.json); else TCG with the reason.
 * Forced ones are passed on unchecked. Blocks shortly. 0 or -errno.
 */
int accel_choose(const char *state_dir, enum vm_accel wanted, struct accel_verdict *ret_verdict,
	struct err *err);

/* A guest did not boot under KVM before its deadline, or did: remembered. */
int accel_record(const char *state_dir, bool kvm_works, const char *why, struct err *err);

/* "auto", "tcg", "kvm". 0 or -EINVAL. */
int accel_parse(const char *word, enum vm_accel *ret_accel);
const char *accel_name(enum vm_accel accel);

/* The host's TSC rate in kHz, measured against CLOCK_MONOTONIC_RAW (10 ms) or read from the kernel;
 * 0 if it cannot be told. */
uint64_t accel_tsc_khz(void);

/* The same, measured once a boot and kept in state_dir/cache/tsc, so that all VMs of a boot are
 * told the same rate. Blocks for milliseconds the first time. 0 or -errno with err. */
int accel_tsc_of_boot(const char *state_dir, uint64_t *ret_khz, struct err *err);
