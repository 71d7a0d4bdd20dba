/* SPDX-License-Identifier: Apache-2.0 */
/* The ways into the agent: a listening socket (`serve`), the serial port's sessions and vsock
 * (`init`). */
#pragma once

#include "agent/agent.h"
#include "agent/pid1.h"

/* `micropod-agent serve`: argv as of main(). Returns the exit code. */
int serve_main(int argc, char **argv);

/* For agent_init_main(). */
extern const struct pid1_ops serve_pid1_ops;

/* Of rpc_server_opts; arg is the agent. */
bool serve_admit(struct rpc_call *call, struct rpc_conn *conn, void *arg);
void serve_conn_closed(struct rpc_conn *conn, const char *why, void *arg);

/* Opens the vsock listener; connections must show the key (VSOCK_KEY_SIZE bytes; NULL: none, where
 * nobody but the shim reaches it). A second call changes the key only. 0 or -errno with err. */
int serve_vsock(struct agent *agent, unsigned port, const uint8_t *key, struct err *err);
void serve_vsock_close(struct agent *agent);

/* `serve` only: stops all containers and leaves the loop. */
void serve_shutdown(struct agent *agent, int64_t grace_ns);
