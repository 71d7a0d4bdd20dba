/* SPDX-License-Identifier: Apache-2.0 */
/* How the agent's own types are told over gRPC. */
#pragma once

#include "agent/api.h"
#include "agent/failure.h"
#include "agent/process.h"
#include "rpc/call.h"

/* Ends the call with a status and a google.rpc.Status that holds a Failure
 * (google/rpc/status.proto). */
void reply_failure(struct rpc_call *call, const struct failure *f);

/* The same, made up on the spot. */
void reply_error(struct rpc_call *call, enum failure_kind kind, int code, const char *step,
	const char *object, const char *fmt, ...) PRINTF(6, 7);

/* The gRPC code of a failure. */
enum rpc_code reply_code(const struct failure *f);

/* Fills out; strings are borrowed from f. */
void reply_fill_failure(API(Failure) * out, const struct failure *f);
void reply_fill_exit(API(Exit) * out, const struct process_exit *exit);
