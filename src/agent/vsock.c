/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "base/cleanup.h"

#define BACKLOG 16

struct vsock {
	int fd;
	struct loop_fd src;
	void (*accepted)(void *arg, int fd);
	void *arg;
};

static void on_event(struct loop_fd *src, uint32_t events)
{
	struct vsock *v = container_of(src, struct vsock, src);
	struct sockaddr_vm peer = { 0 };
	socklen_t len = sizeof(peer);
	auto_close int fd =
		accept4(v->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 || peer.svm_family != AF_VSOCK || peer.svm_cid != VMADDR_CID_HOST)
		return;
	v->accepted(v->arg, take_fd(&fd));
}

int vsock_new(struct loop *loop, unsigned port, void (*accepted)(void *arg, int fd), void *arg,
	struct vsock **ret_vsock, struct err *err)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY
	};
	struct vsock *v = calloc(1, sizeof(*v));
	int r = 0;

	if (!v)
		return err_set(err, ENOMEM, "out of memory");
	v->accepted = accepted;
	v->arg = arg;
	v->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (v->fd < 0 || bind(v->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(v->fd, BACKLOG) < 0)
		r = -errno;
	if (r == 0)
		r = loop_fd_add(loop, &v->src, v->fd, EPOLLIN, on_event);
	if (r < 0) {
		vsock_free(v);
		return err_errno(err, -r, "cannot listen on vsock port %u", port);
	}
	*ret_vsock = v;
	return 0;
}

struct vsock *vsock_free(struct vsock *v)
{
	if (v) {
		loop_fd_remove(&v->src);
		safe_close(v->fd);
		free(v);
	}
	return NULL;
}

bool vsock_key_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char differ = 0;

	if (a_len != VSOCK_KEY_SIZE || b_len != VSOCK_KEY_SIZE)
		return false;
	for (size_t i = 0; i < VSOCK_KEY_SIZE; i++)
		differ |= x[i] ^ y[i];
	return differ == 0;
}
