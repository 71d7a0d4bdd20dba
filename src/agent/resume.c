/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/id.h"

int resume_entropy(const void *data, size_t len, struct err *err)
{
	auto_free struct rand_pool_info *pool = malloc(sizeof(*pool) + len);
	auto_close int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	if (!pool || fd < 0)
		return err_errno(err, pool ? errno : ENOMEM, "cannot feed the random numbers");
	pool->entropy_count = (int)len * 8;
	pool->buf_size = (int)len;
	memcpy(pool->buf, data, len);
	/* What was fed alone would be used when the generators' time comes, up to a minute later.
	 */
	if (ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return err_errno(err, errno, "cannot feed the random numbers");
	return 0;
}

int resume_machine_id(const void *id, struct err *err)
{
	/* In place, not by a new file that is renamed: nobody reads it before it is written. */
	auto_close int fd = open(MACHINE_ID, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
	char line[2 * MACHINE_ID_SIZE + 2];
	int r;

	hex_encode(id, MACHINE_ID_SIZE, line);
	line[2 * MACHINE_ID_SIZE] = '\n';
	r = fd < 0 ? -errno : fd_write_full(fd, line, sizeof(line) - 1);
	return r < 0 ? err_errno(err, -r, "cannot write " MACHINE_ID) : 0;
}
