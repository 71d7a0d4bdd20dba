/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "image/ext4.h"

static int channel_fd(io_channel channel)
{
	return (int)(intptr_t)channel->private_data;
}

static errcode_t fdio_open(const char *name, int flags, io_channel *ret_channel)
{
	auto_free struct struct_io_channel *channel = calloc(1, sizeof(*channel));
	unsigned fd;

	if (strncmp(name, "fd:", 3) != 0 || parse_uint(name + 3, 0, INT32_MAX, &fd) < 0)
		return EXT2_ET_BAD_DEVICE_NAME;
	if (!channel || !(channel->name = strdup(name)))
		return EXT2_ET_NO_MEMORY;
	channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	channel->manager = fdio_manager();
	channel->block_size = 1024;
	channel->refcount = 1;
	channel->private_data = (void *)(intptr_t)fd;
	*ret_channel = take_ptr(channel);
	return 0;
}

static errcode_t fdio_close(io_channel channel)
{
	if (--channel->refcount > 0)
		return 0;
	free(channel->name);
	free(channel);
	return 0;
}

static errcode_t fdio_set_blksize(io_channel channel, int size)
{
	channel->block_size = size;
	return 0;
}

/* A negative count is bytes. */
static size_t count_bytes(io_channel channel, int count)
{
	return count < 0 ? (size_t) - (int64_t)count : (size_t)count * (size_t)channel->block_size;
}

static errcode_t fdio_read64(io_channel channel, unsigned long long block, int count, void *data)
{
	size_t left = count_bytes(channel, count);
	off_t at = (off_t)(block * (unsigned)channel->block_size);
	char *p = data;

	while (left) {
		ssize_t n = pread(channel_fd(channel), p, left, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0) { /* behind the end of a file that grows: nothing written yet */
			memset(p, 0, left);
			return 0;
		}
		p += n;
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

static errcode_t write_at(io_channel channel, off_t at, const char *p, size_t left)
{
	while (left) {
		ssize_t n = pwrite(channel_fd(channel), p, left, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		p += n;
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

static errcode_t fdio_write64(
	io_channel channel, unsigned long long block, int count, const void *data)
{
	return write_at(channel, (off_t)(block * (unsigned)channel->block_size), data,
		count_bytes(channel, count));
}

static errcode_t fdio_read(io_channel channel, unsigned long block, int count, void *data)
{
	return fdio_read64(channel, block, count, data);
}

static errcode_t fdio_write(io_channel channel, unsigned long block, int count, const void *data)
{
	return fdio_write64(channel, block, count, data);
}

static errcode_t fdio_write_byte(
	io_channel channel, unsigned long offset, int count, const void *data)
{
	return write_at(channel, (off_t)offset, data, (size_t)count);
}

/* Holes read as zero. Where none can be made, libext2fs writes zeros. */
static errcode_t fdio_zeroout(
	io_channel channel, unsigned long long block, unsigned long long count)
{
	off_t size = (off_t)channel->block_size;

	if (fallocate(channel_fd(channel), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)block * size, (off_t)count * size) < 0)
		return EXT2_ET_UNIMPLEMENTED;
	return 0;
}

/* Whoever owns the descriptor syncs it. */
static errcode_t fdio_flush(io_channel channel)
{
	return 0;
}

io_manager fdio_manager(void)
{
	static struct struct_io_manager manager = {
		.magic = EXT2_ET_MAGIC_IO_MANAGER,
		.name = "descriptor",
		.open = fdio_open,
		.close = fdio_close,
		.set_blksize = fdio_set_blksize,
		.read_blk = fdio_read,
		.write_blk = fdio_write,
		.flush = fdio_flush,
		.write_byte = fdio_write_byte,
		.read_blk64 = fdio_read64,
		.write_blk64 = fdio_write64,
		.zeroout = fdio_zeroout,
	};

	return &manager;
}

void fdio_name(int fd, char out[static 16])
{
	snprintf(out, 16, "fd:%d", fd);
}
