/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every numeric limit on what comes from outside, in one place: what a peer, guest, image, registry
 * or user may make us hold. Each has a test that reaches it.
 */
#pragma once

#include "base/macro.h"

/* Errors and logs */
#define LIMIT_ERR_MESSAGE 512 /* bytes of one error line, NUL included */
#define LIMIT_LOG_LINE	  1024
#define LIMIT_EVENTS_LOG  (4 * MIB) /* events.log, before it becomes events.log.1 */
#define LIMIT_SYSTEM_LOG \
	(4 * MIB) /* shim, agent and console log of one sandbox; then rotated once */
#define LIMIT_CONTAINER_LOG (20 * MIB) /* a file of a container's log, unless said otherwise */
#define LIMIT_LOG_FILES	    100	       /* that a container's log may be cut into; 5 by default */

/* Names and references */
#define LIMIT_NAME	64   /* sandbox name, network name */
#define LIMIT_ID	128  /* container id and exec id on the wire */
#define LIMIT_REFERENCE 1024 /* image reference */

/* rpc */
#define LIMIT_RPC_STREAMS 1024 /* calls open at once on one connection, server side */
#define LIMIT_RPC_HEADER_LIST \
	(32 * KIB) /* all names and values of one header block, RFC 9113 6.5.2 */
#define LIMIT_RPC_HEADER_COUNT	 128
#define LIMIT_RPC_MESSAGE	 (16 * MIB) /* one message, after decompression */
#define LIMIT_RPC_RESETS	 200 /* RST_STREAM from a peer in a second, then ENHANCE_YOUR_CALM */
#define LIMIT_RPC_CONTROL_FRAMES 1000 /* PING, SETTINGS, empty DATA in a second */
#define LIMIT_RPC_SEND_BUFFER \
	(4 * MIB) /* queued for one stream before the sender is told to stop */
#define LIMIT_RPC_WINDOW_FIRST	 (64 * KIB) /* a stream's receive window when it opens */
#define LIMIT_RPC_WINDOW_MAX	 (4 * MIB)  /* what it grows to while its consumer keeps up */
#define LIMIT_RPC_STATUS_MESSAGE (4 * KIB)  /* sent; received ones are cut to LIMIT_ERR_MESSAGE */
#define LIMIT_RPC_SEND_HIGH \
	(128 * KIB) /* queued for one stream: rpc_call_writable() is false above */
#define LIMIT_RPC_RETRY_BUFFER (256 * KIB) /* sent messages a client keeps for a retry */
#define LIMIT_RPC_RETRIES      5	   /* of a call without deadline */
#define LIMIT_RPC_WINDOWS \
	(64 * MIB) /* by which the windows of one connection's streams may grow in sum */
#define LIMIT_RPC_ASSEMBLY \
	(64 * MIB) /* messages above their window being received at once on one connection */
#define LIMIT_RPC_OUTBOUND	20000	   /* frames that wait because the peer does not read */
#define LIMIT_RPC_CONNECTIONS	1024	   /* of one server */
#define LIMIT_RPC_NESTING	64	   /* messages in messages */
#define LIMIT_RPC_DECODED	(64 * MIB) /* memory of one decoded message ... */
#define LIMIT_RPC_DECODED_RATIO 64 /* ... which is also at most 1 MiB plus this times its bytes */

/* tunnel */
#define LIMIT_TUNNEL_FRAME  (64 * KIB)	       /* bytes of one frame, and kept of one link */
#define LIMIT_TUNNEL_LINKS  256		       /* of one agent, parked and used */
#define LIMIT_TUNNEL_PEERS  4096	       /* agents of one server */
#define LIMIT_SANDBOX_RATE  (INT64_C(1) << 40) /* bytes a second that can be asked for */
#define LIMIT_TUNNEL_SECRET 64		       /* bytes of a token or credential */

/* agent */
#define LIMIT_RING	     (1 * MIB) /* kept output of one stream of one process */
#define LIMIT_RING_MARKS     1024      /* times kept for them */
#define LIMIT_OUTPUT_CHUNK   (32 * KIB)
#define LIMIT_PROCESSES	     4096      /* process objects, running and kept */
#define LIMIT_KEPT_PROCESSES 256       /* finished ones kept for Wait and Attach */
#define LIMIT_KEPT_OUTPUT    (8 * MIB) /* output of all of these together; beyond it the oldest go */
#define LIMIT_CONTAINERS     128
#define LIMIT_STAGE_REQUEST \
	(64 * KIB) /* of a request that a staged container takes; a larger one is made anew */
#define LIMIT_ATTACH_READERS  16	/* per process */
#define LIMIT_ARGV	      (2 * MIB) /* bytes of arguments and environment of one process */
#define LIMIT_STDIN_QUEUE     (256 * KIB)
#define LIMIT_OCI_SPEC	      (1 * MIB)
#define LIMIT_PASSWD_FILE     (1 * MIB)	  /* /etc/passwd, /etc/group of an image */
#define LIMIT_HEALTH_LOG      5		  /* health checks that are kept ... */
#define LIMIT_HEALTH_OUTPUT   (4 * KIB)	  /* ... and bytes of each one's output */
#define LIMIT_DEVICES	      64	  /* of the guest, given to one container */
#define LIMIT_LABELS	      64	  /* of one container or process */
#define LIMIT_LABEL_BYTES     (4 * KIB)	  /* one key with its value */
#define LIMIT_KEPT_STATUSES   1024	  /* of unknown children, while a process is being made */
#define LIMIT_REAPED_AT_ONCE  256	  /* children, before the loop looks at anything else */
#define LIMIT_WORKER_RESULT   (64 * KIB)  /* what a worker hands back */
#define LIMIT_RUNTIME_MESSAGE (4 * KIB)	  /* of a container runtime's log, for an error */
#define LIMIT_TAR_HEADER      (256 * KIB) /* pax records or a long name, of one entry */
#define LIMIT_TREE_LINKS      65536 /* files with several names remembered while a tree is sent */
#define LIMIT_LIST_DEPTH      200   /* folders in each other that are listed or removed at once */
#define LIMIT_WATCHES	      8192  /* folders of one WatchFiles */
#define LIMIT_FILE_FRAME      (256 * KIB) /* one answer of a process that serves files */
#define LIMIT_LISTED_PORTS    1024
#define LIMIT_TASKS	      1024	/* processes of a container that are listed */
#define LIMIT_TASK_ARGS	      (4 * KIB) /* bytes of each one's command line */
#define LIMIT_EXIT_LINGER_MS \
	250 /* for output of a process' children after it has ended and its own was read */
#define LIMIT_SPAWN_MS                                                                             \
	30000		       /* from fork to execve in a container, look-up of its user included \
				*/
#define LIMIT_WORKER_MS	 60000 /* one piece of work on a container's files */
#define LIMIT_RUNTIME_MS 120000 /* one command of the container runtime */

/* images */
#define LIMIT_MANIFEST		(4 * MIB) /* manifest, index or config, as Docker and containerd have it */
#define LIMIT_LAYERS		512
#define LIMIT_LAYER_ENTRIES	2000000
#define LIMIT_LAYER_BYTES	(64 * GIB) /* unpacked */
#define LIMIT_LAYER_RATIO	1100	   /* unpacked : packed; gzip can reach 1032:1 on zeros */
#define LIMIT_LAYER_RATIO_FLOOR (64 * MIB) /* below this size the ratio is not looked at */
#define LIMIT_XATTR_BYTES	(64 * KIB) /* of one entry, names and values */
#define LIMIT_PATH_DEPTH	256
#define LIMIT_SYMLINKS		40	  /* followed on the way to one entry, as the kernel does */
#define LIMIT_IMAGE_MEMORY	(4 * GIB) /* address space of the worker that builds a disk */
#define LIMIT_BUILD_FILE	(1 * MIB) /* a Dockerfile */
#define LIMIT_BUILD_BASES	64	  /* images that it names */
#define LIMIT_FETCH_STALL	(120 * (int64_t)1000000000)  /* ns without a byte from a registry */
#define LIMIT_DISK_BUILD	(3600 * (int64_t)1000000000) /* ns, for one disk */

/* VMs */
#define LIMIT_QMP_LINE	   (1 * MIB)
#define LIMIT_QMP_PENDING  64	      /* commands without an answer */
#define LIMIT_VMM_STDERR   (4 * KIB)  /* the end of what the VMM wrote to stderr */
#define LIMIT_CONSOLE_TAIL (16 * KIB) /* shown in a start error */
#define DISK_VIRTUAL_SIZE                                                      \
	(1 * TIB) /* of every disk, sparse, so that any disk fits any template \
		   */
#define LIMIT_DISKS	  8
#define LIMIT_VM_SLOTS	  25		       /* for devices that come and go: a pod's */
#define LIMIT_VM_SHARES	  8		       /* folders that one VM is given */
#define LIMIT_POD_MEMBERS (LIMIT_VM_SLOTS / 2) /* each has two disks; vsock is one more */
#define LIMIT_NET_FRAME	  (68 * KIB) /* one Ethernet frame on QEMU's stream (its NET_BUFSIZE) */
#define LIMIT_NET_QUEUE                                                                        \
	(1 * MIB)	       /* frames for a guest that does not read; then they are dropped \
				*/
#define LIMIT_NET_SOCKETS 4096 /* of one sandbox, all protocols: descriptors of micropod-net */
#define LIMIT_NET_RELAYS  256  /* connections over IPv6 to published ports */
#define LIMIT_NET_FLOWS \
	1024 /* UDP clients of published ports; then the longest silent one is forgotten */
#define LIMIT_NET_PEERS 64  /* other sandboxes of its network that one has a line to at a time */
#define LIMIT_PORTS	256 /* published ports of one sandbox */

#define LIMIT_VHOST_REGIONS	8   /* pieces of a guest's memory (vhost-user's own limit) */
#define LIMIT_VHOST_RINGS	2   /* of one device of ours */
#define LIMIT_VHOST_CONFIG	256 /* bytes of a device's configuration (vhost-user's own limit) */
#define LIMIT_VIRTQ		1024 /* entries of one ring */
#define LIMIT_VIRTQ_CHAIN	64   /* pieces of one buffer in it */
#define LIMIT_VSOCK_CONNECTIONS 256
#define LIMIT_VSOCK_PACKET	(64 * KIB) /* bytes in one packet, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE */
#define LIMIT_VSOCK_BUFFER	(256 * KIB) /* that a guest may send before the host has taken them */
#define LIMIT_VSOCK_RESETS	128	    /* refusals that a guest has not read yet */

/* engines */
#define LIMIT_HTTP_BODY	  (16 * MIB) /* of one answer */
#define LIMIT_ENGINE_LINE (1 * MIB)  /* of a stream of JSON, one line each */

/* command line */
#define LIMIT_SETTINGS	      (64 * KIB) /* micropod.yaml */
#define LIMIT_SECCOMP_PROFILE (1 * MIB)	 /* --security-opt seccomp=FILE */
#define LIMIT_ENV_FILE	      (2 * MIB)	 /* --env-file; LIMIT_ARGV bounds what comes of it */
#define LIMIT_LIFETIME	      (315360000 * (int64_t)1000000000) /* ns, ten years: of a sandbox */
#define LIMIT_STDIN_UNTAKEN \
	(256 * KIB) /* input sent and kept until the agent says that it has it */
