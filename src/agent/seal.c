/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#define BY_PATH "/proc/self/fd/"

extern char **environ;

int agent_self_fd(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int copy(int src, int dst)
{
	struct stat st;

	if (fstat(src, &st) < 0)
		return -errno;
	for (off_t done = 0; done < st.st_size;) {
		ssize_t n = sendfile(dst, src, &done, (size_t)(st.st_size - done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
	}
	return fcntl(dst, F_ADD_SEALS, SEALS) < 0 ? -errno : 0;
}

/* If we were started by a path that is a descriptor. */
static void keep_path_from_children(void)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	int fd;

	if (path && sscanf(path, BY_PATH "%d", &fd) == 1)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int agent_seal_self(char *const *argv, struct err *err)
{
	auto_close int self = agent_self_fd();
	auto_close int sealed = -1;
	char path[32];
	int r, seals;

	if (self < 0)
		return err_errno(err, -self, "cannot open the agent's own program");
	seals = fcntl(self, F_GET_SEALS);
	if (seals >= 0 && (seals & SEALS) == SEALS) {
		keep_path_from_children();
		return 0;
	}
	sealed = memfd_create("micropod-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	r = sealed < 0 ? -errno : copy(self, sealed);
	if (r < 0)
		return err_errno(err, -r, "cannot make a sealed copy of the agent");
	syscall(SYS_execveat, sealed, "", argv, environ, AT_EMPTY_PATH);
	/* Old filters of system calls do not know it. Under an emulator (ENOENT, from binfmt_misc)
	 * it has to have a path that can be opened again. */
	if ((errno == ENOSYS || errno == ENOENT) && fcntl(sealed, F_SETFD, 0) == 0) {
		snprintf(path, sizeof(path), BY_PATH "%d", sealed);
		execv(path, argv);
	}
	return err_errno(err, errno, "cannot execute the sealed copy of the agent");
}
