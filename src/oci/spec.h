/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as the agent sees it to config.json of the OCI runtime specification 1.0.2, with what
 * Docker sets by default.
 *
 * JSON is Unicode and argv is not. Runtimes refuse or change bytes that are not UTF-8, so args, env
 * and cwd that are not go beside the JSON: the spec then starts OCI_EXEC_ARGV0, a sealed copy of
 * the agent that the runtime hands down as descriptor OCI_EXEC_FD_AGENT, which takes the real argv,
 * env and cwd from OCI_EXEC_FD_BLOB and executes the program in its own place (oci/execblob.h).
 * Nothing of it shows in the container's file system.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"
#include "oci/rlimit.h"
#include "oci/user.h"

/* All pointers borrowed while a spec is made from it. */

struct oci_mount {
	const char *source;	    /* NULL: the type's name */
	const char *destination;    /* absolute, in the container */
	const char *type;	    /* NULL: "bind" */
	const char *const *options; /* NULL-terminated, or NULL */
};

/* What every container has, as Docker gives it: mounts in their order, paths that show nothing,
 * paths that cannot be written (NULL-terminated), limits. Of /dev/shm the size is missing. */
extern const struct oci_mount oci_mounts_default[];
extern const size_t oci_mounts_default_n;
extern const char *const oci_masked_paths[], *const oci_read_only_paths[];
extern const struct oci_rlimit oci_rlimits_default[];
extern const size_t oci_rlimits_default_n;
#define OCI_SHM_DEFAULT (64 * MIB)

struct oci_resources {
	uint64_t memory;     /* bytes; 0: no limit */
	int64_t memory_swap; /* memory plus swap, bytes; 0: as memory, -1: no limit */
	uint64_t cpu_milli;  /* thousandths of a CPU; 0: no limit */
	uint64_t cpu_shares; /* Docker's, 2..262144; 0: the default */
	int64_t pids;	     /* 0 or -1: no limit */
	const char *cpuset;  /* "0-1", or NULL */
};

/* A device node that is made in the container and may be used there. */
struct oci_device {
	const char *path; /* in the container */
	bool block;
	unsigned major, minor;
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
	const char *access; /* of "rwm" */
};

struct oci_pair {
	const char *key, *value;
};

enum oci_seccomp {
	OCI_SECCOMP_NONE, /* no filter, or one that is loaded by someone else */
	OCI_SECCOMP_JSON, /* the default profile in linux.seccomp: any runtime, slower to start */
	OCI_SECCOMP_BPF,  /* the filter below, in crun's annotation run.oci.seccomp_bpf_data */
};

struct oci_container {
	const char *const *args; /* NULL-terminated, at least one */
	const char *const *env;	 /* NULL-terminated KEY=VALUE, or NULL; see oci_env_defaults() */
	const char *cwd;	 /* NULL or "": "/" */
	const struct oci_user *user; /* NULL: root without further groups */
	bool tty;
	unsigned rows, columns; /* of the terminal; 0: not said */
	uint64_t caps;	 /* bit mask (oci/caps.h): bounding, permitted, effective; inheritable and
			    ambient stay empty */
	bool privileged; /* all capabilities (caps is not read), /sys writable, no masked or
			    read-only paths, all devices, no seccomp */
	bool no_new_privileges;
	const struct oci_rlimit *rlimits;
	size_t n_rlimits;
	const char *rootfs; /* root.path: absolute, in the guest */
	bool read_only_root;
	const char *hostname;		/* UTS namespace */
	const struct oci_mount *mounts; /* after the default ones, in this order; one with the same
					   destination as a default takes its place */
	size_t n_mounts;
	uint64_t shm_size;		      /* of /dev/shm; 0: 64 MiB */
	bool own_network;		      /* a network namespace of its own; else the guest's */
	bool share_ipc, share_pid, share_uts; /* the guest's instead of own ones */
	const char *cgroups_path;	      /* "/containers/<id>" */
	struct oci_resources resources;
	const struct oci_device *devices;
	size_t n_devices;
	const struct oci_pair *sysctls;
	size_t n_sysctls;
	const struct oci_pair *annotations;
	size_t n_annotations;
	int oom_score_adj;
	enum oci_seccomp seccomp;
	const void *seccomp_bpf; /* OCI_SECCOMP_BPF: struct sock_filter[], borrowed */
	size_t seccomp_bpf_len;	 /* bytes */
};

/* The runtime must hand these down (crun and runc: --preserve-fds=2) when blob is set. */
#define OCI_EXEC_FD_BLOB  3
#define OCI_EXEC_FD_AGENT 4
#define OCI_EXEC_ARGV0	  "/proc/self/fd/4"

struct oci_spec {
	char *json; /* NUL-terminated */
	size_t json_len;
	void *blob; /* NULL unless args, env or cwd are not UTF-8: to be written to descriptor
		       OCI_EXEC_FD_BLOB */
	size_t blob_len;
};

void oci_spec_deinit(struct oci_spec *spec);
#define auto_oci_spec __attribute__((cleanup(oci_spec_deinit)))

/* Makes the spec. 0, -EINVAL (err names the field), -E2BIG (args and env over LIMIT_ARGV) or
 * -ENOMEM. */
int oci_spec_make(
	const struct oci_container *container, struct oci_spec *ret_spec, struct err *err);

/*
 * A whole spec from outside: at most LIMIT_OCI_SPEC bytes of valid JSON with process.args (a
 * non-empty array of strings) and root. root.path is replaced by rootfs (unless NULL: then
 * root.path must be there and absolute), linux.cgroupsPath by cgroups_path unless NULL; all else
 * stays as given. *ret_terminal: process.terminal. 0, -EFBIG, -EINVAL or -ENOMEM with err.
 */
int oci_spec_merge_full(const void *json, size_t len, const char *rootfs, const char *cgroups_path,
	struct oci_spec *ret_spec, bool *ret_terminal, struct err *err);

/*
 * Puts in front of env what Docker gives every container: PATH, HOSTNAME, TERM=xterm with a
 * terminal, and behind it HOME unless set. A variable of env wins over a default. 0 or -ENOMEM.
 */
int oci_env_defaults(struct strv *env, const char *hostname, bool tty, const char *home);
