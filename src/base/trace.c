/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/parse.h"

static struct {
	const char *who;
	int fd;
} trace_state = { "cli", -1 };

int trace_begin(void)
{
	char number[16];
	int fd = memfd_create("trace", MFD_CLOEXEC);

	/* One write is one line, whoever writes. */
	if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) < 0) {
		safe_close(fd);
		return -errno;
	}
	snprintf(number, sizeof(number), "%d", fd);
	if (setenv(TRACE_VARIABLE, number, 1) < 0) {
		safe_close(fd);
		return -ENOMEM;
	}
	trace_state.fd = fd;
	return 0;
}

void trace_join(const char *who)
{
	const char *value = getenv(TRACE_VARIABLE);
	unsigned fd;

	if (!value || parse_uint(value, 3, 4096, &fd) < 0 || fcntl((int)fd, F_GETFL) < 0)
		return;
	fd_set_cloexec((int)fd, true);
	unsetenv(TRACE_VARIABLE);
	trace_state.fd = (int)fd;
	trace_state.who = who;
}

int trace_fd(void)
{
	return trace_state.fd;
}

void trace_step_at(const char *who, const char *step, int64_t at)
{
	char line[160];
	int n;

	if (trace_state.fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%lld %.31s %.100s\n", (long long)at, who, step);
	/* What cannot be written is missing from the picture; the command goes on. */
	if (write(trace_state.fd, line, (size_t)n) < 0)
		return;
}

void trace_step(const char *step)
{
	if (trace_state.fd >= 0)
		trace_step_at(trace_state.who, step, clock_monotonic());
}
