/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes on the disk: making, finding, starting, removing. Every crash at any point leaves what
 * ps shows truly and rm removes: folders are filled under a temporary name and renamed, a sandbox
 * is alive exactly while its lock is held, and the lock is the shim's for its whole life. All
 * block.
 */
#pragma once

#include "sandbox/config.h"
#include "sandbox/root.h"

/* One sandbox as it is now. */
struct sandbox {
	struct sandbox_config config;
	struct sandbox_state state; /* phase: DEAD if its shim died */
};

void sandbox_deinit(struct sandbox *box);

/*
 * Makes the folder, configuration, scratch disk and name. config->id is filled in, the name too if
 * empty. A name that is taken: -EEXIST. scratch: function that makes the disk at a path
 * (image/disk.h). 0 or -errno, and then nothing is left.
 */
int sandbox_create(struct sandbox_root *root, struct sandbox_config *config,
	int (*make_scratch)(const char *path, uint64_t bytes, void *arg, struct err *err),
	void *arg, struct err *err);

/* Reads config and state and checks the lock. id: whole. 0, -ENOENT, -errno. */
int sandbox_load(
	struct sandbox_root *root, const char *id, struct sandbox *ret_box, struct err *err);

/* By name, whole id, or a prefix of an id that only one has: its id to out. -ENOENT, -ENOTUNIQ. */
int sandbox_find(
	struct sandbox_root *root, const char *word, char out[static ID_LEN + 1], struct err *err);

/* The ids of all sandboxes, sorted by age, youngest first, to ids (appended). 0 or -errno. */
int sandbox_list(struct sandbox_root *root, struct strv *ids, struct err *err);

struct sandbox_start_opts {
	unsigned timeout_s; /* from the shim's start to the running process */
	bool adopt; /* no start: another shim for what an engine still runs, whose own has died */
	bool detached; /* nobody will come to read along; else the VM waits for Start to end */
	unsigned rows, columns;		  /* of the caller's terminal; 0: it has none */
	int log_level;			  /* enum log_level for the shim's log */
	void (*notice)(const char *text); /* what the user should see; NULL: it is dropped */
};

/*
 * Starts the shim of a created or ended sandbox and waits until it says that the program
 * runs. A previous shim that is just ending is waited for. *ret_exit: what the command line should
 * exit with on failure (125, 126, 127). After a failure the guest console's last lines are at the
 * end of console.log in the sandbox's folder, which begins anew at each start. 0 or -errno.
 */
int sandbox_start(struct sandbox_root *root, const char *id, const struct sandbox_start_opts *opts,
	int *ret_exit, struct err *err);

/*
 * Removes a sandbox that is not running; with force its shim is killed first (and with it the VM).
 * A missing one is -ENOENT; a running one without force -EBUSY. 0 or -errno.
 */
int sandbox_remove(struct sandbox_root *root, const char *id, bool force, struct err *err);

/* The same for its shim itself, which holds the lock. */
int sandbox_remove_held(
	struct sandbox_root *root, const char *id, const char *name, struct err *err);

/* Removes what crashes left: half-made and half-removed folders, names and run folders without a
 * sandbox. */
int sandbox_sweep(struct sandbox_root *root, struct err *err);

/*
 * Writes state.json. Only the holder of the lock may. On a full disk it takes the room that
 * sandbox_reserve() has set aside. 0 or -errno.
 */
int sandbox_save_state(struct sandbox_root *root, const char *id, const struct sandbox_state *state,
	struct err *err);

/* Writes config.json anew. Only the holder of the lock may. 0 or -errno. */
int sandbox_save_config(
	struct sandbox_root *root, const struct sandbox_config *config, struct err *err);

/* Gives it another name, in config too, and says so in the events. Only the holder of the lock may.
 * A name that is taken: -EEXIST. 0 or -errno, and then all is as it was. */
int sandbox_rename(struct sandbox_root *root, struct sandbox_config *config, const char *name,
	struct err *err);

/* The lock of a sandbox that nobody runs: a descriptor, closed by the caller, or -EBUSY, -errno
 * with err. Whoever has it is waited for, up to 20 s. */
int sandbox_lock(struct sandbox_root *root, const char *id, struct err *err);

/* Sets room aside, so that the end of a sandbox can be written down also when it has filled the
 * disk. 0 or -errno. */
int sandbox_reserve(struct sandbox_root *root, const char *id, struct err *err);

/* Waits until nobody holds the sandbox's lock, i.e. its shim has gone. 0, -ETIMEDOUT. */
int sandbox_wait_gone(struct sandbox_root *root, const char *id, int64_t deadline);
