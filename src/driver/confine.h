/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a helper program that may be taken over by a guest: own user, mount, pid, ipc, uts and
 * network namespaces, a root with nothing but what is named here, no capabilities, no_new_privs,
 * Landlock. For root and for ordinary users alike.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define CONFINE_BINDS_MAX 32
#define CONFINE_FDS_MAX	  8

enum {
	CONFINE_WRITE = 1 << 0,	   /* else read-only */
	CONFINE_DEVICE = 1 << 1,   /* a device node, to be used as such (read, write, ioctl) */
	CONFINE_OPTIONAL = 1 << 2, /* left out where the host has none */
	CONFINE_EXECUTE = 1 << 3,  /* programs and libraries; else noexec */
	CONFINE_MAKE = 1 << 4,	   /* with CONFINE_WRITE: what lies below comes and goes, too */
};

struct confine_bind {
	const char *source; /* file or folder of the host; symbolic links are followed */
	const char *target; /* absolute; the folders above are made */
	unsigned flags;
};

struct confine_fd {
	int from; /* borrowed */
	int to;	  /* its number in the program, 3 or more, so that argv need not depend on ours */
};

/* All borrowed for the call. */
struct confine_spec {
	const char *program; /* path without symbolic links; it has the same in its root, as
				programs look for files beside them */
	char *const *argv;
	struct confine_bind binds[CONFINE_BINDS_MAX];
	unsigned n_binds;
	struct confine_fd fds[CONFINE_FDS_MAX];
	unsigned n_fds;
	int stderr_fd; /* stdout too; stdin is /dev/null */
	bool off; /* run it as is, in the caller's own world: for debugging only. binds do nothing
		     then */
	bool host_network;
	/*
	 * It serves files to others: as user 0, with the capabilities that pass by the permissions
	 * of files and change their owners, and no others. For root those of the host (no user
	 * namespace), so owners are kept; for ordinary users it means their own files, and no owner
	 * but themselves.
	 */
	bool serves_files;
	int ramguard_sock; /* the child's end for ramguard_install(), borrowed; -1: none */
	bool ramguard_own; /* as there */
};

/* Adds binds; -ENOSPC when the table is full. */
int confine_bind(struct confine_spec *spec, const char *source, const char *target, unsigned flags);

/* Binds the loader, its cache and the library folders, /dev/null and /dev/urandom. 0 or -ENOSPC. */
int confine_bind_system(struct confine_spec *spec);

/*
 * Starts it; it dies with this process. Returns when it has been executed: 0 with the pid (its
 * number here) and a pidfd that is the caller's, or -errno with err naming the step and, where the
 * host forbids namespaces, the remedy. Never runs it with less confinement than asked for; only
 * Landlock is left out where the kernel has none (lockdown_landlock_abi() tells).
 */
int confine_spawn(const struct confine_spec *spec, pid_t *ret_pid, int *ret_pidfd, struct err *err);

/* Whether confine_spawn() can work on this host: tries the namespaces. 0, or -errno with err and
 * the remedy. Blocks shortly. */
int confine_probe(struct err *err);
