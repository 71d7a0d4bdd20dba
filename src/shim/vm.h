/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim of a VM has besides: templates to start from, and folders that are shared with the
 * guest. */
#pragma once

#include "shim/shim.h"

/* The drivers that this program has, NULL-terminated; of its main file. */
extern const struct driver *const shim_drivers[];

/* template.c */

/* Looks for a template of shim->machine, and notes what is to be made otherwise. */
void shim_find_template(struct shim *shim);
/* The guest did not go on from it. */
void shim_drop_template(struct shim *shim, const char *why);
/* Has the one that was missing made, by a process of its own that outlives us. */
void shim_make_template(struct shim *shim);

/* boot.c: what a container in a VM is asked for and changed with, whoever has the VM */

/* Has it made, and reads along; on the way to a running one, or to shim_fail(). */
void shim_ask_for_container(struct shim *shim);
/* As the backend's change. */
void shim_change_container(struct shim *shim, struct shim_change *change);

/* pod.c: those whose pod this VM is */

void shim_do_join(struct rpc_call *call, void *shim);

/* publish.c: the ports of a VM without a network */

struct net_port;
struct shim_publish;

/* Listens on them, with the numbers of those that were left to chance put in. 0 or -errno with err.
 */
int shim_publish(struct shim *shim, struct net_port *ports, size_t n, struct err *err);
/* The container runs: who comes is let in. */
void shim_publish_open(struct shim *shim);
void shim_unpublish(struct shim *shim);

/* vsock.c: the session over vsock, where the configuration wants it */

struct shim_vsock;

/* Begins to serve the device that the VM will be given. 0 or -errno with err. */
int shim_start_vsock(struct shim *shim, struct err *err);
/* There is a session over the serial port: has it replaced, then done comes. Fails by shim_fail().
 */
void shim_join_by_vsock(struct shim *shim, void (*done)(struct shim *shim));
/* As shim_make_channel(), for a session over whatever there is; over vsock the key goes first. 0 or
 * -errno. */
int shim_vsock_session(struct shim *shim, struct io_stream *stream);
/* The unix socket that leads to the guest's ports; NULL: there is none. */
const char *shim_vsock_path(const struct shim *shim);
void shim_stop_vsock(struct shim *shim);

/* shares.c: the folders and files of the host that the container sees */

/* Of the image, where it is shared as a folder. */
#define SHIM_ROOT_TAG "container_rootfs"

struct shim_share {
	struct shim *shim;
	const char *source, *target; /* borrowed from the configuration */
	bool read_only;
	char tag[20];
	pid_t pid; /* of the daemon; 0: it does not run */
	struct loop_child child;
	int socket; /* for the VMM; -1 once it has it */
	bool file;
};

/* Starts the daemons that serve them. 0 or -errno with err. */
int shim_start_shares(struct shim *shim, struct err *err);
/* Gives them to the VM, one after the other; done comes when all are there. Fails by shim_fail().
 */
void shim_plug_shares(struct shim *shim, void (*done)(struct shim *shim));
/* Kills the daemons. */
void shim_stop_shares(struct shim *shim);
