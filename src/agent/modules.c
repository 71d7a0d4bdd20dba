/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"

#define LIST_MAX (64 * KIB)

char *modules_next(char **cursor)
{
	while (*cursor && **cursor) {
		char *line = *cursor, *end = strchr(line, '\n');

		*cursor = end ? end + 1 : NULL;
		if (end)
			*end = '\0';
		/* No folders: a line names a file of the list's own folder. */
		if (*line && *line != '#' && *line != '.' && !strchr(line, '/'))
			return line;
	}
	return NULL;
}

static int load_one(int dir, const char *name)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int modules_load(const char *dir, const char *list, struct err *err)
{
	auto_free char *text = NULL;
	auto_close int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *cursor, *name;
	size_t len;
	int r, first = 0;

	r = dirfd < 0 ? -errno : fs_read_file(dirfd, list, LIST_MAX, &text, &len);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(err, -r, "cannot read the list of modules %s/%s", dir, list);
	cursor = text;
	while ((name = modules_next(&cursor))) {
		r = load_one(dirfd, name);
		if (r < 0 && first == 0)
			first = err_errno(err, -r, "cannot load the kernel module %s", name);
	}
	return first;
}

bool modules_loaded(const char *file)
{
	char path[300] = "/sys/module/";
	size_t at = strlen(path), n = strcspn(file, ".");

	if (!n || at + n >= sizeof(path) || strncmp(file + n, ".ko", 3) != 0)
		return false;
	/* The kernel calls crc32c-intel.ko crc32c_intel. */
	for (size_t i = 0; i < n; i++)
		path[at + i] = file[i] == '-' ? '_' : file[i];
	path[at + n] = '\0';
	return access(path, F_OK) == 0;
}
