/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"

static void become(char **argv, const sigset_t *old)
{
	sigprocmask(SIG_SETMASK, old, NULL);
	/* Its own process group in the foreground, so that a terminal's signals are for it. */
	setpgid(0, 0);
	if (isatty(0)) {
		signal(SIGTTOU, SIG_IGN);
		tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
	}
	execvp(argv[0], argv);
	fprintf(stderr, "micropod-init: cannot execute '%s': %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Reaps whoever has ended. True once it was pid, with its exit code. */
static int reap(pid_t pid, int *ret_code)
{
	int status, found = 0;
	pid_t one;

	while ((one = waitpid(-1, &status, WNOHANG)) > 0) {
		if (one == pid) {
			*ret_code = proc_exit_code(status);
			found = 1;
		}
	}
	return found;
}

int reap_main(int argc, char **argv)
{
	sigset_t all, old;
	siginfo_t info;
	int code = 0;
	pid_t pid;

	if (argc < 4 || strcmp(argv[2], "--") != 0) {
		fputs("usage: micropod-agent reap -- PROGRAM [ARGS]\n", stderr);
		return 125;
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "micropod-init: cannot fork: %s\n", strerror(errno));
		return 125;
	}
	if (pid == 0)
		become(argv + 3, &old);
	for (;;) {
		int sig = sigwaitinfo(&all, &info);

		if (sig == SIGCHLD) {
			if (reap(pid, &code))
				return code;
		} else if (sig > 0) {
			kill(pid, sig);
		}
	}
}

int reap_pause(void)
{
	sigset_t all;
	siginfo_t info;
	int ignored;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (;;) {
		switch (sigwaitinfo(&all, &info)) {
		case SIGCHLD:
			reap(-1, &ignored);
			break;
		case SIGTERM:
		case SIGINT:
		case SIGQUIT:
			return 0;
		default:
			break;
		}
	}
}
