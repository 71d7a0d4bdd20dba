/* SPDX-License-Identifier: Apache-2.0 */
/* argv, environment and cwd as bytes in one blob: how those that JSON cannot carry reach a
 * container's first process. */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct oci_exec {
	char **args, **env; /* NULL-terminated; point into data */
	const char *cwd;
};

/* *ret_blob: malloc'd. cwd may be NULL: "/". 0, -E2BIG (over LIMIT_ARGV) or -ENOMEM. */
int oci_execblob_encode(const char *const *args, const char *const *env, const char *cwd,
	void **ret_blob, size_t *ret_len);

/* Reads a blob; args and env of *ret_exec are malloc'd arrays into blob. 0, -EBADMSG or -ENOMEM. */
int oci_execblob_decode(char *blob, size_t len, struct oci_exec *ret_exec);

/*
 * `micropod-agent exec-blob`: reads OCI_EXEC_FD_BLOB, closes what it was handed, and becomes the
 * program, looked up in the blob's PATH. Does not return on success. Returns the exit code a shell
 * would give, 126 or 127, after a line on stderr; its name (PR_SET_NAME) then says why.
 */
int oci_execblob_main(void);

/* The errno that such a process left in its name when it ended; 0 for any other name. */
int oci_execblob_errno(const char *name);
