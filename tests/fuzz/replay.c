/* SPDX-License-Identifier: Apache-2.0 */
/* Hands every file of the folders named on the command line to the fuzz target, without libFuzzer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "fuzz.h"

static int replay_file(int dirfd, const char *name)
{
	auto_free char *data = NULL;
	size_t size = 0;
	int r = fs_read_file(dirfd, name, 16 << 20, &data, &size);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", name, strerror(-r));
		return r;
	}
	return LLVMFuzzerTestOneInput((const uint8_t *)data, size);
}

static int replay_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0, r = 0;

	if (!dir) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -errno;
	}
	while (r == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		r = replay_file(dirfd(dir), entry->d_name);
		count++;
	}
	closedir(dir);
	printf("%s: %d inputs\n", path, count);
	return r ? r : count ? 0 : -ENOENT;
}

int main(int argc, char **argv)
{
	int failed = argc < 2;

	for (int i = 1; i < argc; i++)
		failed |= replay_folder(argv[i]) != 0;
	return failed;
}
