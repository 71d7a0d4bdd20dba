/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least guest there is, for bench/floor.py: mounts, answers "RUN\n" on its serial port by
 * mounting the disk /dev/vda with an overlay over it, running /bin/true from there in namespaces of
 * its own, and writing "EXIT <status>\n".
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	reboot(RB_POWER_OFF);
}

static void make_root(void)
{
	int fd = open("/dev/vda", O_RDONLY);

	if (fd < 0 || ioctl(fd, BLKFLSBUF, 0) < 0)
		die("/dev/vda");
	close(fd);
	mkdir("/image", 0755);
	mkdir("/layer", 0755);
	mkdir("/root", 0755);
	if (mount("/dev/vda", "/image", "ext4", MS_RDONLY, "noload") < 0)
		die("image");
	if (mount("tmpfs", "/layer", "tmpfs", 0, "") < 0)
		die("layer");
	mkdir("/layer/upper", 0755);
	mkdir("/layer/work", 0755);
	if (mount("overlay", "/root", "overlay", 0,
		    "lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work") < 0)
		die("overlay");
}

static int child(void *arg)
{
	char *argv[] = { "/bin/true", NULL };

	if (chdir("/root") < 0 || chroot(".") < 0)
		return 126;
	execv(argv[0], argv);
	return 127;
}

static int run(void)
{
	static char stack[65536];
	int status, flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;
	pid_t pid = clone(child, stack + sizeof(stack), flags, NULL);

	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		die("clone");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int main(void)
{
	char line[64];
	int port, n;

	mount("devtmpfs", "/dev", "devtmpfs", 0, "");
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, "");
	while ((port = open("/dev/vport0p1", O_RDWR)) < 0)
		usleep(1000);
	puts("READY");
	fflush(stdout);
	for (int mounted = 0; (n = (int)read(port, line, sizeof(line))) >= 0;) {
		if (n < 4 || memcmp(line, "RUN\n", 4) != 0) {
			usleep(1000);
			continue;
		}
		if (!mounted++)
			make_root();
		n = snprintf(line, sizeof(line), "EXIT %d\n", run());
		if (write(port, line, (size_t)n) < 0)
			die("port");
	}
	die("port");
}
