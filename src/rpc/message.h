/* SPDX-License-Identifier: Apache-2.0 */
/* Message bodies: gzip, and decoding protobuf from a hostile peer. Internal to rpc. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"
#include "rpc/buf.h"

/*
 * Where decoded messages live: a bump allocator on memory that starts with an inline block and is
 * freed at once. It refuses beyond its budget, so that a small message cannot decode to a large
 * one.
 */
struct rpc_arena {
	ProtobufCAllocator allocator;
	size_t budget;
	struct rpc_arena_chunk *chunks;
	uint8_t *at, *end;
	_Alignas(16) uint8_t first[2048];
};

void rpc_arena_init(struct rpc_arena *arena, size_t message_len);
void rpc_arena_deinit(struct rpc_arena *arena);

/*
 * Decodes into arena. Checks before what protobuf-c does not: string fields are UTF-8 without NUL,
 * nesting has a limit. 0, -EILSEQ (a string field), -EBADMSG (malformed), -E2BIG (nesting or
 * memory).
 */
int rpc_message_decode(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
	struct rpc_arena *arena, ProtobufCMessage **ret_msg);

/* Adds data as gzip to out. 0 or -ENOMEM. */
int rpc_gzip(const void *data, size_t len, struct rpc_buf *out);
/* gzip or zlib data, one stream exactly, to out; at most max bytes. 0, -EBADMSG, -E2BIG, -ENOMEM.
 */
int rpc_gunzip(const uint8_t *data, size_t len, size_t max, struct rpc_buf *out);
