/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: the daemon accepts one connection on a socket that has no name any more when it
 * starts, and finds the source alone in its root. It is the C one that comes with QEMU: its other
 * confinement needs namespaces of its own, which ours replaces, and /proc/self, which is its own
 * folder of the host's /proc and nothing else of it.
 */
#include "driver/virtiofsd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strv.h"
#include "driver/confine.h"

#define FD_LISTEN 3
#define SHARE	  "/share"

int virtiofsd_find(char **ret_path, struct err *err)
{
	static const char *const places[] = { "/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		*ret_path = access(places[i], X_OK) == 0 ? realpath(places[i], NULL) : NULL;
		if (*ret_path)
			return 0;
	}
	return err_set(err, ENOENT,
		"virtiofsd is not installed, and volumes need it: install it (Debian 12, Ubuntu "
		"22.04: sudo apt-get install qemu-system-common; later ones and Fedora: the "
		"package virtiofsd)");
}

/* A listening socket, and a connection to it. Its name is gone again before anybody else can know
 * it. */
static int make_sockets(const char *run_dir, int *ret_listen, int *ret_socket)
{
	auto_close int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_close int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_close int near = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r = 0;

	if (dir < 0 || listener < 0 || near < 0)
		return -errno;
	/* A path of any length fits this way. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/virtiofsd", dir);
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (listen(listener, 1) < 0 || connect(near, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	unlinkat(dir, "virtiofsd", 0);
	if (r < 0)
		return r;
	*ret_listen = take_fd(&listener);
	*ret_socket = take_fd(&near);
	return 0;
}

static int lay_out(
	struct confine_spec *spec, const struct virtiofsd_config *c, bool file, bool folder)
{
	unsigned flags = c->read_only ? 0 : CONFINE_WRITE | CONFINE_MAKE;
	int r = confine_bind_system(spec);

	if (r == 0)
		r = confine_bind(spec, "/proc/self", "/proc/self", 0);
	/* For how many files it may open. */
	if (r == 0)
		r = confine_bind(spec, "/proc/sys/fs/nr_open", "/proc/sys/fs/nr_open", 0);
	if (r == 0)
		r = confine_bind(spec, "/proc/sys/fs/file-max", "/proc/sys/fs/file-max", 0);
	if (r == 0 && folder)
		r = confine_bind(spec, c->source, SHARE, flags);
	if (r == 0 && file)
		r = confine_bind(spec, c->source, SHARE "/" VIRTIOFSD_FILE, flags);
	return r;
}

int virtiofsd_start(const struct virtiofsd_config *c, pid_t *ret_pid, int *ret_pidfd,
	int *ret_socket, bool *ret_file, struct err *err)
{
	auto_free char *program = NULL;
	auto_strv struct strv argv = STRV_INIT;
	auto_close int listener = -1, near = -1;
	struct confine_spec spec = {
		.stderr_fd = c->log_fd, .ramguard_sock = -1, .serves_files = true
	};
	struct stat st;
	int r = virtiofsd_find(&program, err);

	if (r < 0)
		return r;
	if (stat(c->source, &st) < 0)
		return err_errno(err, errno, "cannot share '%s'", c->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(err, ENOTSUP,
			"cannot share '%s': it is neither a folder nor a regular file", c->source);
	/*
	 * Nothing is believed for longer than a call takes, so changes on the host are seen at
	 * once. Devices are not to be made: whoever is root in the guest need not be here.
	 */
	r = strv_addv(&argv,
		(const char *const[]){ "virtiofsd", "--fd=3", "--rlimit-nofile=0", "-f", "-o",
			"source=" SHARE, "-o", "sandbox=chroot", "-o", "cache=auto", "-o",
			"timeout=0", "-o", "modcaps=-mknod", "-o", "log_level=warn", NULL });
	if (r == 0)
		r = make_sockets(c->run_dir, &listener, &near);
	if (r == 0)
		r = lay_out(&spec, c, S_ISREG(st.st_mode), S_ISDIR(st.st_mode));
	if (r < 0)
		return err_errno(err, -r, "cannot share '%s'", c->source);
	spec.program = program;
	spec.argv = strv_items(&argv);
	spec.fds[spec.n_fds++] = (struct confine_fd){ listener, FD_LISTEN };
	r = confine_spawn(&spec, ret_pid, ret_pidfd, err);
	if (r < 0)
		return err_wrap(err, "cannot share '%s'", c->source);
	*ret_socket = take_fd(&near);
	*ret_file = S_ISREG(st.st_mode);
	return 0;
}
