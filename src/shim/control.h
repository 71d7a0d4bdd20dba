/* SPDX-License-Identifier: Apache-2.0 */
/* What can be changed in a sandbox that runs: standing still, limits, the name. */
#pragma once

#include "shim/shim.h"

/* Something that is changed in a container that runs. */
enum shim_change_kind { SHIM_PAUSE, SHIM_UNPAUSE, SHIM_UPDATE };

struct shim_change {
	struct shim *shim;
	enum shim_change_kind kind;
	struct rpc_call *call; /* which is answered; a reference; NULL: nobody waits */
};

/* It is changed, or err: answers, notes it, frees. */
void shim_changed(struct shim_change *change, const struct err *err);

/* Methods of sandbox.proto. */
void shim_do_pause(struct rpc_call *call, const ProtobufCMessage *msg, void *shim);
void shim_do_unpause(struct rpc_call *call, const ProtobufCMessage *msg, void *shim);
void shim_do_update(struct rpc_call *call, const ProtobufCMessage *msg, void *shim);
void shim_do_rename(struct rpc_call *call, const ProtobufCMessage *msg, void *shim);
/* Lets it go on, and then as shim_stop_container(). */
void shim_go_on_and_stop(struct shim *shim, const char *signal, int64_t grace_ns);
/* Whether a call would begin a process that stands still at once. */
bool shim_needs_going(const char *path);
