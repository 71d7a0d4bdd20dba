/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sysctls.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/macro.h"

bool sysctl_is_ipc(const char *key)
{
	static const char *const keys[] = { "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",
		"kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return strncmp(key, "fs.mqueue.", 10) == 0;
}

/* Dots separate, and a slash is a dot in a name, unless a slash comes first (sysctl.d(5)). */
static int path_of(const char *key, char *path, size_t size)
{
	int n = snprintf(path, size, "/proc/sys/%s", key);
	bool slashes = key[strcspn(key, "./")] == '/';

	if (n >= (int)size || !isalnum((unsigned char)*key))
		return -EINVAL;
	for (char *p = path + strlen("/proc/sys/"); *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("._-/", *p))
			return -EINVAL;
		if (!slashes)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	}
	return strstr(path, "/../") || strstr(path, "//") ? -EINVAL : 0;
}

int sysctl_set(const char *key, const char *value, struct err *err)
{
	auto_close int fd = -1;
	char path[256];
	size_t len = strlen(value);

	if (path_of(key, path, sizeof(path)) < 0)
		return err_set(err, EINVAL, "sysctls: '%.100s' is no name of a setting", key);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "sysctls: cannot set '%.100s'", key);
	if (write(fd, value, len) != (ssize_t)len)
		return err_errno(err, errno ? errno : EIO,
			"sysctls: cannot set '%.100s' to '%.100s'", key, value);
	return 0;
}
