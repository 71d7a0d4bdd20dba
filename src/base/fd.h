/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: whole reads and writes on blocking ones, flags, passing over unix sockets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads until n bytes or end of file. Blocks. Returns the count read, or -errno. */
ssize_t fd_read_full(int fd, void *buf, size_t n);

/* Writes all n bytes. Blocks; a full non-blocking fd is waited for with poll(2). Returns 0 or
 * -errno. */
int fd_write_full(int fd, const void *buf, size_t n);

/* Reads the rest of fd, at most max bytes (-EFBIG beyond), into *ret_data (malloc'd, NUL behind
 * it). 0 or -errno. */
int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_len);

int fd_set_nonblock(int fd, bool on); /* 0 or -errno */
int fd_set_cloexec(int fd, bool on);  /* 0 or -errno */

/* A connected pair of stream sockets, CLOEXEC. 0 or -errno. */
int fd_socketpair(int ret_fds[2]);

/* Copies all data extents of src to dst (holes stay holes) and sets dst's size. Both regular.
 * Blocks. 0 or -errno. */
int fd_copy_sparse(int src, int dst);

/* Sends a duplicate of fd with one byte over a connected unix socket (unix(7), SCM_RIGHTS). Blocks
 * while the socket is full. 0 or -errno. */
int fd_send(int sock, int fd);

/* Takes what fd_send() sent, if it is there: *ret_fd is CLOEXEC and the caller's. Does not block.
 * 0, -EAGAIN, -EPIPE (end of file), -EPROTO (a byte without a descriptor) or -errno. */
int fd_receive(int sock, int *ret_fd);
