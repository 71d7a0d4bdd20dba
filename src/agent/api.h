/* SPDX-License-Identifier: Apache-2.0 */
/* Short names for the generated types of proto/agent.proto, and for bytes and maps in them. */
#pragma once

#include "agent.pb-c.h"
#include "base/strv.h"

/* Of agent.proto: raised when clients have to know of a change. */
#define API_GENERATION 1

#define API(name) Micropod__Agent__V1__##name

/* Appends a copy of bytes as a string. 0, -EINVAL (a NUL byte in it) or -ENOMEM. */
int api_add_bytes(struct strv *sv, const ProtobufCBinaryData *bytes);
/* A copy as a string: 0 with *ret (free()), -EINVAL or -ENOMEM. Empty bytes give "". */
int api_dup_bytes(const ProtobufCBinaryData *bytes, char **ret);

/* Whether id can name a container or an exec: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most LIMIT_ID bytes.
 */
bool api_id_valid(const char *id);

/* FNV-1a over the serialized message: a repeated request is known by it. */
uint64_t api_fingerprint(const ProtobufCMessage *msg);
