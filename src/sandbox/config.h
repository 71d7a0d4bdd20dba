/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox was asked to be (config.json, written by create, update and
 * rename) and what became of it
 * (state.json). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/strv.h"
#include "driver/driver.h"

#define SANDBOX_CONTAINER_ID "main" /* the container of a sandbox in its own guest */

#define SANDBOX_VOLUME_WORDS 3

struct sandbox_port {
	char host_ip[46]; /* numeric; empty: all */
	uint16_t host;	  /* 0: any free one */
	uint16_t guest;
	bool udp;
};

/* What it exits with when its time was over: as timeout(1). */
#define SANDBOX_EXIT_TIMEOUT 124

struct sandbox_config {
	char id[ID_LEN + 1];
	char name[LIMIT_NAME + 1];
	int64_t created_ns;

	char *image;	    /* reference as given, normalised */
	char *image_digest; /* of the image's configuration, sha256:... */
	char *image_disk;   /* its disk, absolute; one with nothing in it if there is a tree */
	char *image_tree;   /* the folder that it is shared as, absolute; NULL: it is not */

	struct strv args, env; /* image and command line put together; bytes */
	char *cwd, *user;
	char *hostname; /* NULL: the short id */
	bool tty, open_stdin;
	bool detached;	   /* made by `run -d`: no command line waits for it */
	bool pause;	   /* no program: the agent alone is wanted */
	bool is_pod;	   /* a VM for the containers of others, whose pod it is */
	char *pod;	   /* id of the one in whose VM it runs; NULL: it has its own */
	bool remove;	   /* --rm */
	char *stop_signal; /* NULL: SIGTERM */
	int64_t stop_grace_ns;
	int64_t timeout_ns; /* of each run, from the start of its process; 0: none */
	/* The sandbox is stopped, or removed, when it is so old, or nobody has used it for so long;
	 * 0: never */
	int64_t lifetime_ns, idle_ns;
	bool limit_removes;

	char *restart;	      /* "on-failure", "always", "unless-stopped"; NULL: no */
	uint64_t restart_max; /* times after failures; 0: no limit */

	uint64_t memory;    /* bytes */
	uint64_t cpu_milli; /* limit in thousandths of a CPU; the VM gets it rounded up */
	struct sandbox_port *ports;
	size_t n_ports;
	struct strv volumes; /* SANDBOX_VOLUME_WORDS a folder or file of the host: its path, where
				the container finds it, "rw" or "ro" */
	uint64_t slots;	     /* of the VM, for what is plugged in after its start */
	bool vsock;	     /* the agent is joined over vsock, not virtio-serial */
	char *bridge;	     /* of this host, that its network is on; NULL: it is on none */
	bool no_network;
	bool host_access;
	char *network; /* a VM's: one with a name, NETWORK_PRIVATE or NETWORK_INTERNET; an engine's:
			  "host", "none", a name; NULL: the default one */
	char *ip;      /* asked for; NULL: any */
	char address[24]; /* on a network of VMs with a name: "10.89.0.2/24" */
	char *reach; /* "private", "internet", "nowhere": all that the guest reaches; NULL: all */
	struct strv aliases; /* further names on its network */
	uint8_t mac[6];

	enum vm_accel accel;			 /* decided at start, here as asked for */
	char *vmm;				 /* binary, or NULL */
	char *vmm_kind;				 /* a word of vmm_kinds; NULL: QEMU */
	char *kernel, *initramfs, *agent_rootfs; /* NULL: as prepared below ROOT/guest */
	char *kernel_kind; /* of the prepared ones: "small", "cloud"; NULL: the usual one */
	char *runtime;	   /* "crun", "runc"; NULL: crun */
	uint64_t scratch_bytes;
	bool cold;
	uint64_t template_limit; /* bytes of all templates together */

	/* What the container may do and have, as Docker's options say it; zero: as Docker has it */
	bool read_only, init, privileged, no_new_privileges, publish_all;
	bool own_mac;	     /* mac was asked for */
	struct strv tmpfs;   /* DIR or DIR:OPTIONS */
	int64_t memory_swap; /* memory and swap, bytes; -1: no limit */
	int64_t pids_limit;  /* -1: none */
	uint64_t cpu_shares, shm_bytes;
	char *cpuset;		       /* "0-1,3" */
	struct strv cap_add, cap_drop; /* "CAP_CHOWN", "ALL" */
	char *seccomp;		       /* "unconfined", or a profile's text; NULL: the default */
	char *seccomp_filter; /* of a VM's: what oci_profile_compile() has made; NULL: the default
			       */
	/* {"CMD", ...} or {"CMD-SHELL", command}; empty: none. The rest 0: Docker's defaults */
	struct strv health_test;
	int64_t health_interval_ns, health_timeout_ns, health_start_period_ns,
		health_start_interval_ns;
	uint64_t health_retries;
	struct strv ulimits;	     /* "nofile=1024:2048" */
	struct strv sysctls, labels; /* KEY=VALUE */
	struct strv groups;	     /* further ones, by name or number */
	struct strv extra_hosts;     /* NAME:ADDRESS */
	struct strv dns, dns_search, dns_options;
	struct strv devices; /* HOST[:CONTAINER[:rwm]]; the host of a VM's container is the guest */

	/* Its log: a file's bytes, 0: LIMIT_CONTAINER_LOG; how many there are at most, 0: 5 */
	uint64_t log_bytes, log_files;
	char *log_driver; /* "none": it has no log */
	int64_t oom_score_adj;

	/* Of a container that an engine runs; the rest above as far as it has a meaning there */
	char *engine;		   /* address of the Docker Engine; NULL: a VM of ours */
	char *image_arch;	   /* as in Go: "amd64" */
	struct strv image_volumes; /* places that the image makes volumes of */
	char *agent;		   /* binary, absolute; NULL: the one that was installed with us */
	char *agent_path;	   /* where it goes in the container */
	bool no_agent;		   /* it is run as it is */
	char *agent_server;	   /* URL that the agent dials, besides us; NULL: none */
	char *agent_token_file;	   /* who it is there; read when the container is made */
};

/* The files of a container's log in its folder, the current one first (n = 0). */
#define SANDBOX_LOG_NAME 32
void sandbox_log_name(unsigned n, char out[static SANDBOX_LOG_NAME]);

/* What its container is called in the guest; borrowed. */
const char *sandbox_container_id(const struct sandbox_config *config);

/* One of devices, cut apart in place: *ret_target NULL: as on the host; *ret_access NULL: "rwm". */
void sandbox_device_split(char *text, char **ret_target, char **ret_access);

void sandbox_config_deinit(struct sandbox_config *config);
/* To JSON text (malloc'd, non-UTF-8 bytes kept by an escape that only the reader below undoes) and
 * back. 0 or -errno. */
int sandbox_config_write(const struct sandbox_config *config, char **ret_text, struct err *err);
int sandbox_config_read(
	const char *text, size_t len, struct sandbox_config *ret_config, struct err *err);

enum sandbox_phase {
	SANDBOX_CREATED,
	SANDBOX_STARTING,
	SANDBOX_RUNNING,
	SANDBOX_STOPPING,
	SANDBOX_EXITED,
	SANDBOX_RESTARTING, /* it has ended, and its shim starts it again */
	SANDBOX_DEAD,	    /* never written: its shim is gone without having said so */
	SANDBOX_PHASE_MAX
};

struct sandbox_state {
	enum sandbox_phase phase;
	char boot_id[37];
	int32_t shim_pid, vmm_pid, net_pid;
	uint64_t shim_start, vmm_start, net_start; /* proc_start_time() of each */
	struct strv helpers;			   /* the other processes of it: "PID START" */
	int64_t started_ns, finished_ns;
	int64_t deadline_ns; /* its lifetime's end, CLOCK_REALTIME; 0: none */
	char stopped_by[12]; /* "lifetime", "idle"; empty: neither */
	int exit_code;
	int32_t restarts; /* by its policy, since somebody started it */
	bool oom_killed;
	bool paused;		       /* while it runs */
	char health[12];	       /* "starting", "healthy", "unhealthy"; empty: nobody looks */
	int32_t health_failing;	       /* checks in a row */
	struct strv health_log;	       /* "BEGIN END CODE OUTPUT", the oldest first */
	char error[LIMIT_ERR_MESSAGE]; /* why it ended without an exit status, or could not start */
	struct sandbox_port *ports;    /* as really bound */
	size_t n_ports;
};

void sandbox_state_deinit(struct sandbox_state *state);
int sandbox_state_write(const struct sandbox_state *state, char **ret_text, struct err *err);
int sandbox_state_read(
	const char *text, size_t len, struct sandbox_state *ret_state, struct err *err);
const char *sandbox_phase_name(enum sandbox_phase phase); /* "created", ... */
