/* SPDX-License-Identifier: Apache-2.0 */
/* GetContainerLogs: the kept output of a container's first process, as entries of one stream and
 * one time each. */
#pragma once

#include "agent/agent.h"

void logs_request(struct rpc_call *call, const ProtobufCMessage *req, void *agent);

/*
 * Where the last `lines` lines of both streams together begin, lines in the order of their times
 * from the given offsets; at the end of a stream an unfinished line counts. offset: in and out.
 */
void logs_tail(struct ring *const rings[STREAMS_MAX], uint64_t offset[STREAMS_MAX], uint64_t lines);
