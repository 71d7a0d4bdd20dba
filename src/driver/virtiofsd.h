/* SPDX-License-Identifier: Apache-2.0 */
/* virtiofsd, the daemon that serves one folder or file of the host to one VM (virtio 1.2, 5.11;
 * virtiofsd(1)), confined to it. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Under which name a file, shared alone, lies in the folder that the guest mounts. */
#define VIRTIOFSD_FILE "file"

struct virtiofsd_config {
	const char *source; /* absolute; a folder, or a file */
	bool read_only;
	const char *run_dir; /* private folder, for its socket's name while it starts */
	int log_fd;	     /* borrowed */
};

/* The program: 0 with *ret_path malloc'd, or -ENOENT with err and how to get it. */
int virtiofsd_find(char **ret_path, struct err *err);

/*
 * Starts it; it ends with its VM or with this process. *ret_file: the source is a file.
 * *ret_socket is connected to it, for the VMM (driver.h, share); pid and pidfd are the caller's to
 * watch. 0 or -errno with err. Blocks until it has been executed.
 */
int virtiofsd_start(const struct virtiofsd_config *config, pid_t *ret_pid, int *ret_pidfd,
	int *ret_socket, bool *ret_file, struct err *err);
