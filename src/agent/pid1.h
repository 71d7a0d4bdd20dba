/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as PID 1 of a VM: `micropod-agent init`. */
#pragma once

#include "agent/cmdline.h"
#include "base/err.h"
#include "io/stream.h"

struct pid1;

/* What PID 1 needs of the rest of the agent. */
struct pid1_ops {
	/*
	 * The machine is up (file systems, modules, cgroups, loopback): makes everything that
	 * serves, on this loop. SIGCHLD is blocked; reaping every child of PID 1 is the callee's
	 * from here on. *ret_agent goes to the other functions. 0 or -errno with err: fatal.
	 */
	int (*start)(struct pid1 *pid1, struct loop *loop, const struct cmdline *cmdline,
		void **ret_agent, struct err *err);
	/* A greeted session over the serial port: takes over stream, which must be freed when the
	 * session ends. 0 or -errno. */
	int (*session)(void *agent, struct io_stream *stream);
	/* The peer of that session has gone: end it now and free its stream. */
	void (*session_end)(void *agent);
	/* Listens on vsock, for a shim that nobody else comes between. 0 or -errno with err. */
	int (*listen)(void *agent, struct err *err);
	/* Stops all containers (signal, grace_ns, SIGKILL) and removes them; then calls
	 * pid1_stopped(). */
	void (*stop)(void *agent, int64_t grace_ns);
};

/* Boots, serves, ends with the power off. argv as of main(). Does not return except when it is not
 * PID 1 (2, with a line on stderr). */
int agent_init_main(int argc, char **argv, const struct pid1_ops *ops);

/*
 * Begins the orderly end of the machine: ops->stop, then power off, at the latest 5 s after
 * grace_ns. For the Shutdown RPC (after its answer has been queued), SIGTERM and ctrl-alt-del. A
 * second call does nothing.
 */
void pid1_shutdown(struct pid1 *pid1, int64_t grace_ns);

/* ops->stop is done: pending output is written and the power goes off. */
void pid1_stopped(struct pid1 *pid1);
