/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/addr.h"
#include "rpc/failure.h"

#define DIAL_TIME (5 * NSEC_PER_SEC)

int client_not_running(const struct sandbox *box, struct err *err)
{
	const char *name = box->config.name;

	if (box->state.phase == SANDBOX_DEAD)
		return err_set(err, ESRCH,
			"sandbox '%s' is dead, its shim was killed: start it again (micropod start "
			"%s) or remove it "
			"(micropod rm %s)",
			name, name, name);
	return err_set(err, ESRCH,
		"sandbox '%s' is not running: start it first (micropod start %s)", name, name);
}

/* The channel dials once: a shim that is gone does not come back. */
static int dial(struct loop *loop, struct io_stream **ret_stream, void *arg, struct err *err)
{
	struct client *client = arg;
	struct addr addr;
	int fd, r;

	if (client->remote)
		return remote_dial(loop, ret_stream, client->remote, err);
	r = addr_parse(client->address, &addr, err);

	if (r < 0)
		return r;
	fd = addr_dial(&addr, deadline_in(DIAL_TIME), err);
	if (fd < 0)
		return err_wrap(err, "the shim of sandbox '%s' does not answer", client->name);
	r = io_stream_new_fd(loop, fd, ret_stream);
	return r < 0 ? err_errno(err, -r, "cannot talk to the shim of sandbox '%s'", client->name)
		     : 0;
}

int client_open(
	struct cli *cli, const struct sandbox *box, struct client *ret_client, struct err *err)
{
	return target_alive(box) ? client_connect(cli, box, ret_client, err)
				 : client_not_running(box, err);
}

int client_connect(
	struct cli *cli, const struct sandbox *box, struct client *ret_client, struct err *err)
{
	struct rpc_channel_opts opts = { .dial = dial, .arg = ret_client, .no_redial = true };
	auto_free char *path = NULL;
	int r;

	*ret_client = (struct client){ 0 };
	memcpy(ret_client->name, box->config.name, sizeof(ret_client->name));
	snprintf(ret_client->container, sizeof(ret_client->container), "%s",
		sandbox_container_id(&box->config));
	ret_client->remote = cli->remote;
	if (cli->remote) {
		remote_route(cli->remote, box->config.id, &ret_client->route);
		opts.headers = ret_client->route.headers;
		opts.n_headers = ret_client->route.n_headers;
		opts.authority = remote_authority(cli->remote);
	} else {
		path = sandbox_socket(cli->root, box->config.id);
		if (!path || asprintf(&ret_client->address, "unix:%s", path) < 0) {
			ret_client->address = NULL;
			return err_errno(
				err, ENOMEM, "cannot connect to sandbox '%s'", box->config.name);
		}
	}
	r = loop_new(&ret_client->loop);
	if (r == 0)
		r = rpc_channel_new(ret_client->loop, &opts, &ret_client->channel);
	if (r == 0)
		return 0;
	client_close(ret_client);
	return err_errno(err, -r, "cannot connect to sandbox '%s'", box->config.name);
}

void client_close(struct client *client)
{
	client->channel = rpc_channel_free(client->channel);
	client->loop = loop_free(client->loop);
	free(take_ptr(client->address));
}

int client_failure(const struct rpc_status *status, const char *name, struct err *err)
{
	rpc_status_to_err(status, err);
	if (status->code == RPC_UNAVAILABLE)
		err_wrap(err, "sandbox '%s' was lost (see micropod logs --system %s)", name, name);
	else if (status->code == RPC_UNIMPLEMENTED)
		err_set(err, ENOSYS,
			"sandbox '%s' was started by an older micropod, which cannot do this: "
			"start "
			"it anew (micropod restart %s)",
			name, name);
	else
		err_wrap(err, "sandbox '%s'", name);
	return rpc_failure_exit_code(status);
}

int client_unary(struct client *client, const char *path, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *out, int64_t timeout_ns, ProtobufCMessage **ret_answer,
	int *ret_code, struct err *err)
{
	struct rpc_call_opts opts = { .deadline =
					      timeout_ns ? deadline_in(timeout_ns) : DEADLINE_NONE,
		.retry = RPC_RETRY_NEVER };
	struct rpc_status status = RPC_STATUS_OK;
	int r = rpc_channel_unary(
		    client->channel, path, request, out, &opts, ret_answer, &status, err),
	    code = EXIT_MICROPOD;

	if (r < 0 && status.code != RPC_OK)
		code = client_failure(&status, client->name, err);
	rpc_status_deinit(&status);
	if (ret_code)
		*ret_code = r < 0 ? code : 0;
	return r;
}
