/* SPDX-License-Identifier: Apache-2.0 */
/* Passing calls through, message by message, undecoded, with flow control from end to end. */
#pragma once

#include "rpc/client.h"
#include "rpc/rate.h"
#include "rpc/server.h"

/*
 * For rpc_server_opts.fallback: opens the same path on channel with the same deadline and metadata
 * and relays both ways, initial and trailing metadata (but for "authorization") and status
 * included. A slow reader on one side stops the sender on the other. Cancelling either cancels the
 * other. Takes the call over; always returns true.
 */
bool rpc_proxy_call(struct rpc_call *call, struct rpc_channel *channel);
/* The same, with the bytes of both ways counted to rate, of which it takes a reference; NULL: not
 * counted. */
bool rpc_proxy_call_at(struct rpc_call *call, struct rpc_channel *channel, struct rpc_rate *rate);
