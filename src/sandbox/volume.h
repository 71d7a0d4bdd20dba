/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes with names: ROOT/volumes/<name>/ holds volume.json and _data, which sandboxes share. A
 * volume outlives them; who uses it is what their configurations say. All block on the disk.
 */
#pragma once

#include "base/strv.h"
#include "sandbox/root.h"

#define VOLUME_DATA "_data"

struct volume {
	char name[LIMIT_NAME + 1];
	char *path; /* of _data, absolute */
	int64_t created_ns;
	struct strv labels; /* KEY=VALUE */
};

void volume_deinit(struct volume *volume);
#define auto_volume __attribute__((cleanup(volume_deinit)))

/* Whether a name can be one: as sandboxes' (base/id.h). */
bool volume_name_valid(const char *name);

/* Makes it, unless it is there already. ret_volume: volume_deinit(). 0 or -errno with err, and then
 * nothing is left. */
int volume_create(struct sandbox_root *root, const char *name, const struct strv *labels,
	struct volume *ret_volume, struct err *err);

/* -ENOENT with err if there is none. */
int volume_load(
	struct sandbox_root *root, const char *name, struct volume *ret_volume, struct err *err);

/* The names of all, sorted, appended. 0 or -errno with err. */
int volume_list(struct sandbox_root *root, struct strv *names, struct err *err);

/* The name of the volume whose data lie at this path of a sandbox' configuration; false: it is a
 * folder of the host's. */
bool volume_of(const struct sandbox_root *root, const char *path, char name[static LIMIT_NAME + 1]);

/* The name of a sandbox that uses it, running or not; false: none does. */
bool volume_used(struct sandbox_root *root, const char *name, char by[static LIMIT_NAME + 1]);

/* Where the data of a new volume without a name will lie; malloc'd, NULL: no memory. */
char *volume_anonymous_path(const struct sandbox_root *root);

/* Makes those of a sandbox' volumes (words: its configuration's) without a name that are not there
 * yet. 0 or -errno with err, and then none is left. */
int volume_make_anonymous(struct sandbox_root *root, const struct strv *words, struct err *err);

/* Removes those volumes without a name that no sandbox uses any more. */
void volume_remove_anonymous(struct sandbox_root *root, const struct strv *words);

/* With all that is in it. One that is used: -EBUSY. 0 or -errno with err. */
int volume_remove(struct sandbox_root *root, const char *name, struct err *err);
