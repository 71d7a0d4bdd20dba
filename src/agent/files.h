/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the file calls of agent.proto do, in a process of their own in the container (as
 * agent/tree.h) that answers by frames on stdout: a kind, the length as four bytes, the lowest
 * first, and a packed message: an answer, or the Failure that ends it all. Who reads them is not to
 * trust them: the workload may have the same user.
 */
#pragma once

#include "base/strv.h"

#define FILES_ANSWER  'A'
#define FILES_FAILURE 'F'
#define FILES_HEAD    5

/* The frame that data begins with: 1 with its kind and the length of its message, which follows the
 * head; 0 if more is needed; -EPROTO: it is none. */
int files_frame(const void *data, size_t len, char *ret_kind, size_t *ret_len);

/* args: "stat" PATH [follow], "list" PATH DEPTH, "read" PATH OFFSET LENGTH, "write" PATH MODE
 * FLAGS, "mkdir" PATH MODE, "move" PATH TO [overwrite], "remove" PATH [recursive], "watch" PATH
 * [recursive]; FLAGS: letters of "afx". Returns the exit code. */
int files_tool(const struct strv *args);
/* Of "watch" (agent/watch.c). 0 or -errno; does not return 0 while it watches. */
int files_watch(const char *path, bool recursive);

/* For both: sends one answer. 0 or -errno: nobody reads any more. */
typedef struct ProtobufCMessage ProtobufCMessage;
int files_answer(const ProtobufCMessage *message);
