/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/ramcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

int ram_new(uint64_t size, int *ret_fd, struct err *err)
{
	auto_close int fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* Others map it, too, whom a file that shrinks would kill. */
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return err_errno(err, errno, "cannot make a memory file");
	*ret_fd = take_fd(&fd);
	return 0;
}

int ram_copy(int source, int fd, struct err *err)
{
	struct stat from, to;
	int r;

	if (fstat(source, &from) < 0 || fstat(fd, &to) < 0 || from.st_size != to.st_size)
		return err_set(err, EBADMSG, "the saved memory is not as large as the VM's");
	r = fd_copy_sparse(source, fd);
	return r < 0 ? err_errno(err, -r, "cannot copy the saved memory") : 0;
}
