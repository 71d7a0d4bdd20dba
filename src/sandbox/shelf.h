/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things with names that sandboxes use and that outlive them: each is a folder ROOT/<shelf>/<name>/
 * with a record. It is filled under a temporary name and renamed in, renamed out and then deleted;
 * a name is taken and given up under the shelf's lock. All block on the disk.
 */
#pragma once

#include <jansson.h>

#include "base/strv.h"
#include "sandbox/config.h"
#include "sandbox/root.h"

struct shelf {
	const char *folder; /* "volumes" */
	const char *what;   /* "volume" */
};

/* The shelf's folder, made when it is first wanted, and its lock (both the caller's). fd or -errno
 * with err. */
int shelf_open(
	const struct shelf *shelf, struct sandbox_root *root, int *ret_lock, struct err *err);

/* Makes a thing that is not there yet; fill is given its open folder. 0, -EEXIST, or -errno, and
 * then nothing is left. The caller has the lock. */
int shelf_make(int folder, const char *name, int (*fill)(int dir, void *arg), void *arg);

/* The open folder of a thing, or -errno with err: -ENOENT if there is none. */
int shelf_item(
	const struct shelf *shelf, struct sandbox_root *root, const char *name, struct err *err);

/* The names of all, sorted, appended. 0 or -errno with err. */
int shelf_list(
	const struct shelf *shelf, struct sandbox_root *root, struct strv *names, struct err *err);

/* The name of a sandbox, running or not, of which uses() is true; false: of none. One that cannot
 * be read may use anything. */
bool shelf_used(struct sandbox_root *root,
	bool (*uses)(struct sandbox_root *root, const struct sandbox_config *config, void *arg),
	void *arg, char by[static LIMIT_NAME + 1]);

/* Deletes a thing with all that is in it. The caller has the lock, and knows that nobody uses it. 0
 * or -errno with err. */
int shelf_take(const struct shelf *shelf, int folder, const char *name, struct err *err);

/* {"created": NOW, "labels": [...], ...more} into the thing's folder as <what>.json, and back:
 * *ret_more is the caller's to free. 0 or -errno. */
int shelf_write_record(const struct shelf *shelf, int dir, const struct strv *labels, json_t *more);
int shelf_read_record(const struct shelf *shelf, int dir, int64_t *ret_created_ns,
	struct strv *labels, json_t **ret_more);
