/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's user syntax (USER of an image, `-u`) against a container's own passwd(5) and group(5)
 * files, whose bytes are the image's and therefore hostile. Nothing here opens a file or calls
 * getpw*() or getgr*().
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define OCI_GROUPS_MAX 256 /* supplementary groups of one user */
#define OCI_HOME_MAX   1024

struct oci_user {
	uid_t uid;
	gid_t gid;
	size_t n_groups;
	gid_t groups[OCI_GROUPS_MAX]; /* sorted, each once */
	char home[OCI_HOME_MAX];      /* from passwd; "/" when there is none */
};

/* Contents of the container's /etc/passwd and /etc/group; NULL with length 0 for a file that is not
 * there. At most LIMIT_PASSWD_FILE each. */
struct oci_user_files {
	const char *passwd, *group;
	size_t passwd_len, group_len;
};

/* A word that names a user or a group: bytes, not NUL-terminated. */
struct oci_word {
	const char *data;
	size_t len;
};

/*
 * spec: "", "name", "uid", "name:group", "uid:gid", ...; empty is root. A number that no line names
 * is taken as it is (0 to 2^31-1), a name that no line has is -ENOENT. Without ":group" the user's
 * groups of the group file are added; with it only that group holds. additional: names or numbers
 * of further groups (--group-add). Lines that are not as passwd(5) says are passed over, the first
 * that fits wins, as in Docker. Returns 0, -ENOENT, -EINVAL, -EFBIG (a file over its limit), -E2BIG
 * (more than OCI_GROUPS_MAX groups), with err.
 */
int oci_user_lookup(struct oci_word spec, const struct oci_word *additional, size_t n_additional,
	const struct oci_user_files *files, struct oci_user *ret_user, struct err *err);
