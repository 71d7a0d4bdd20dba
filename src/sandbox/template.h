/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved VMs that sandboxes start from:
 * ROOT/templates/<key>/{ram,state,template.json,used,verified}. The key is a hash of everything
 * that the saved state depends on (driver.h, identity), so one that does not fit is never found. A
 * folder is filled under another name and renamed in; one that is there is whole. Those that have
 * not been used for longest go when there are too many. All block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "sandbox/root.h"

#define TEMPLATE_KEY_LEN       32	 /* hex digits */
#define TEMPLATE_LIMIT_DEFAULT (4 * GIB) /* of all together */

/* The key for an identity. out[TEMPLATE_KEY_LEN + 1]. */
void template_key(const struct strbuf *identity, char out[static TEMPLATE_KEY_LEN + 1]);

/* What a template is, for people. */
struct template_info {
	char key[TEMPLATE_KEY_LEN + 1];
	int64_t created_ns, used_ns;
	uint64_t memory; /* of the VM */
	unsigned cpus, slots;
	bool network;
	char *kernel, *vmm, *accel, *runtime;
	uint64_t bytes; /* on the disk */
};

void template_info_deinit(struct template_info *info);

/* One to start from: the descriptors stay good whatever becomes of the folder. */
struct template
{
	char key[TEMPLATE_KEY_LEN + 1];
	int ram_fd, state_fd; /* read-only */
	char vmm[64];	      /* the VMM's version */
};

void template_close(struct template *t);

/*
 * Opens the template and counts it as used. Size, inode and ctime of the memory and the hash of the
 * state are compared with what was written down, the hash of the memory too the first time after
 * the host's start. 0; -ENOENT: there is none; -EBADMSG with err: it was damaged, and has been
 * removed; -errno with err.
 */
int template_open(
	struct sandbox_root *root, const char *key, struct template *ret, struct err *err);

/* One that is being made. */
struct template_build {
	struct sandbox_root *root;
	char key[TEMPLATE_KEY_LEN + 1];
	int lock_fd, dfd;
	char *ram_path; /* absolute; as large as the VM's memory, empty */
	int state_fd;
};

/*
 * Begins to make it. wait: until others that make the same one are done. 0; -EEXIST: it is there
 * (now); -EALREADY: somebody else is making it; -errno with err. Nothing is left of a build that
 * was killed.
 */
int template_begin(struct sandbox_root *root, const char *key, uint64_t memory, bool wait,
	struct template_build *ret, struct err *err);

/* The VM is saved and gone: makes it a template. info->key, created_ns, used_ns and bytes are not
 * read. 0 or -errno with err. The build is over in either case. */
int template_publish(struct template_build *b, const struct template_info *info, struct err *err);

/* Gives up. why: kept, and told by template_failure(); NULL: nothing is kept. */
void template_abort(struct template_build *b, const char *why);

enum template_failure {
	TEMPLATE_NOT_FAILED,
	TEMPLATE_FAILED, /* why has not been told yet */
	TEMPLATE_FAILED_TOLD,
};

/* Whether making it failed lately, so that it is not worth trying again just now. Why, one line, to
 * out: once, then it counts as told. */
enum template_failure template_failure(
	struct sandbox_root *root, const char *key, char *out, size_t size);

/* Whether somebody is making it just now. */
bool template_building(struct sandbox_root *root, const char *key);

/* All templates, the last used one first. *ret_infos malloc'd, each to be deinited. 0 or -errno. */
int template_list(struct sandbox_root *root, struct template_info **ret_infos, size_t *ret_n,
	struct err *err);

/* By key or a prefix that only one has. Running sandboxes keep what they have. -ENOENT, -ENOTUNIQ.
 */
int template_remove(struct sandbox_root *root, const char *word, struct err *err);

/* Compares everything, the memory's hash too. 0; -EBADMSG with err: damaged, and removed. */
int template_verify(struct sandbox_root *root, const char *key, struct err *err);

/* Removes the longest unused ones until all together take at most max_bytes; keep (or NULL) stays.
 */
int template_evict(
	struct sandbox_root *root, uint64_t max_bytes, const char *keep, struct err *err);

/* Removes what killed builds and removals left. */
int template_sweep(struct sandbox_root *root, struct err *err);
