/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in QEMU's place and tries to get out. What to try comes in the kernel command line of its
 * arguments: words "read=PATH", "tcp=PORT", "abstract=NAME", "write=PATH". Its last line on stderr
 * names what was allowed; exit 3.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/parse.h"

static char allowed[2048];

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
	size_t len = strlen(allowed);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(allowed + len, sizeof(allowed) - len, fmt, ap);
	va_end(ap);
}

static void try_open(const char *path, int flags, const char *what)
{
	int fd = open(path, flags, 0600);

	if (fd >= 0) {
		note(" %s:%s", what, path);
		close(fd);
	}
}

static void try_tcp(const char *text)
{
	unsigned port = 0;
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET, SOCK_STREAM, 0), fd6 = socket(AF_INET6, SOCK_STREAM, 0);

	if (parse_uint(text, 1, 65535, &port) < 0)
		exit(4);
	sin.sin_port = sin6.sin6_port = htons((uint16_t)port);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0)
		note(" tcp:%u", port);
	if (fd6 >= 0 && connect(fd6, (struct sockaddr *)&sin6, sizeof(sin6)) == 0)
		note(" tcp6:%u", port);
	close(fd);
	close(fd6);
}

static void try_abstract(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "%s", name);
	if (connect(fd, (struct sockaddr *)&sun,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) == 0)
		note(" abstract:%s", name);
	close(fd);
}

static void try_words(char *line)
{
	char *rest;

	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (strncmp(word, "read=", 5) == 0)
			try_open(word + 5, O_RDONLY, "read");
		else if (strncmp(word, "write=", 6) == 0)
			try_open(word + 6, O_WRONLY, "write");
		else if (strncmp(word, "tcp=", 4) == 0)
			try_tcp(word + 4);
		else if (strncmp(word, "abstract=", 9) == 0)
			try_abstract(word + 9);
	}
}

int main(int argc, char **argv)
{
	struct rlimit core;

	try_open("/etc/passwd", O_RDONLY, "read");
	try_open("/proc/1/environ", O_RDONLY, "read");
	try_open("/proc/self/status", O_RDONLY, "read");
	try_open("/sys/kernel", O_RDONLY, "read");
	try_open("/dev/kvm", O_RDWR, "device");
	try_open("/dev/tty", O_RDWR, "device");
	try_open("/new", O_CREAT | O_WRONLY, "create");
	try_open("/disk/new", O_CREAT | O_WRONLY, "create");
	for (int i = 1; i < argc - 1; i++)
		if (strcmp(argv[i], "-append") == 0)
			try_words(argv[i + 1]);
	for (int fd = 6; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			note(" fd:%d", fd);
	if (getpid() != 1)
		note(" pid:%d", (int)getpid());
	if (getppid() != 0)
		note(" ppid:%d", (int)getppid());
	if (getuid() == 0 || geteuid() == 0)
		note(" uid:0");
	if (if_nametoindex("eth0"))
		note(" if:eth0");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		note(" new_privs");
	if (prctl(PR_CAPBSET_READ, 21, 0, 0, 0) != 0)
		note(" capability");
	if (getrlimit(RLIMIT_CORE, &core) || core.rlim_max)
		note(" core");
	if (kill(-1, 0) == 0)
		note(" kill");
	if (mount("none", "/dev", "tmpfs", 0, NULL) == 0)
		note(" mount");
	if (unshare(CLONE_NEWUSER) == 0)
		note(" userns");
	if (environ && *environ)
		note(" environ");
	fprintf(stderr, "allowed:%s.\n", allowed);
	return 3;
}
