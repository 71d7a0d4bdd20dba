/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/ramcopy.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

int ram_copy(int source, uint64_t size, int *ret_fd, struct err *err)
{
	auto_close int fd = memfd_create("guest-memory", MFD_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return err_errno(err, errno, "cannot make a memory file");
	if (fstat(source, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != size)
		return err_set(err, EBADMSG, "the saved memory is not as large as the VM's");
	r = fd_copy_sparse(source, fd);
	if (r < 0)
		return err_errno(err, -r, "cannot copy the saved memory");
	*ret_fd = take_fd(&fd);
	return 0;
}
