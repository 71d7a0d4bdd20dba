/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's folder: config.json, the files that are bound into it (resolv.conf, hosts,
 * hostname), and its root when that is made of disks. Everything here touches the container's files
 * and disks and so runs in a worker.
 */
#pragma once

#include "agent/api.h"
#include "agent/mounts.h"
#include "base/strbuf.h"
#include "oci/rlimit.h"
#include "oci/user.h"

#define BUNDLE_BLOB "exec.blob" /* argv, env and cwd that JSON cannot carry (oci/spec.h) */
#define BUNDLE_INIT "init"

struct bundle {
	const API(CreateContainerRequest) * req;
	const char *dir;	  /* the bundle */
	const char *cgroups_path; /* "/containers/<id>" */
	const char *hostname;
	bool bpf;    /* the runtime takes a compiled seccomp filter (crun) */
	int self_fd; /* the agent's binary, for `init` */
};

/* What the worker hands back, as bytes. */
struct bundle_result {
	bool blob; /* there is a BUNDLE_BLOB */
};

/* For worker_opts: arg is a struct bundle; the result a struct bundle_result. What it made is left
 * behind on failure. */
int bundle_make(void *arg, struct strbuf *result, struct err *err);

/* The same for removing: arg is a struct bundle of which dir and req->disks' presence count. */
struct bundle_removal {
	const char *id, *dir, *cgroups_path;
	bool disks;
};
int bundle_remove(void *arg, struct strbuf *result, struct err *err);

/* The capabilities a request asks for, as a mask. 0 or -EINVAL with err. */
int bundle_caps(const API(CreateContainerRequest) * req, uint64_t *ret_caps, struct err *err);

/* What a request says of its disks; strings are borrowed. */
struct mounts_root_disks bundle_root_disks(const API(RootDisks) * disks);

/* The limits a request asks for over Docker's defaults. out[OCI_RLIMIT_MAX]. 0 or -errno with err.
 */
int bundle_rlimits(const API(CreateContainerRequest) * req, struct oci_rlimit *out, size_t *ret_n,
	struct err *err);

/* Writes resolv.conf, hosts and hostname into the bundle's folder. 0 or -errno with err. */
int bundle_write_names(const struct bundle *b, struct err *err);
