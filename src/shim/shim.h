/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim: one process a sandbox. It owns the VM, its network process and the session with the
 * agent, keeps the container's output and exit status, and serves sandbox.proto. It holds the
 * sandbox's lock while it lives, and the VM dies with it.
 *
 * Life: the backend's boot (until the container runs; boot.c, shares.c, template.c) -> serve.c
 * (calls of the command line), monitor.c (output, lost sessions), limits.c (its time) -> finish.c
 * (exit recorded, VM ended, files removed) -> restart.c, if it is started again.
 */
#pragma once

#include <stdbool.h>

#include "driver/accel.h"
#include "driver/driver.h"
#include "io/loop.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "sandbox/guest.h"
#include "sandbox/machine.h"
#include "sandbox/manager.h"
#include "agent.pb-c.h"
#include "sandbox.pb-c.h"

#define SHIM_TEMPLATE_TRIAL \
	(20 * NSEC_PER_SEC) /* for one that does not go on, where booting is tried after it */
#define SHIM_KVM_TRIAL                                                            \
	(20 * NSEC_PER_SEC) /* for a guest under KVM, where TCG is tried after it \
			     */
#define SHIM_CALL_DEADLINE (30 * NSEC_PER_SEC) /* one call to the agent */
#define SHIM_START_WAIT                                                                            \
	(30 * NSEC_PER_SEC) /* after the exit, for a foreground command line that has not come yet \
			     */
#define SHIM_LOST_GRACE \
	(2 * NSEC_PER_SEC) /* after a lost session, for the VMM to say that it ended */
#define SHIM_READERS_TIME    (60 * NSEC_PER_SEC) /* after the exit, for who still reads its output */
#define SHIM_READERS_STOPPED (5 * NSEC_PER_SEC)	 /* the same after a Stop */
#define SHIM_SHUTDOWN_GRACE  (10 * NSEC_PER_SEC)
#define SHIM_RECONNECT_TIME  (10 * NSEC_PER_SEC)

/* Calls of the command line that wait for something. */
enum shim_wait {
	SHIM_WAIT_EXIT, /* Wait: the container's exit */
	SHIM_WAIT_GONE, /* Stop: the VM's end */
	SHIM_WAIT_MAX
};

struct shim_waiter {
	struct list link;
	struct rpc_call *call; /* a reference */
	enum shim_wait what;
};

struct shim;
struct shim_change; /* shim/control.h */

/* What runs the container: a VM of ours, or an engine. None may free the shim. */
struct shim_backend {
	/* Begins to start: everything further happens on the loop. Fails by shim_fail(). */
	void (*boot)(struct shim *shim);
	/* What runs it instead, if it belongs to a pod. */
	const struct shim_backend *in_pod;
	/* The machine is not its own, and goes on without it. */
	bool shared_machine;
	/* Whether it has to be ended before the shim may leave. */
	bool (*runs)(const struct shim *shim);
	/* Ends it now; shim_gone() follows. */
	void (*kill)(struct shim *shim);
	/* It is gone: what helped it goes too. */
	void (*clean_up)(struct shim *shim);
	/* The session with the agent was lost: shim_make_channel() and shim_attach() follow, or
	 * shim_lost(). */
	void (*reconnect)(struct shim *shim);
	/* Without a session to an agent, if it can: as shim_stop_container(), and a signal, after
	 * which it replies to call. */
	void (*stop)(struct shim *shim, const char *signal, int64_t grace_ns);
	void (*signal)(struct shim *shim, int number, struct rpc_call *call);
	/* Has it changed; shim_changed() follows. An update: to what the configuration says. */
	void (*change)(struct shim *shim, struct shim_change *change);
	/* Why the configuration's limits cannot be had by what runs: -errno with err; 0: they can.
	 */
	int (*check_limits)(const struct shim *shim, struct err *err);
	/* Adds what it knows to a Status answer, borrowed. */
	void (*fill_status)(struct shim *shim, Micropod__Sandbox__V1__StatusResponse *resp);
};

extern const struct shim_backend shim_vm;
extern const struct shim_backend shim_member; /* of a pod: in another one's VM */

/* The main() of a shim. Returns its exit code. */
int shim_main(int argc, char **argv, const struct shim_backend *backend);

struct shim {
	const struct shim_backend *backend;
	void *backend_data;
	const char *no_agent; /* why there is and will be no session with one; NULL: there is */
	bool adopt;	      /* only what runs already: a shim of it has died */
	struct loop *loop;
	struct sandbox_root *root;
	struct sandbox box;
	struct sandbox_guest guest;
	int dfd; /* of the sandbox's folder */
	int lock_fd, status_fd;
	bool awaited;		/* by a command line in the foreground that has not come yet */
	unsigned rows, columns; /* of the command line's terminal; 0: it has none */
	int log_level;
	unsigned start_timeout; /* seconds */
	int64_t start_deadline; /* of the whole start, until the verdict */
	char *run_dir;

	const struct driver *driver;
	struct machine machine;
	struct template template;		 /* what it goes on from; ram_fd -1: it boots */
	char template_key[TEMPLATE_KEY_LEN + 1]; /* of one to be made; empty: none */
	struct vm *vm;
	char *vmm_version;
	char notice[256]; /* the VMM's last: there may be no room to log it */
	enum vm_accel accel;
	enum vm_transport transport;

	pid_t net_pid;
	struct loop_child net_child;
	int net_fd; /* the VMM's end */

	struct list guests;				 /* pod.c */
	void (*join)(struct rpc_call *call, void *shim); /* of a pod; NULL: it is none */
	char *image_serial, *scratch_serial; /* of the disks, where they are not the usual ones */
	struct shim_publish *publish;	     /* vm.h; NULL: its network has the ports */
	struct shim_vsock *vsock;	     /* vm.h; NULL: the session is over the serial port */
	struct shim_share *shares;  /* n_shares of them; NULL before the first start of a VM */
	size_t n_shares, n_volumes; /* the volumes come first */

	struct rpc_channel *agent;
	struct io_stream *session; /* greeted, for the channel's one dial */
	struct rpc_server *server;
	struct loop_signals signals;
	struct loop_timer timer; /* of the phase we are in */
	struct loop_timer limit; /* of the whole run, if it has one */
	bool timed_out;
	struct loop_timer lifetime, idle;
	struct shim_health *health; /* shim/health.h; NULL: none is looked after */
	unsigned users;		    /* calls that use the sandbox just now */
	struct err lost; /* what broke the start, until the VMM has said whether it ended */

	char *agent_version, *runtime, *kernel;
	uint32_t api_generation;
	uint32_t pid; /* of the container's first process, in the guest */

	int log_fd, console_fd; /* container.log, console.log */
	uint64_t log_offset[2]; /* next byte of stdout and stderr */
	int offsets_fd; /* where these are kept for a shim after us; -1: there can be none */
	bool log_partial[2];
	bool attached;
	bool started;	 /* the container's first process */
	bool exited;	 /* its exit is recorded */
	bool early_exit; /* it came before Start was answered, which may say why: early_* */
	int32_t early_code;
	bool early_oom;
	bool stopping;	      /* Stop has begun, or the end */
	bool stop_held;	      /* until it goes on: with ... */
	char held_signal[32]; /* ... this */
	int64_t held_grace;
	bool ending;	       /* finish.c has begun */
	bool gone;	       /* what ran the container is */
	bool falling_back;     /* this VM's end is not the sandbox': another is started */
	bool agent_lost;       /* no use asking it for an orderly shutdown */
	bool remove;	       /* --rm, or asked for by Stop */
	bool ready;	       /* the verdict has been said */
	bool no_restart;       /* somebody wants it to end */
	bool restarting;       /* all that ran is gone; another run follows */
	unsigned restarts;     /* before this one, by --restart */
	int64_t restart_delay; /* ns, before this one */
	unsigned readers; /* calls that read the container's output, passed through to the agent */
	bool draining;	  /* it has ended, and the VM stays until they have it all */
	struct list waiters;
};

/* boot.c */

/* The agent cannot be talked to any more, before the verdict: fails with the VMM's end as the
 * reason if that comes within SHIM_LOST_GRACE, with why (copied) otherwise. The first why counts.
 */
void shim_lost_start(struct shim *shim, const struct err *why);

/* serve.c */

int shim_serve(struct shim *shim, struct err *err);
void shim_answer_waiters(struct shim *shim, enum shim_wait what);
/* One unary call to the agent; cb gets the answer (borrowed) or NULL and the status. */
void shim_agent_call(struct shim *shim, const char *method, const ProtobufCMessage *request,
	const ProtobufCMessageDescriptor *out, int64_t timeout_ns,
	void (*cb)(struct shim *shim, const ProtobufCMessage *answer,
		const struct rpc_status *status));
/* Stop signal, grace, SIGKILL; the container's exit then ends the sandbox. */
void shim_stop_container(struct shim *shim, const char *signal, int64_t grace_ns);

/* monitor.c */

int shim_open_logs(struct shim *shim, struct err *err);
/* From now it is kept how far the log is. again: it goes on where a shim before us has ended; else
 * at the begin of what the container writes. 0 or -errno with err. */
int shim_keep_offsets(struct shim *shim, bool again, struct err *err);
/* A piece of the container's output (0: stdout, 1: stderr) that did not come from an agent. */
void shim_log(struct shim *shim, unsigned stream, const void *data, size_t len);
/* More of the guest's console. */
void shim_console(struct shim *shim, const void *data, size_t len);
/* Reads the container's output from where the log ends. */
void shim_attach(struct shim *shim);
/* A channel on the greeted session, which it takes over. 0 or -ENOMEM. */
int shim_make_channel(struct shim *shim, struct io_stream *session);
/* The session with the agent is gone: waits for the VMM's word, then tries a new session. */
void shim_session_lost(struct rpc_channel *channel, const char *why, void *arg);

/* limits.c */

/* The process has started: its time begins; state.json is written after it. */
void shim_limits_start(struct shim *shim);
void shim_limits_end(struct shim *shim);
/* A call uses the sandbox, and has ended. */
void shim_used(struct shim *shim);
void shim_unused(struct shim *shim);
/* As Extend in sandbox.proto. *ret_deadline: CLOCK_REALTIME ns, 0: none. 0, or -ENOENT: nothing
 * limits it. */
int shim_extend(struct shim *shim, int64_t time_ns, int64_t *ret_deadline);

/* finish.c */

/* Whoever waits in the foreground has come: the VM may end when it has read all. */
void shim_command_line_is_here(struct shim *shim);
/* One reader fewer. */
void shim_reader_done(struct shim *shim);

/* The start failed: says so, records it, ends. exit_code: for the command line. err->msg is the
 * reason. */
void shim_fail(struct shim *shim, int exit_code, const struct err *err);
/* The container's first process has ended by itself or was stopped. */
void shim_container_exited(struct shim *shim, const Micropod__Agent__V1__Exit *exit);
/* Start has been answered: an exit that came before counts now. */
void shim_early_exit(struct shim *shim);
/* The sandbox ends without an exit status: why is one line. */
void shim_lost(struct shim *shim, const char *why);
/* What ran the container ("the VM") has ended: why is one line. */
void shim_gone(struct shim *shim, const char *what, const char *why);
/* The last steps: files, answers, the loop's end. */
void shim_leave(struct shim *shim);
/* Writes state.json; a failure is logged. */
void shim_save_state(struct shim *shim);
/* One line that the user should see, to whoever started us; before the verdict. */
void shim_notice(struct shim *shim, const char *text);
/* "ok" or the error to whoever started us, once. */
void shim_verdict(struct shim *shim, int exit_code, const struct err *err);

/* restart.c */

/* All that ran is gone. Whether it is started again, of which everything follows on the
 * loop; else shim_leave() is next. */
bool shim_restart(struct shim *shim);
/* It is not, after all; no-op unless it waits for that. */
void shim_restart_cancel(struct shim *shim);
