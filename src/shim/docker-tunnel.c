/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket that the container's agent dials, in a folder of the sandbox that is mounted into the
 * container: so it is the same for every shim of the sandbox, in every network. Token and
 * credential are kept as digests.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "io/addr.h"
#include "shim/docker.h"

#define PARKED 1

static bool matches(const ProtobufCBinaryData *secret, const char *digest)
{
	char theirs[DIGEST_SIZE];

	return digest && strlen(digest) == DIGEST_LEN &&
	       digest_of(secret->data, secret->len, theirs) == 0 &&
	       secret_equal(theirs, digest, DIGEST_LEN);
}

static int on_enrol(
	void *arg, const Micropod__Tunnel__V1__Hello *hello, char *name, struct err *err)
{
	struct docker *d = arg;

	snprintf(name, TUNNEL_PEER_NAME, "%s", SANDBOX_CONTAINER_ID);
	d->same_run = hello->credential.len > 0;
	if (hello->credential.len && matches(&hello->credential, d->record.credential))
		return 0;
	if (hello->token.len && matches(&hello->token, d->record.token)) {
		if (d->armed_until > clock_monotonic()) {
			d->armed_until = 0;
			return 0;
		}
		log_warning("audit: the token was used a second time, or too late: refused");
		d->refused++;
		return err_set(err, EACCES, "the token has been used, or is too old");
	}
	log_warning("audit: an agent with a wrong %s: refused",
		hello->token.len ? "token" : "credential");
	return err_set(err, EACCES, "the token or credential is wrong");
}

static void on_begun(void *arg, struct tunnel_peer *peer, const uint8_t *credential)
{
	struct docker *d = arg;
	char digest[DIGEST_SIZE];
	struct err err = ERR_INIT;

	d->peer = peer;
	log_info("the agent has registered");
	free(d->record.credential);
	d->record.credential =
		digest_of(credential, TUNNEL_CREDENTIAL_SIZE, digest) == 0 ? strdup(digest) : NULL;
	if (docker_record_write(d->shim->dfd, &d->record, &err) < 0)
		log_error("%s: a shim after this one cannot be found by the agent", err.msg);
}

static void use(struct docker *d, struct io_stream *stream)
{
	d->wanted = false;
	stream->on_event = NULL;
	if (shim_make_channel(d->shim, stream) < 0) {
		io_stream_free(stream);
		shim_lost(d->shim, "out of memory");
		return;
	}
	docker_on_session(d);
}

static void on_parked_event(void *arg, uint32_t events)
{
	struct docker *d = arg;
	char byte;

	if (io_stream_read(d->parked, &byte, 1) != -EAGAIN)
		d->parked = io_stream_free(d->parked);
}

static void on_stream(void *arg, struct tunnel_peer *peer, struct io_stream *stream)
{
	struct docker *d = arg;

	if (d->wanted) {
		use(d, stream);
		return;
	}
	/* One is enough: the agent parks another when it is used. */
	io_stream_free(d->parked);
	d->parked = stream;
	stream->on_event = on_parked_event;
	stream->arg = d;
}

static void on_ended(void *arg, struct tunnel_peer *peer, const char *why)
{
	struct docker *d = arg;

	if (d->peer == peer)
		d->peer = NULL;
	log_info("the agent's session is over: %s", why);
}

static const struct tunnel_acceptor_ops ops = {
	.enrol = on_enrol, .begun = on_begun, .stream = on_stream, .ended = on_ended
};

int docker_tunnel_open(struct docker *d, struct err *err)
{
	struct rpc_server_opts opts = { .max_message = TUNNEL_MESSAGE_MAX };
	auto_free char *folder = sandbox_path(d->shim->root, d->shim->box.config.id, DOCKER_FOLDER);
	auto_free char *text = NULL;
	struct addr addr;
	int fd, r;

	if (!folder || asprintf(&text, "unix:%s/%s", folder, DOCKER_TUNNEL_NAME) < 0) {
		text = NULL;
		return err_errno(err, ENOMEM, "cannot wait for the agent");
	}
	/* Whoever the container runs as has to reach it; the sandbox's own folder is ours alone. */
	if ((mkdir(folder, 0755) < 0 && errno != EEXIST) || chmod(folder, 0755) < 0)
		return err_errno(err, errno, "cannot make the folder '%s'", folder);
	r = addr_parse(text, &addr, err);
	if (r < 0)
		return r;
	fd = addr_listen(&addr, 0666, err);
	if (fd < 0)
		return fd;
	/* bind(2) counts the umask. */
	if (chmod(addr.path, 0666) < 0) {
		safe_close(fd);
		return err_errno(err, errno, "cannot open '%s' to the container", addr.path);
	}
	r = rpc_server_new(d->shim->loop, &opts, &d->server);
	if (r == 0)
		r = tunnel_acceptor_new(d->shim->loop, d->server, PARKED, &ops, d, &d->acceptor);
	if (r == 0)
		return rpc_server_listen(d->server, fd) < 0
			       ? err_set(err, EIO, "cannot wait for the agent")
			       : 0;
	safe_close(fd);
	return err_errno(err, -r, "cannot wait for the agent");
}

void docker_tunnel_close(struct docker *d)
{
	d->parked = io_stream_free(d->parked);
	d->server = rpc_server_free(d->server);
	d->acceptor = tunnel_acceptor_free(d->acceptor);
}

void docker_tunnel_arm(struct docker *d)
{
	d->armed_until = deadline_in(DOCKER_ARMED_TIME);
}

void docker_tunnel_want(struct docker *d)
{
	struct io_stream *stream = d->parked;

	d->wanted = true;
	d->parked = NULL;
	if (stream)
		use(d, stream);
}
