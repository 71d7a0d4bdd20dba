/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macro.h"

#include "oci/seccomp-default.c.inc"

const struct sock_fprog *oci_seccomp_default(void)
{
	static const struct sock_fprog prog = {
		.len = ARRAY_SIZE(filter),
		.filter = (struct sock_filter *)filter,
	};

	return &prog;
}

const char *oci_seccomp_default_json(size_t *ret_len)
{
	*ret_len = sizeof(json) - 1;
	return json;
}

int oci_seccomp_check(const void *data, size_t len, struct sock_fprog *ret_prog, struct err *err)
{
	if (!data || !len || len % sizeof(struct sock_filter) ||
		len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return err_set(err, EINVAL,
			"seccomp filter: %zu bytes are not 1 to %d instructions", len,
			BPF_MAXINSNS);
	ret_prog->len = (unsigned short)(len / sizeof(struct sock_filter));
	ret_prog->filter = (struct sock_filter *)data;
	return 0;
}

int oci_seccomp_load(const struct sock_fprog *prog)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, prog) < 0 ? -errno : 0;
}
