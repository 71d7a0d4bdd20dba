/* SPDX-License-Identifier: Apache-2.0 */
#include "io/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"

static int copy(char *dst, size_t size, const char *src, size_t len)
{
	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(dst, src, len);
	dst[len] = 0;
	return 0;
}

static int parse_vsock(const char *s, struct addr *a)
{
	const char *colon = strchr(s, ':');
	char cid[16];

	if (!colon || copy(cid, sizeof(cid), s, (size_t)(colon - s)) < 0)
		return -EINVAL;
	if (strcmp(cid, "any") == 0)
		a->cid = VMADDR_CID_ANY;
	else if (parse_uint(cid, 0, UINT32_MAX, &a->cid) < 0)
		return -EINVAL;
	return parse_uint(colon + 1, 0, UINT32_MAX - 1, &a->port);
}

static int parse_tcp(const char *s, struct addr *a)
{
	const char *colon = strrchr(s, ':');
	size_t len;

	if (!colon)
		return -EINVAL;
	len = (size_t)(colon - s);
	if (*s == '[') {
		if (len < 2 || s[len - 1] != ']')
			return -EINVAL;
		s++;
		len -= 2;
	}
	if (copy(a->host, sizeof(a->host), s, len) < 0)
		return -EINVAL;
	return parse_uint(colon + 1, 0, 65535, &a->port);
}

int addr_parse(const char *text, struct addr *ret_addr, struct err *err)
{
	struct addr a = { .kind = ADDR_MAX };
	int r = copy(a.text, sizeof(a.text), text, strlen(text));

	if (r == 0 && strncmp(text, "unix:", 5) == 0) {
		const char *path = text + 5;

		if (strncmp(path, "//", 2) == 0)
			path += 2;
		a.kind = ADDR_UNIX;
		r = copy(a.path, sizeof(a.path), path, strlen(path));
	} else if (r == 0 && strncmp(text, "vsock:", 6) == 0) {
		a.kind = ADDR_VSOCK;
		r = parse_vsock(text + 6, &a);
	} else if (r == 0 && strncmp(text, "tcp:", 4) == 0) {
		a.kind = ADDR_TCP;
		r = parse_tcp(text + 4, &a);
	}
	if (r < 0 || a.kind == ADDR_MAX)
		return err_set(err, EINVAL,
			"'%s' is no address: give unix:PATH, vsock:CID:PORT or tcp:IP:PORT", text);
	*ret_addr = a;
	return 0;
}

union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_un un;
	struct sockaddr_vm vm;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* sockaddr_un holds 108 bytes; longer paths go through an O_PATH fd of the folder, which *hold
 * keeps open. */
static int fill_unix(const char *path, struct sockaddr_un *un, int *hold)
{
	const char *slash = strrchr(path, '/');
	char dir[256];

	un->sun_family = AF_UNIX;
	if (strlen(path) < sizeof(un->sun_path)) {
		memcpy(un->sun_path, path, strlen(path) + 1);
		return 0;
	}
	if (!slash || copy(dir, sizeof(dir), path, (size_t)(slash - path)) < 0)
		return -ENAMETOOLONG;
	*hold = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*hold < 0)
		return -errno;
	if (snprintf(un->sun_path, sizeof(un->sun_path), "/proc/self/fd/%d/%s", *hold, slash + 1) >=
		(int)sizeof(un->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

static int fill(const struct addr *a, union sockaddr_any *sa, socklen_t *len, int *hold)
{
	memset(sa, 0, sizeof(*sa));
	switch (a->kind) {
	case ADDR_UNIX:
		*len = sizeof(sa->un);
		return fill_unix(a->path, &sa->un, hold);
	case ADDR_VSOCK:
		sa->vm = (struct sockaddr_vm){
			.svm_family = AF_VSOCK, .svm_cid = a->cid, .svm_port = a->port
		};
		*len = sizeof(sa->vm);
		return 0;
	case ADDR_TCP:
		if (inet_pton(AF_INET, a->host, &sa->in.sin_addr) == 1) {
			sa->in.sin_family = AF_INET;
			sa->in.sin_port = htons((uint16_t)a->port);
			*len = sizeof(sa->in);
			return 0;
		}
		if (inet_pton(AF_INET6, a->host, &sa->in6.sin6_addr) == 1) {
			sa->in6.sin6_family = AF_INET6;
			sa->in6.sin6_port = htons((uint16_t)a->port);
			*len = sizeof(sa->in6);
			return 0;
		}
		return -EINVAL;
	default:
		return -EINVAL;
	}
}

static bool unix_is_live(const union sockaddr_any *sa, socklen_t len)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && (connect(fd, &sa->sa, len) == 0 || errno == EAGAIN);
}

int addr_listen(const struct addr *addr, unsigned mode, struct err *err)
{
	auto_close int fd = -1, hold = -1;
	union sockaddr_any sa;
	socklen_t len;
	int r = fill(addr, &sa, &len, &hold), one = 1;

	if (r < 0)
		return err_errno(err, -r, "cannot listen on %s", addr->text);
	fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "cannot make a socket for %s", addr->text);
	if (addr->kind == ADDR_TCP)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (addr->kind == ADDR_UNIX && access(sa.un.sun_path, F_OK) == 0) {
		if (unix_is_live(&sa, len))
			return err_errno(err, EADDRINUSE, "cannot listen on %s", addr->text);
		unlink(sa.un.sun_path);
	}
	/* The mode must hold from birth: fchmod on the socket before bind sets what bind creates
	 * (unix(7)). */
	if (addr->kind == ADDR_UNIX && fchmod(fd, mode) < 0)
		return err_errno(err, errno, "cannot set the mode of %s", addr->text);
	if (bind(fd, &sa.sa, len) < 0 || listen(fd, 128) < 0)
		return err_errno(err, errno, "cannot listen on %s", addr->text);
	return take_fd(&fd);
}

static int finish_connect(int fd, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int r, e = 0;
	socklen_t len = sizeof(e);

	do
		r = poll(&pfd, 1, deadline_poll_ms(deadline));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (r == 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		return -errno;
	return -e;
}

void addr_send_at_once(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* *ret_pending: it is connecting still. */
static int begin_connect(const struct addr *addr, bool *ret_pending, struct err *err)
{
	auto_close int fd = -1, hold = -1;
	union sockaddr_any sa;
	socklen_t len;
	int r = fill(addr, &sa, &len, &hold);

	if (r < 0)
		return err_errno(err, -r, "cannot reach %s", addr->text);
	fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "cannot make a socket for %s", addr->text);
	*ret_pending = false;
	if (sa.sa.sa_family == AF_INET || sa.sa.sa_family == AF_INET6)
		addr_send_at_once(fd);
	if (connect(fd, &sa.sa, len) < 0) {
		/* EAGAIN is a full backlog of a unix socket: connect(2) gives no event for it, so
		 * it is an error here. */
		if (errno != EINPROGRESS)
			return err_errno(err, errno, "cannot connect to %s", addr->text);
		*ret_pending = true;
	}
	return take_fd(&fd);
}

int addr_connect(const struct addr *addr, struct err *err)
{
	bool pending;

	return begin_connect(addr, &pending, err);
}

int addr_dial(const struct addr *addr, int64_t deadline, struct err *err)
{
	bool pending;
	auto_close int fd = begin_connect(addr, &pending, err);
	int r;

	if (fd < 0)
		return fd;
	r = pending ? finish_connect(fd, deadline) : 0;
	if (r < 0)
		return err_errno(err, -r, "cannot connect to %s", addr->text);
	return take_fd(&fd);
}

int addr_accept(int listen_fd)
{
	union sockaddr_any peer = { .sa.sa_family = AF_UNSPEC };
	socklen_t len = sizeof(peer);
	int fd;

	do
		fd = accept4(listen_fd, &peer.sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return -errno;
	if (peer.sa.sa_family == AF_INET || peer.sa.sa_family == AF_INET6)
		addr_send_at_once(fd);
	return fd;
}
