/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's Failure (proto/agent.proto) in the details of a status. */
#pragma once

#include "rpc/status.h"

/*
 * What a command line exits with for it, as Docker's: 127 when a command was not found, 126 when a
 * process could not be started for another reason, 125 for all else.
 */
int rpc_failure_exit_code(const struct rpc_status *status);
