/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/userfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"

int userfiles_open(int root, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	auto_close int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? take_fd(&fd) : -EINVAL;
}

/* A file that is not there is NULL, 0. */
static int read_file(int root, const char *path, char **ret_data, size_t *ret_len, struct err *err)
{
	auto_close int fd = userfiles_open(root, path, O_RDONLY);
	int r = fd < 0 ? fd : fd_read_all(fd, LIMIT_PASSWD_FILE, ret_data, ret_len);

	if (r >= 0 || r == -ENOENT || r == -ENOTDIR)
		return 0;
	return err_errno(err, -r, "cannot read %s of the container", path);
}

static int lookup(int root, struct oci_word user, const struct oci_word *groups, size_t n_groups,
	struct oci_user *ret_user, struct err *err)
{
	auto_free char *passwd = NULL, *group = NULL;
	struct oci_user_files files = { 0 };
	int r = read_file(root, "etc/passwd", &passwd, &files.passwd_len, err);

	if (r == 0)
		r = read_file(root, "etc/group", &group, &files.group_len, err);
	if (r < 0)
		return r;
	files.passwd = passwd;
	files.group = group;
	return oci_user_lookup(user, groups, n_groups, &files, ret_user, err);
}

int userfiles_lookup(int root, const struct strv *words, struct oci_user *ret_user, struct err *err)
{
	struct oci_word w[OCI_GROUPS_MAX + 1] = { { "", 0 } };

	if (words->n > ARRAY_SIZE(w))
		return err_set(err, E2BIG, "more than %d additional groups", OCI_GROUPS_MAX);
	for (size_t i = 0; i < words->n; i++)
		w[i] = (struct oci_word){ words->v[i], strlen(words->v[i]) };
	return lookup(root, w[0], w + 1, words->n > 1 ? words->n - 1 : 0, ret_user, err);
}

int userfiles_home(int root, struct oci_user *user, struct err *err)
{
	char word[24];
	struct oci_user found;
	int r;

	snprintf(word, sizeof(word), "%u", user->uid);
	r = lookup(root, (struct oci_word){ word, strlen(word) }, NULL, 0, &found, err);
	if (r == 0)
		memcpy(user->home, found.home, sizeof(user->home));
	return r;
}
