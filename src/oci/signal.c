/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/signal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/macro.h"
#include "base/parse.h"

/* Not SIGRTMIN: each libc takes some of the kernel's real-time signals for itself and counts from
 * there. */
#define RTMIN 34
#define RTMAX 64

static const struct {
	const char *name;
	int number;
} names[] = {
	/* The first of several names of a number is what it is called. */
	{ "HUP", SIGHUP },
	{ "INT", SIGINT },
	{ "QUIT", SIGQUIT },
	{ "ILL", SIGILL },
	{ "TRAP", SIGTRAP },
	{ "ABRT", SIGABRT },
	{ "BUS", SIGBUS },
	{ "FPE", SIGFPE },
	{ "KILL", SIGKILL },
	{ "USR1", SIGUSR1 },
	{ "SEGV", SIGSEGV },
	{ "USR2", SIGUSR2 },
	{ "PIPE", SIGPIPE },
	{ "ALRM", SIGALRM },
	{ "TERM", SIGTERM },
	{ "STKFLT", SIGSTKFLT },
	{ "CHLD", SIGCHLD },
	{ "CONT", SIGCONT },
	{ "STOP", SIGSTOP },
	{ "TSTP", SIGTSTP },
	{ "TTIN", SIGTTIN },
	{ "TTOU", SIGTTOU },
	{ "URG", SIGURG },
	{ "XCPU", SIGXCPU },
	{ "XFSZ", SIGXFSZ },
	{ "VTALRM", SIGVTALRM },
	{ "PROF", SIGPROF },
	{ "WINCH", SIGWINCH },
	{ "IO", SIGIO },
	{ "PWR", SIGPWR },
	{ "SYS", SIGSYS },
	{ "IOT", SIGABRT },
	{ "CLD", SIGCHLD },
	{ "POLL", SIGIO },
	{ "UNUSED", SIGSYS },
	{ "RTMIN", RTMIN },
	{ "RTMAX", RTMAX },
};

static int parse_realtime(const char *word, int *ret_signal)
{
	unsigned offset;

	if (strncasecmp(word, "RTMIN+", 6) == 0 &&
		parse_uint(word + 6, 0, RTMAX - RTMIN, &offset) == 0) {
		*ret_signal = RTMIN + (int)offset;
		return 0;
	}
	if (strncasecmp(word, "RTMAX-", 6) == 0 &&
		parse_uint(word + 6, 0, RTMAX - RTMIN, &offset) == 0) {
		*ret_signal = RTMAX - (int)offset;
		return 0;
	}
	return -EINVAL;
}

int oci_signal_parse(const char *word, int *ret_signal)
{
	unsigned number;

	if (parse_uint(word, 1, OCI_SIGNAL_MAX, &number) == 0) {
		*ret_signal = (int)number;
		return 0;
	}
	if (strncasecmp(word, "SIG", 3) == 0)
		word += 3;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcasecmp(word, names[i].name) == 0) {
			*ret_signal = names[i].number;
			return 0;
		}
	}
	return parse_realtime(word, ret_signal);
}

const char *oci_signal_name(int signal, char *buf, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (names[i].number == signal) {
			snprintf(buf, size, "SIG%s", names[i].name);
			return buf;
		}
	}
	if (signal > RTMIN && signal < RTMAX)
		snprintf(buf, size, "SIGRTMIN+%d", signal - RTMIN);
	else
		snprintf(buf, size, "signal %d", signal);
	return buf;
}
