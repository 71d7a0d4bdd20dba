/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks with names: ROOT/networks/<name>/ holds network.json and, in members/, the sockets where
 * the micropod-net of running sandboxes meet (net/bus.h). A sandbox on one has an address of it
 * from its creation to its removal, which its configuration says. All block on the disk.
 */
#pragma once

#include "base/strv.h"
#include "net/bridge.h"
#include "sandbox/config.h"
#include "sandbox/root.h"

/* What --network takes besides names, for a sandbox alone. */
#define NETWORK_PRIVATE	 "private-only"
#define NETWORK_INTERNET "internet-only"

struct network {
	char name[LIMIT_NAME + 1];
	char id[ID_LEN + 1];
	uint32_t subnet; /* host byte order */
	unsigned prefix;
	bool internal; /* nothing outside it is reached */
	bool bridged;  /* on a bridge of the host's, network_bridge() */
	int64_t created_ns;
	struct strv labels; /* KEY=VALUE */
};

void network_deinit(struct network *network);
#define auto_network __attribute__((cleanup(network_deinit)))

/* Makes it. subnet: "10.89.0.0/24", NULL: one that no other has. -EEXIST with err if there is one.
 * 0 or -errno with err, and then nothing is left. */
int network_create(struct sandbox_root *root, const char *name, const char *subnet, bool internal,
	bool bridged, const struct strv *labels, struct err *err);

/* The name of its bridge. */
void network_bridge(const struct network *network, char out[static BRIDGE_NAME]);

/* By name, or by the beginning of the id. -ENOENT with err if there is none. */
int network_load(
	struct sandbox_root *root, const char *word, struct network *ret_network, struct err *err);

/* Whether there is one: 0, or -ENOENT with err, which says how to make it. */
int network_check(struct sandbox_root *root, const char *word, struct err *err);

/* The names of all, sorted, appended. 0 or -errno with err. */
int network_list(struct sandbox_root *root, struct strv *names, struct err *err);

/* The name of a sandbox that is on it, running or not; false: none is. */
bool network_used(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1]);

/* One that is used: -EBUSY. 0 or -errno with err. */
int network_remove(struct sandbox_root *root, const char *word, struct err *err);

/* Whether the sandbox is on a network with a name. */
bool network_shared(const struct sandbox_config *config);

/* Gives a sandbox that is about to be made its address on its network: config->ip if that is set,
 * else a free one. Until *ret_lock (the caller's) is closed nobody else is given one, so the
 * configuration has to be written by then. 0 or -errno with err. */
int network_claim(
	struct sandbox_root *root, struct sandbox_config *config, int *ret_lock, struct err *err);

/* Makes sure that the network's bridge is there, also after a boot of the host. 0 or -errno with
 * err. */
int network_ready(struct sandbox_root *root, const struct sandbox_config *config, struct err *err);

/* Where the members meet; malloc'd, NULL without memory. */
char *network_folder(const struct sandbox_root *root, const char *name);

/* A sandbox that runs has another name now (config->name). What cannot be renamed keeps its name
 * for the others until its next start. */
void network_renamed(
	const struct sandbox_root *root, const struct sandbox_config *config, const char *old_name);

/* What a sandbox' guest is told, as text. */
struct network_plan {
	char address[16], gateway[16], dns[16];
	unsigned prefix;
};
void network_plan(const struct sandbox_config *config, struct network_plan *ret_plan);
