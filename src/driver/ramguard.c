/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: a filter stops the VMM at each openat(2) whose flags are O_RDWR and nothing else,
 * which is how QEMU opens a memory file and nothing more (disks have O_CLOEXEC, /dev/kvm too). We
 * read the path; for the memory file we put a descriptor of our own in place, opened for reading
 * only, under a number chosen beforehand; a private mapping needs no more. Everything else goes on
 * as if there were no filter: what may be opened is the confinement's business (confine.h), and so
 * it does not matter that a path can change after it was read. The same filter answers
 * fallocate(FALLOC_FL_PUNCH_HOLE) on that number with success: the kernel would refuse it on a
 * read-only descriptor, and QEMU would then not give the memory back by madvise(2) either. Disks
 * are punched as ever.
 */
#include "driver/ramguard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#ifndef SECCOMP_ADDFD_FLAG_SEND /* Linux 5.14 */
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

#define RAM_FD	 200 /* the memory file's number in the VMM: above all that it opens itself */
#define PATH_LEN 64

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

struct ramguard {
	struct loop_fd src;
	int listener, ram_fd;
	char path[PATH_LEN];
};

/* Little endian: the low half of an argument comes first. */
#define LOAD(field)		  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS_EQUAL(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, skip)
#define ANSWER(what)		  BPF_STMT(BPF_RET | BPF_K, what)

static struct sock_filter filter[] = {
	LOAD(arch), UNLESS_EQUAL(ARCH, 8), LOAD(nr), UNLESS_EQUAL(SYS_openat, 3), LOAD(args[2]),
	UNLESS_EQUAL(O_RDWR, 4), ANSWER(SECCOMP_RET_USER_NOTIF), UNLESS_EQUAL(SYS_fallocate, 2),
	LOAD(args[0]), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RAM_FD, 1, 0), ANSWER(SECCOMP_RET_ALLOW),
	ANSWER(SECCOMP_RET_ERRNO | 0), /* 0: the call succeeds and does nothing */
};

/* The first half alone. */
static struct sock_filter filter_own[] = {
	LOAD(arch),
	UNLESS_EQUAL(ARCH, 5),
	LOAD(nr),
	UNLESS_EQUAL(SYS_openat, 3),
	LOAD(args[2]),
	UNLESS_EQUAL(O_RDWR, 1),
	ANSWER(SECCOMP_RET_USER_NOTIF),
	ANSWER(SECCOMP_RET_ALLOW),
};

int ramguard_install(int sock, bool own, struct err *err)
{
	struct sock_fprog prog = { .len = own ? ARRAY_SIZE(filter_own) : ARRAY_SIZE(filter),
		.filter = own ? filter_own : filter };
	auto_close int listener = (int)syscall(
		SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	int r;

	if (listener < 0)
		return err_errno(err, errno, "cannot guard the guest's memory file (seccomp)");
	r = fd_send(sock, listener);
	return r < 0 ? err_errno(err, -r, "cannot hand over the guard of the memory file") : 0;
}

/* The path that the stopped call names. 0 or -errno. */
static int read_path(const struct seccomp_notif *req, char out[static PATH_LEN])
{
	struct iovec here = { out, PATH_LEN - 1 };
	struct iovec there = { (void *)(uintptr_t)req->data.args[1], PATH_LEN - 1 };
	ssize_t n = process_vm_readv((pid_t)req->pid, &here, 1, &there, 1, 0);

	if (n < 0)
		return -errno;
	out[n] = 0;
	return 0;
}

static void put_in_place(struct ramguard *g, const struct seccomp_notif *req)
{
	struct seccomp_notif_addfd add = { .id = req->id,
		.flags = SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)g->ram_fd,
		.newfd = RAM_FD };
	struct seccomp_notif_resp no = { .id = req->id, .error = -EACCES };

	if (ioctl(g->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0)
		ioctl(g->listener, SECCOMP_IOCTL_NOTIF_SEND, &no);
}

static void on_listener(struct loop_fd *src, uint32_t events)
{
	struct ramguard *g = container_of(src, struct ramguard, src);
	struct seccomp_notif req = { 0 };
	struct seccomp_notif_resp go_on = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
	char path[PATH_LEN];

	if (!(events & EPOLLIN)) {
		loop_fd_remove(src); /* the VMM has ended */
		return;
	}
	/* The caller may have been killed meanwhile: then there is nothing to answer. */
	if (ioctl(g->listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
		return;
	if (read_path(&req, path) == 0 && strcmp(path, g->path) == 0) {
		put_in_place(g, &req);
		return;
	}
	go_on.id = req.id;
	ioctl(g->listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
}

int ramguard_watch(struct loop *loop, int sock, int ram_fd, const char *guest_path,
	struct ramguard **ret_guard)
{
	struct ramguard *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->listener = -1;
	snprintf(g->path, sizeof(g->path), "%s", guest_path);
	g->ram_fd = fcntl(ram_fd, F_DUPFD_CLOEXEC, 3);
	r = g->ram_fd < 0 ? -errno : fd_receive(sock, &g->listener);
	if (r == 0)
		r = loop_fd_add(loop, &g->src, g->listener, EPOLLIN, on_listener);
	if (r < 0) {
		ramguard_free(g);
		return r;
	}
	*ret_guard = g;
	return 0;
}

struct ramguard *ramguard_free(struct ramguard *g)
{
	if (g) {
		loop_fd_remove(&g->src);
		safe_close(g->listener);
		safe_close(g->ram_fd);
		free(g);
	}
	return NULL;
}
