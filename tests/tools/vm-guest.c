/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least guest that a VM test needs, as /init of an initramfs: loads the modules named in
 * /lib/modules/order, answers greetings on the agent's serial port and then one-line commands (see
 * the table), until the next greeting.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <net/if.h>
#include <net/route.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/parse.h"
#include "io/greeting.h"

static int port = -1;

/* What the test wrote as a number; 0 if it is none. */
static long number(const char *text)
{
	int64_t value = 0;

	if (text)
		(void)parse_i64(text, 0, 1 << 30, &value);
	return (long)value;
}

static void reply(const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = write(port, text, len);

		if (n < 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* Whether the kernel's command line has the word. */
static bool told(const char *word)
{
	char line[4096] = "";
	FILE *f = fopen("/proc/cmdline", "re");

	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = 0;
		fclose(f);
	}
	return strstr(line, word) != NULL;
}

static void load_modules(const char *file)
{
	char name[256], path[512];
	FILE *list = fopen(file, "re");

	while (list && fgets(name, sizeof(name), list)) {
		int fd;

		name[strcspn(name, "\n")] = 0;
		snprintf(path, sizeof(path), "/lib/modules/%s", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			printf("module %s: %s\n", name, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (list)
		fclose(list);
}

static int find_port(void)
{
	for (int tries = 0; tries < 10000; tries++) {
		DIR *dir = opendir("/sys/class/virtio-ports");
		struct dirent *de;

		while (dir && (de = readdir(dir))) {
			char path[300], name[64] = "";
			FILE *f;

			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", de->d_name);
			f = fopen(path, "re");
			if (f && fgets(name, sizeof(name), f) &&
				strcmp(name, "micropod.agent\n") == 0) {
				snprintf(path, sizeof(path), "/dev/%s", de->d_name);
				return open(path, O_RDWR | O_CLOEXEC);
			}
			if (f)
				fclose(f);
		}
		if (dir)
			closedir(dir);
		usleep(1000);
	}
	return -1;
}

static void cmd_disks(char *arg)
{
	for (char c = 'a'; c < 'k'; c++) {
		char path[64], serial[32] = "", out[128];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/block/vd%c/serial", c);
		f = fopen(path, "re");
		/* One that has gone leaves its letter free. */
		if (!f)
			continue;
		if (!fgets(serial, sizeof(serial), f))
			serial[0] = 0;
		fclose(f);
		snprintf(path, sizeof(path), "/sys/block/vd%c/ro", c);
		f = fopen(path, "re");
		snprintf(out, sizeof(out), "vd%c=%s:%s ", c, serial,
			f && fgetc(f) == '1' ? "ro" : "rw");
		if (f)
			fclose(f);
		reply(out);
	}
	reply("\n");
}

static void cmd_clock(char *arg)
{
	struct timespec mono, real;
	char out[128];

	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &real);
	snprintf(out, sizeof(out), "%lld.%09ld %lld.%09ld\n", (long long)mono.tv_sec, mono.tv_nsec,
		(long long)real.tv_sec, real.tv_nsec);
	reply(out);
}

static void cmd_sleep(char *arg)
{
	usleep((useconds_t)number(arg) * 1000);
	reply("slept\n");
}

static void cmd_info(char *arg)
{
	char out[128];

	snprintf(out, sizeof(out), "cpus=%ld memory=%ld\n", sysconf(_SC_NPROCESSORS_ONLN),
		sysconf(_SC_PHYS_PAGES) * (sysconf(_SC_PAGESIZE) / 1024) / 1024);
	reply(out);
}

/* "/dev/vda MIB": writes as much, then syncs. */
static void cmd_write(char *arg)
{
	static char block[1 << 20];
	char *mib = strchr(arg, ' ');
	int fd, error = 0;

	*mib++ = 0;
	memset(block, 'x', sizeof(block));
	fd = open(arg, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		error = errno;
	for (long n = number(mib); n > 0 && !error; n--)
		if (write(fd, block, sizeof(block)) < 0)
			error = errno;
	if (!error && fsync(fd) < 0)
		error = errno;
	if (fd >= 0)
		close(fd);
	reply(error ? strerror(error) : "written");
	reply("\n");
}

/* Some work of the sort that programs do, for comparing CPU models. */
static void cmd_work(char *arg)
{
	static unsigned char data[1 << 20];
	unsigned hash = 2166136261u;
	struct timespec a, b;
	char out[64];

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long round = number(arg); round > 0; round--)
		for (size_t i = 0; i < sizeof(data); i++)
			hash = (hash ^ (data[i] += (unsigned char)hash)) * 16777619u;
	clock_gettime(CLOCK_MONOTONIC, &b);
	snprintf(out, sizeof(out), "%u %.3f\n", hash,
		(double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	reply(out);
}

static void cmd_net(char *arg)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	struct sockaddr_in *sin = (struct sockaddr_in *)&ifr.ifr_addr;
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)"eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	ifr.ifr_flags = IFF_UP;
	r = ioctl(fd, SIOCSIFFLAGS, &ifr);
	memcpy(ifr.ifr_name, "eth0", sizeof("eth0"));
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = htonl(0x0a00020f);
	r |= ioctl(fd, SIOCSIFADDR, &ifr);
	sin->sin_addr.s_addr = htonl(0xffffff00);
	r |= ioctl(fd, SIOCSIFNETMASK, &ifr);
	ifr.ifr_flags = IFF_UP;
	r |= ioctl(fd, SIOCSIFFLAGS, &ifr);
	((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_gateway)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_gateway)->sin_addr.s_addr = htonl(0x0a000202);
	r |= ioctl(fd, SIOCADDRT, &route);
	close(fd);
	reply(r ? "failed\n" : "up\n");
}

/* "IP PORT TEXT": connects, sends the text, gives back what comes. */
static void cmd_tcp(char *arg)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct timeval limit = { .tv_sec = 5 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *p = strsep(&arg, " "), buf[512];
	ssize_t n;

	inet_pton(AF_INET, p, &sin.sin_addr);
	sin.sin_port = htons((uint16_t)number(strsep(&arg, " ")));
	p = arg ? arg : (char *)"";
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || write(fd, p, strlen(p)) < 0 ||
		(n = read(fd, buf, sizeof(buf) - 2)) < 0) {
		reply(strerror(errno));
		reply("\n");
	} else {
		buf[n] = '\n';
		buf[n + 1] = 0;
		reply(buf);
	}
	close(fd);
}

/* "PORT": a TCP and a UDP server that answer "pong:" and what came; one child each. */
static void cmd_serve(char *arg)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)number(arg)) };

	for (int udp = 0; udp < 2; udp++) {
		int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

		if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
			(!udp && listen(fd, 8) < 0)) {
			reply("failed\n");
			return;
		}
		if (fork() == 0) {
			close(port);
			for (;;) {
				char buf[512] = "pong:";
				struct sockaddr_in from;
				socklen_t len = sizeof(from);
				int conn = udp ? fd : accept(fd, NULL, NULL);
				ssize_t n = recvfrom(conn, buf + 5, sizeof(buf) - 5, 0,
					(struct sockaddr *)&from, &len);

				if (n > 0 && sendto(conn, buf, (size_t)n + 5, 0,
						     udp ? (struct sockaddr *)&from : NULL,
						     udp ? len : 0) < 0)
					perror("serve");
				if (!udp)
					close(conn);
			}
		}
		close(fd);
	}
	reply("serving\n");
}

static void cmd_echo(char *arg)
{
	reply(arg);
	reply("\n");
}

/* "BYTES": so many 'x', unasked for, as an unfinished frame of an old session would be. */
static void cmd_spew(char *arg)
{
	for (long n = number(arg); n > 0; n -= 64)
		reply("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

static void cmd_poweroff(char *arg)
{
	reboot(RB_POWER_OFF);
}

static void cmd_reboot(char *arg)
{
	reboot(RB_AUTOBOOT);
}

static void cmd_panic(char *arg)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "c", 1) < 0)
		reply("cannot\n");
}

/* PID 1 ends: another way into a panic. */
static void cmd_die(char *arg)
{
	_exit(9);
}

static void cmd_hang(char *arg)
{
	pause();
}

static const struct {
	const char *name;
	void (*fn)(char *arg);
} commands[] = {
	{ "disks", cmd_disks },
	{ "clock", cmd_clock },
	{ "sleep", cmd_sleep },
	{ "info", cmd_info },
	{ "write", cmd_write },
	{ "work", cmd_work },
	{ "net", cmd_net },
	{ "tcp", cmd_tcp },
	{ "serve", cmd_serve },
	{ "echo", cmd_echo },
	{ "spew", cmd_spew },
	{ "poweroff", cmd_poweroff },
	{ "reboot", cmd_reboot },
	{ "panic", cmd_panic },
	{ "die", cmd_die },
	{ "hang", cmd_hang },
};

static void run(char *line)
{
	char *arg = strchr(line, ' ');

	if (arg)
		*arg++ = 0;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, line) == 0)
			commands[i].fn(arg ? arg : line + strlen(line));
}

/* Bytes are a command or part of a greeting; a line that holds the magic is none. */
static void serve(void)
{
	struct greeting g;
	char line[512], buf[512];
	size_t len = 0;
	bool greeted = false;

	greeting_answer(&g);
	for (;;) {
		ssize_t n = read(port, buf, sizeof(buf));

		if (n <= 0) {
			usleep(1000);
			continue;
		}
		for (ssize_t i = 0; i < n; i++) {
			bool done;

			greeting_feed(&g, &buf[i], 1, &done);
			if (done) {
				if (write(port, g.frame, GREETING_LEN) != GREETING_LEN)
					perror("greeting");
				greeted = true;
				len = 0;
				greeting_answer(&g);
				continue;
			}
			if (buf[i] == '\n' && greeted && !g.matched) {
				line[len] = 0;
				len = 0;
				run(line);
			} else if (buf[i] && !g.matched && len < sizeof(line) - 1) {
				line[len++] = buf[i];
			}
		}
	}
}

int main(void)
{
	static const char *const dirs[] = { "/proc", "/sys", "/dev" };

	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		mkdir(dirs[i], 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	load_modules("/lib/modules/order");
	if (told("vmtest.late"))
		load_modules("/lib/modules/order.late");
	if (told("vmtest.mute"))
		for (;;)
			pause();
	port = find_port();
	printf("READY\n");
	fflush(stdout);
	serve();
}
