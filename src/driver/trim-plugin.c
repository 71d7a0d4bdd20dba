/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micropod-trim.so: loaded by QEMU (-plugin), gives back the memory of code that QEMU has
 * translated and the guest no longer runs. QEMU keeps all of it for ever: 28 MB of an idle sandbox'
 * 53 MB are what its start was translated to.
 *
 * How it works: an order (driver/trim.h) comes on a socket, looked for whenever a virtual CPU
 * wakes, which is where QEMU lets a plugin ask for its own reset. A reset forgets all translated
 * code while every virtual CPU stands still; in that moment nothing refers to the pages, which are
 * then zeroes until new code is written. What the guest still runs is translated again.
 *
 * Only what every version of the plugin API has had, declared here (docs/devel/tcg-plugins,
 * QEMU 4.2 to 10). With the argument "probe" instead of fd=N it ends QEMU at once, with success:
 * that it was loaded is the answer.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/trim.h"

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;

void qemu_plugin_register_vcpu_resume_cb(plugin_id id, void (*cb)(plugin_id id, unsigned vcpu));
void qemu_plugin_reset(plugin_id id, void (*cb)(plugin_id id));

/* Which version of the API this is made for: QEMU asks before it calls anything. */
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

static int sock = -1;
static struct trim_order order;

static void on_resume(plugin_id id, unsigned vcpu);

/* Every virtual CPU stands still, and all translated code is forgotten. */
static void on_reset(plugin_id id)
{
	for (uint32_t i = 0; i < order.n; i++) {
		void *start = (void *)(uintptr_t)order.ranges[i].start;

		madvise(start, order.ranges[i].len, MADV_DONTNEED);
		/* An idle guest runs little, here and there: huge pages made that 2 MB more, and
		 * busy ones no quicker. */
		madvise(start, order.ranges[i].len, MADV_NOHUGEPAGE);
	}
	/* What QEMU knew of that code. */
	malloc_trim(0);
	qemu_plugin_register_vcpu_resume_cb(id, on_resume);
}

/* QEMU holds its big lock: one virtual CPU at a time. */
static void on_resume(plugin_id id, unsigned vcpu)
{
	ssize_t n = recv(sock, &order, sizeof(order), MSG_DONTWAIT);

	(void)vcpu;
	if (n == (ssize_t)sizeof(order) && order.n <= TRIM_RANGES)
		qemu_plugin_reset(id, on_reset);
}

/* Version 2 (QEMU 9) took names away that this does not use; newer QEMUs load nothing older. */
__attribute__((constructor)) static void choose_version(void)
{
	if (dlsym(RTLD_DEFAULT, "qemu_plugin_num_vcpus"))
		qemu_plugin_version = 2;
}

/* -1: it is none. */
static int parse_fd(const char *text)
{
	int fd = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || fd > 1000)
			return -1;
		fd = fd * 10 + (*text - '0');
	}
	return fd;
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "probe", 5) == 0)
			_exit(0);
		if (strncmp(argv[i], "fd=", 3) == 0)
			sock = parse_fd(argv[i] + 3);
	}
	if (sock < 0)
		return -1;
	qemu_plugin_register_vcpu_resume_cb(id, on_resume);
	return 0;
}
