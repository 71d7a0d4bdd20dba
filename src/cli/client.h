/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to a sandbox's shim, and calls on it. */
#pragma once

#include "cli/remote.h"
#include "cli/target.h"
#include "rpc/client.h"
#include "agent.pb-c.h"
#include "sandbox.pb-c.h"

#define CLIENT_CALL_TIME                                                                        \
	(35 * NSEC_PER_SEC) /* a call that is answered at once when all is well; the shim gives \
			       the agent 30 s */

#define AGENT_METHOD(name)   "/micropod.agent.v1.Agent/" name
#define SANDBOX_METHOD(name) "/micropod.sandbox.v1.Sandbox/" name

struct client {
	struct loop *loop;
	struct rpc_channel *channel;
	char *address;
	const struct remote *remote; /* instead of an address; NULL: this host */
	struct remote_route route;
	char name[LIMIT_NAME + 1];	/* of the sandbox, for errors */
	char container[LIMIT_NAME + 1]; /* its container's in the guest */
};

/*
 * Connects to the shim of a sandbox that should have one. One that does not run is an error that
 * says so, and so is one whose shim is gone. Blocks for a moment. 0 or -errno; client_close() in
 * the first case.
 */
int client_open(
	struct cli *cli, const struct sandbox *box, struct client *ret_client, struct err *err);
/* The same for one that has just been started: its program may have ended, and its shim still waits
 * for us. */
int client_connect(
	struct cli *cli, const struct sandbox *box, struct client *ret_client, struct err *err);
void client_close(struct client *client);

/*
 * One unary call. timeout_ns 0: none. *ret_answer (may be NULL):
 * protobuf_c_message_free_unpacked(). *ret_code (may be NULL): the exit code that the failure asks
 * for: 126, 127 or 125. 0 or -errno.
 */
int client_unary(struct client *client, const char *path, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *out, int64_t timeout_ns, ProtobufCMessage **ret_answer,
	int *ret_code, struct err *err);

/* Why a sandbox without a shim cannot be talked to. Returns -errno. */
int client_not_running(const struct sandbox *box, struct err *err);

/* A failed call as one line and as exit code: 127 not found and 126 cannot execute for what the
 * guest could not start, else 125. */
int client_failure(const struct rpc_status *status, const char *name, struct err *err);

#define auto_client __attribute__((cleanup(client_close)))
