/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into the static crun in place of the C library's getpwuid_r. glibc's would load the NSS
 * modules that the container's own /etc/nsswitch.conf names, and so run an image's code inside the
 * runtime. This one reads /etc/passwd and nothing else.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>

int getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t size, struct passwd **ret)
{
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry = NULL;
	int err;

	*ret = NULL;
	if (!file)
		return errno == ENOENT ? 0 : errno;
	do {
		err = fgetpwent_r(file, pw, buf, size, &entry);
	} while (err == 0 && entry && entry->pw_uid != uid);
	fclose(file);
	if (err == 0)
		*ret = entry;
	return err == ENOENT ? 0 : err;
}
