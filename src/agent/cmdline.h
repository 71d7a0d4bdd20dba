/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's command line (/proc/cmdline): micropod's own keys. Others are passed over. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct cmdline {
	char runtime[8]; /* micropod.runtime=builtin|crun|runc; "crun" unless said */
	char root[21];	 /* micropod.root=SERIAL: the disk that the agent lives on; empty: the
			    initramfs */
	bool late; /* micropod.late: devices may be plugged in, so the modules for them are loaded
		    */
	/* micropod.disks=SERIAL,...: what the disks vda, vdb, ... are called, where the VMM gives
	 * them serial numbers of its own; empty: they have theirs */
	char disks[64];
	/* micropod.vsock: the agent is joined over vsock from the start, which nobody but the shim
	 * reaches, and there is no serial port */
	bool vsock;
	bool reset; /* micropod.reset: the VM ends with a reset, and has no power to switch off */
	bool debug; /* micropod.debug */
	bool trace; /* micropod.trace: the time of each step of the boot, on the console */
};

/* text: len bytes as the kernel gives them. An unknown value of a known key: -EINVAL, with what can
 * be told filled in. 0 otherwise. */
int cmdline_parse(const char *text, size_t len, struct cmdline *ret_cmdline);
