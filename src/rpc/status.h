/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC status codes (gRPC "Status codes and their use in gRPC"), and how errors become them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum rpc_code {
	RPC_OK = 0,
	RPC_CANCELLED = 1,
	RPC_UNKNOWN = 2,
	RPC_INVALID_ARGUMENT = 3,
	RPC_DEADLINE_EXCEEDED = 4,
	RPC_NOT_FOUND = 5,
	RPC_ALREADY_EXISTS = 6,
	RPC_PERMISSION_DENIED = 7,
	RPC_RESOURCE_EXHAUSTED = 8,
	RPC_FAILED_PRECONDITION = 9,
	RPC_ABORTED = 10,
	RPC_OUT_OF_RANGE = 11,
	RPC_UNIMPLEMENTED = 12,
	RPC_INTERNAL = 13,
	RPC_UNAVAILABLE = 14,
	RPC_DATA_LOSS = 15,
	RPC_UNAUTHENTICATED = 16,
	RPC_CODE_MAX
};

/*
 * How a call ended. message: UTF-8, percent-encoded only on the wire. details: a serialized
 * google.rpc.Status for grpc-status-details-bin, or NULL.
 */
struct rpc_status {
	enum rpc_code code;
	char message[LIMIT_ERR_MESSAGE];
	uint8_t *details; /* owned (malloc) */
	size_t details_len;
};

#define RPC_STATUS_OK ((struct rpc_status){ .code = RPC_OK })

void rpc_status_deinit(struct rpc_status *status);

/* "NOT_FOUND"; never NULL. */
const char *rpc_code_name(enum rpc_code code);

/* errno to code by the one table (ENOENT: NOT_FOUND, EEXIST: ALREADY_EXISTS, ETIMEDOUT:
 * DEADLINE_EXCEEDED, ...), and back. */
enum rpc_code rpc_code_from_errno(int code);
int rpc_code_to_errno(enum rpc_code code);

/* Fills status from err: code by the table, err's message, no details. */
void rpc_status_from_err(struct rpc_status *status, const struct err *err);

/* A finished call as an err: 0 for OK, else -errno with the message. */
int rpc_status_to_err(const struct rpc_status *status, struct err *err);
