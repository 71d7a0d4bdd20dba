/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the shim of a Docker container share. The engine runs the container, with our
 * agent as its process 1: docker-make.c (what the engine is asked to make, and the agent in it),
 * docker.c (start, exit), docker-tunnel.c (the agent's end of the session), docker-record.c (what
 * has to outlive a shim).
 *
 * A container without an agent, or whose agent only a server elsewhere can reach, is "direct": then
 * docker-logs.c has its output, and docker-direct.c signals and stops it, both by the engine.
 */
#pragma once

#include "driver/docker/engine.h"
#include "image/digest.h"
#include "shim/shim.h"
#include "tunnel/acceptor.h"

#define DOCKER_TOKEN_LEN   64	      /* hex digits */
#define DOCKER_AGENT_MAX   (64 * MIB) /* bytes of its binary */
#define DOCKER_ARMED_TIME  (60 * NSEC_PER_SEC)
#define DOCKER_TUNNEL_DIR  "/.micropod" /* in the container */
#define DOCKER_TUNNEL_NAME "sock"
#define DOCKER_AGENT_NAME  "agent"
#define DOCKER_RECORD	   "docker.json" /* in the sandbox's folder, beside ... */
#define DOCKER_FOLDER	   "tunnel"	 /* ... what the container sees as DOCKER_TUNNEL_DIR */

/* docker-record.c */

struct docker_record {
	char *container;  /* the engine's id; NULL: not made yet */
	char *token;	  /* digest of the token in its environment */
	char *credential; /* digest of what its agent comes back with; NULL: none yet */
};

/* A missing file gives an empty record. 0 or -errno with err. */
int docker_record_read(int dfd, struct docker_record *ret_record, struct err *err);
int docker_record_write(int dfd, const struct docker_record *record, struct err *err);
void docker_record_deinit(struct docker_record *record);

/* docker-network.c */

/* Whether it is to be on a network that may have to be made. */
bool docker_network_is_named(const struct sandbox_config *config);
/* What the engine is asked: GET and POST ("/networks/create") for it, and POST to remove it if it
 * is ours and nobody is on it. 0 or -errno. */
int docker_network_path(const struct sandbox_config *config, struct strbuf *out);
json_t *docker_network_body(const struct sandbox_config *config);
int docker_network_prune_path(const struct sandbox_config *config, struct strbuf *out);
/* Whether another sandbox is made for it, running or not. Blocks on the disk. */
bool docker_network_is_wanted(struct sandbox_root *root, const struct sandbox_config *config);

/* docker-logs.c */

struct docker_log {
	bool open; /* more may come */
	uint8_t head[8];
	unsigned have;	  /* bytes of the head */
	uint32_t left;	  /* of the frame's */
	uint64_t skip[2]; /* bytes of stdout and stderr that are in the log already */
};

struct docker {
	struct shim *shim;
	struct engine *engine;
	struct docker_record record;
	bool making; /* the engine has been asked to, and has not answered */
	bool direct; /* no session with an agent */
	struct docker_log log;
	bool exit_known; /* and told as soon as the log has ended: exit */
	Micropod__Agent__V1__Exit exit;
	bool made;	     /* by this start: its failure removes it */
	bool running;	     /* as far as we know */
	bool removing;	     /* it has been asked to remove it */
	bool gone;	     /* and the shim has been told */
	bool network_there;  /* the one it is to be on */
	bool looked;	     /* for one of ours that no record names */
	struct err conflict; /* why it was looked for */
	bool same_run;	     /* its agent has come back: not started since a shim before us */
	int exit_code;	     /* as the engine has it, once it does not run */
	struct strbuf tar;
	struct strbuf words; /* the last of its output, when it has failed */

	/* docker-tunnel.c */
	struct rpc_server *server;
	struct tunnel_acceptor *acceptor;
	struct tunnel_peer *peer;
	struct io_stream *parked;
	bool wanted;	     /* a stream, for a session */
	int64_t armed_until; /* 0: the token is not good */
	unsigned refused;
};

/* docker-make.c */

#define DOCKER_LABEL	     "dev.micropod.sandbox" /* the sandbox' id */
#define DOCKER_NETWORK_LABEL "dev.micropod.network" /* its name: it was made for sandboxes */

/* The engine's id of an inspected container, if that is this sandbox'; NULL: it is somebody else's.
 * Borrowed. */
const char *docker_is_ours(const json_t *inspected, const struct sandbox_config *config);

/* The binary that goes in, checked to fit the image. 0, or -errno with err. */
int docker_agent_file(const struct sandbox_config *config, char **ret_path, struct err *err);
/* Whether the agent cannot be copied to its place, since that is read-only or hidden. */
bool docker_place_is_hidden(const struct sandbox_config *config);
/* An archive with the agent at config->agent_path; make_folder: and the folder that it is in. */
int docker_agent_tar(const struct sandbox_config *config, const char *file, bool make_folder,
	struct strbuf *out, struct err *err);
/* The body of the request that makes the container; token: for its environment. folder: on this
 * host, absolute. NULL with err. */
json_t *docker_container(
	const struct shim *shim, const char *folder, const char *token, struct err *err);

/* docker-tunnel.c */

int docker_tunnel_open(struct docker *d, struct err *err);
void docker_tunnel_close(struct docker *d);
/* The token is good once, from now for a while. */
void docker_tunnel_arm(struct docker *d);
/* A stream as soon as there is one: docker_on_session() follows. */
void docker_tunnel_want(struct docker *d);

/* docker-logs.c */

/* From where the shim's log ends; docker_on_log_end() follows. 0 or -ENOMEM. */
int docker_logs_follow(struct docker *d);

/* docker-direct.c: as in struct shim_backend */

void docker_stop(struct shim *shim, const char *signal, int64_t grace_ns);
void docker_signal(struct shim *shim, int number, struct rpc_call *call);

/* docker-change.c: as in struct shim_backend */

void docker_change(struct shim *shim, struct shim_change *change);
int docker_check_limits(const struct shim *shim, struct err *err);

/* docker.c */

extern const struct shim_backend shim_docker;
/* A stream to the agent has been made the shim's channel. */
void docker_on_session(struct docker *d);
/* The engine has no more output of it for now. */
void docker_on_log_end(struct docker *d);
/* Sends a request about our container, whose id stands between before and after. body: stolen. */
void docker_ask(struct docker *d, const char *method, const char *before, const char *after,
	json_t *body, int64_t timeout, engine_done done);
