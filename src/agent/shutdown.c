/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/shutdown.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/mounts.h"
#include "base/clock.h"
#include "base/log.h"

#define KILL_WAIT_NS (2 * NSEC_PER_SEC)

/* All processes but this one; those that hang in the kernel are given up at a deadline. SIGCHLD is
 * blocked. */
static void kill_all(void)
{
	int64_t deadline = deadline_in(KILL_WAIT_NS);
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	if (kill(-1, SIGKILL) < 0)
		return; /* there is no other */
	for (;;) {
		int64_t left = deadline - clock_monotonic();
		struct timespec wait = { .tv_sec = left / NSEC_PER_SEC,
			.tv_nsec = left % NSEC_PER_SEC };
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid > 0)
			continue;
		if (pid < 0 || left <= 0 || sigtimedwait(&chld, NULL, &wait) < 0)
			return;
	}
}

static bool by_reset;

void shutdown_by_reset(void)
{
	by_reset = true;
}

_Noreturn void shutdown_power_off(void)
{
	struct err err = ERR_INIT;

	kill_all();
	if (mounts_end(&err) < 0)
		log_warning("%s", err.msg);
	/* On QEMU's microvm through the ACPI generic event device; the VMM reports a guest that
	 * powered itself off. A kernel without a way halts for ever. */
	if (!by_reset)
		reboot(RB_POWER_OFF);
	/* No way to power off: a reset ends the VM too (QEMU -no-reboot; other VMMs know no other
	 * end). */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

_Noreturn void shutdown_fatal(const char *fmt, ...)
{
	char line[LIMIT_ERR_MESSAGE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_error("%s", line);
	if (getpid() != 1)
		exit(1);
	shutdown_power_off();
}
