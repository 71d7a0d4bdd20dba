/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From nothing to a running container: network process, VM, greeted session, then three calls to
 * the agent that do not wait for each other (Resumed, CreateContainer, Attach). The program starts
 * at once, also in the foreground: the agent keeps its output from the first byte, and the VM does
 * not end before the command line that waits for it has had the chance to read it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/trace.h"
#include "driver/ramcopy.h"
#include "driver/virtiofsd.h"
#include "net/net.h"
#include "rpc/failure.h"
#include "shim/control.h"
#include "shim/guestnet.h"
#include "shim/request.h"
#include "sandbox/events.h"
#include "shim/vm.h"

/* For the next call to the agent. */
static int64_t step_time(const struct shim *shim)
{
	int64_t left = shim->start_deadline - clock_monotonic();

	return MIN(MAX(left, NSEC_PER_MSEC), SHIM_CALL_DEADLINE);
}

static void on_lost_start(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	shim_fail(shim, 125, &shim->lost);
}

void shim_lost_start(struct shim *shim, const struct err *why)
{
	if (shim->lost.code)
		return;
	shim->lost = *why;
	loop_timer_arm(shim->loop, &shim->timer, deadline_in(SHIM_LOST_GRACE), on_lost_start);
}

/* errno of a failed call, 125 as exit code: the agent's word in front. */
static void fail_status(struct shim *shim, const char *what, const struct rpc_status *status)
{
	struct err err = ERR_INIT;

	rpc_status_to_err(status, &err);
	err_wrap(&err, "%s", what);
	if (status->code == RPC_UNAVAILABLE && !shim->gone)
		shim_lost_start(shim, &err);
	else
		shim_fail(shim, 125, &err);
}

/* Network */

static void on_vm_silent(struct loop_timer *timer)
{
	shim_lost(container_of(timer, struct shim, timer),
		"the VM closed its network and did not end");
}

static void on_net_exit(struct loop_child *child, int wstatus)
{
	struct shim *shim = container_of(child, struct shim, net_child);

	shim->net_pid = 0;
	if (shim->ending || shim->falling_back)
		return;
	if (wstatus == 0) {
		/* It leaves when the VMM has closed its end: the VMM's own end says more, and comes
		 * next. */
		loop_timer_arm(
			shim->loop, &shim->timer, deadline_in(SHIM_LOST_GRACE), on_vm_silent);
		return;
	}
	/* Its sockets are gone and cannot be joined to the running guest again: better an end that
	 * is told than a deaf sandbox. */
	log_error("micropod-net ended with status %d", proc_exit_code(wstatus));
	snprintf(shim->box.state.error, sizeof(shim->box.state.error),
		"the VM's network process (micropod-net) died");
	if (shim->ready && shim->started)
		shim_stop_container(shim, "", shim->box.config.stop_grace_ns);
	else
		shim_lost(shim, "the VM's network process (micropod-net) died");
}

static int copy_ports(const struct sandbox_config *config, struct net_port **ret_ports)
{
	struct net_port *ports = calloc(config->n_ports + 1, sizeof(*ports));

	if (!ports)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_ports; i++) {
		memcpy(ports[i].host_ip, config->ports[i].host_ip, sizeof(ports[i].host_ip));
		ports[i].host = config->ports[i].host;
		ports[i].guest = config->ports[i].guest;
		ports[i].udp = config->ports[i].udp;
	}
	*ret_ports = ports;
	return 0;
}

/* What is really bound goes into the state: a port that was left to chance has a number now. */
static int keep_ports(struct shim *shim, const struct net_port *ports)
{
	struct sandbox_state *st = &shim->box.state;
	size_t n = shim->box.config.n_ports;

	free(st->ports);
	st->n_ports = 0;
	st->ports = calloc(n + 1, sizeof(*st->ports));
	if (!st->ports)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		st->ports[i] = shim->box.config.ports[i];
		st->ports[i].host = ports[i].host;
	}
	st->n_ports = n;
	return 0;
}

/* What it takes to hear that the network process is ready. */
struct net_wait {
	struct net_config config;
	struct net_port *ports; /* owned */
	char *folder;		/* owned */
	struct strv names;
	int ready_fd;
};

static void net_wait_deinit(struct net_wait *w)
{
	free(w->ports);
	free(w->folder);
	strv_deinit(&w->names);
	safe_close(w->ready_fd);
}

/* Where the others are, and by which names they know it: Docker's. */
static int join_network(struct shim *shim, struct net_wait *w)
{
	const struct sandbox_config *c = &shim->box.config;
	int r = strv_add(&w->names, c->name);

	if (r == 0)
		r = strv_addf(&w->names, "%.*s", ID_SHOWN_LEN, c->id);
	if (r == 0)
		r = strv_addv(&w->names, (const char *const *)c->aliases.v);
	w->folder = network_folder(shim->root, c->network);
	w->config.address = c->address;
	w->config.folder = w->folder;
	w->config.bridge = c->bridge;
	w->config.mac = c->mac;
	w->config.names = &w->names;
	return w->folder ? r : -ENOMEM;
}

static int publish_without(struct shim *shim, struct err *err)
{
	auto_free struct net_port *ports = NULL;
	int r = copy_ports(&shim->box.config, &ports);

	if (r < 0)
		return err_errno(err, -r, "cannot publish ports");
	r = shim_publish(shim, ports, shim->box.config.n_ports, err);
	if (r == 0 && keep_ports(shim, ports) < 0)
		r = err_errno(err, ENOMEM, "cannot keep the ports");
	return r;
}

static int start_net(struct shim *shim, struct net_wait *w, struct err *err)
{
	auto_free char *program = NULL;
	int r, pidfd;

	if (shim->box.config.no_network)
		return shim->box.config.n_ports ? publish_without(shim, err) : 0;
	r = sandbox_program("micropod-net", &program, err);
	if (r < 0)
		return r;
	r = copy_ports(&shim->box.config, &w->ports);
	if (r < 0)
		return err_errno(err, -r, "cannot start the network");
	w->config = (struct net_config){ .program = program,
		.ports = w->ports,
		.n_ports = shim->box.config.n_ports,
		.host_access = shim->box.config.host_access,
		.reach = shim->box.config.reach,
		.log_fd = 2,
		.deadline = deadline_in(10 * NSEC_PER_SEC) };
	if (network_shared(&shim->box.config)) {
		r = join_network(shim, w);
		if (r < 0)
			return err_errno(err, -r, "cannot join the network");
		r = network_ready(shim->root, &shim->box.config, err);
		if (r < 0)
			return r;
	}
	r = net_start(&w->config, &shim->net_pid, &pidfd, &shim->net_fd, &w->ready_fd, err);
	w->config.program = NULL;
	if (r < 0)
		return r;
	r = loop_child_add(shim->loop, &shim->net_child, shim->net_pid, pidfd, on_net_exit);
	if (r < 0) {
		safe_close(pidfd);
		return err_errno(err, -r, "cannot watch micropod-net");
	}
	return 0;
}

static int await_net(struct shim *shim, struct net_wait *w, struct err *err)
{
	int r = w->ready_fd >= 0 ? net_await(&w->config, w->ready_fd, err) : 0;

	if (r < 0 || w->ready_fd < 0)
		return r;
	r = keep_ports(shim, w->ports);
	return r < 0 ? err_errno(err, -r, "cannot keep the ports") : 0;
}

/* VM */

static void on_notice(struct vm *vm, const char *text, void *arg)
{
	struct shim *shim = arg;

	snprintf(shim->notice, sizeof(shim->notice), "%s", text);
	log_warning("%s", text);
}

static void on_console(struct vm *vm, const void *data, size_t len, void *arg)
{
	shim_console(arg, data, len);
}

static void on_exited(struct vm *vm, bool clean, const char *why, void *arg)
{
	shim_gone(arg, "the VM", why);
}

/* Daemons that serve volumes map the guest's memory, so it has to be a file of the VM's own. */
static int choose_memory(
	const struct shim *shim, int *ret_own, struct vm_config *vc, struct err *err)
{
	int r;

	if (!shim->machine.slots) {
		vc->ram = shim->template.ram_fd >= 0 ? VM_RAM_PRIVATE : VM_RAM_ANONYMOUS;
		vc->ram_fd = shim->template.ram_fd;
		return 0;
	}
	r = ram_new(shim->machine.memory, ret_own, err);
	vc->ram = VM_RAM_OWN;
	vc->ram_fd = *ret_own;
	return r;
}

static int start_vm(struct shim *shim, struct err *err)
{
	const struct sandbox_config *c = &shim->box.config;
	const struct vm_events events = {
		.console = on_console, .exited = on_exited, .notice = on_notice, .arg = shim
	};
	auto_free char *scratch = sandbox_path(shim->root, c->id, "scratch.img");
	auto_free char *trim = NULL, *cache = NULL;
	auto_close int memory = -1;
	struct vm_config vc;
	int r;

	if (asprintf(&cache, "%s/cache", shim->root->path) < 0)
		cache = NULL;
	if (!scratch || !cache)
		return err_errno(err, ENOMEM, "cannot start the VM");
	machine_config(&shim->machine, &vc);
	machine_add_disks(&vc, c->image_disk, scratch);
	vc.disks[vc.n_disks - 1].ephemeral = c->remove;
	vc.run_dir = shim->run_dir;
	/* Without it a sandbox costs more and is the same otherwise. */
	if (sandbox_program("micropod-trim.so", &trim, NULL) == 0 && access(trim, R_OK) == 0)
		vc.trim_plugin = trim;
	vc.state_dir = cache;
	if (getenv("MICROPOD_DEBUG_UNCONFINED")) {
		log_warning("the VMM runs unconfined: MICROPOD_DEBUG_UNCONFINED is set");
		vc.confine = false;
	}
	vc.net_fd = shim->net_fd;
	vc.state_fd = shim->template.state_fd;
	r = choose_memory(shim, &memory, &vc, err);
	if (r == 0)
		r = shim->driver->start(shim->loop, &vc, &events, &shim->vm, err);
	if (r < 0)
		return r;
	shim->gone = false;
	shim->net_fd = safe_close(shim->net_fd);
	/* While the VMM starts. */
	if (memory >= 0 && vc.state_fd >= 0) {
		r = ram_copy(shim->template.ram_fd, memory, err);
		trace_step("memory copied");
		if (r < 0)
			return r;
	}
	shim->box.state.vmm_pid = shim->driver->pid(shim->vm);
	proc_start_time(shim->box.state.vmm_pid, &shim->box.state.vmm_start);
	shim->box.state.net_pid = shim->net_pid;
	if (shim->net_pid > 0)
		proc_start_time(shim->net_pid, &shim->box.state.net_start);
	return 0;
}

/* The agent, one call after the other */

static void finish_boot(struct shim *shim)
{
	shim_publish_open(shim);
	shim->box.state.phase = SANDBOX_RUNNING;
	shim_save_state(shim);
	sandbox_event(shim->root, &shim->box.config, "start", NULL, NULL);
	shim_verdict(shim, 0, NULL);
	template_close(&shim->template);
	/* Only now: it must not keep the first user waiting. */
	if (shim->template_key[0])
		shim_make_template(shim);
}

/* 126 and 127 as a shell and Docker have them: found but not executable, not found. */
static int failure_exit_code(const Micropod__Agent__V1__Failure *f)
{
	if (!f || f->kind != MICROPOD__AGENT__V1__FAILURE__KIND__SPAWN ||
		strcmp(f->step, "execute") != 0)
		return 125;
	return f->errno_value == ENOENT ? 127 : 126;
}

/* The guest's clock is another: what counts is how long before its answer it was. */
static void trace_guest(const Micropod__Agent__V1__CreationSteps *s)
{
	const struct {
		const char *step;
		int64_t at;
	} steps[] = {
		{ "request read", s->asked },
		{ "disks mounted", s->disks_mounted },
		{ "first process has the request", s->taken },
		{ "root entered", s->root_entered },
		{ "user found", s->user_found },
		{ "rights dropped", s->rights_dropped },
	};
	int64_t now = clock_monotonic();

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i].at > 0 && steps[i].at <= s->now)
			trace_step_at("agent", steps[i].step, now - (s->now - steps[i].at));
}

static void on_container(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	const Micropod__Agent__V1__CreateContainerResponse *resp =
		(const Micropod__Agent__V1__CreateContainerResponse *)answer;
	struct err err = ERR_INIT;

	if (shim->ending || shim->lost.code)
		return;
	if (!resp) {
		fail_status(shim, "cannot create the container", status);
		return;
	}
	if (resp->steps)
		trace_guest(resp->steps);
	if (strcmp(resp->status, "FAILED") == 0) {
		err_set(&err,
			resp->failure && resp->failure->errno_value > 0 ? resp->failure->errno_value
									: EIO,
			"cannot create the container: %s", resp->error_message);
		shim_fail(shim, failure_exit_code(resp->failure), &err);
		return;
	}
	trace_step("program started");
	shim->started = true;
	shim->pid = resp->pid;
	shim->box.state.started_ns = clock_realtime();
	shim_limits_start(shim);
	finish_boot(shim);
	/* A request larger than a stream's first window is read after the small one behind it. One
	 * that has ended meanwhile has been read already. */
	if (!shim->attached && !shim->early_exit)
		shim_attach(shim);
	shim_early_exit(shim);
}

static void create_container(struct shim *shim)
{
	auto_request struct container_request request;
	struct rpc_status oom = { .code = RPC_RESOURCE_EXHAUSTED, .message = "out of memory" };

	if (container_request_make(shim, &request) < 0) {
		fail_status(shim, "cannot create the container", &oom);
		return;
	}
	request.req.steps = trace_fd() >= 0;
	shim_agent_call(shim, "CreateContainer", &request.req.base,
		&micropod__agent__v1__create_container_response__descriptor, step_time(shim),
		on_container);
}

/* What makes the guest this sandbox' own, whether it has booted or goes on from a template. */
static void on_resumed(
	struct shim *shim, const ProtobufCMessage *answer, const struct rpc_status *status)
{
	const Micropod__Agent__V1__ResumedResponse *resp =
		(const Micropod__Agent__V1__ResumedResponse *)answer;
	struct err err = ERR_INIT;

	if (shim->ending || shim->lost.code)
		return;
	if (!resp || !resp->info) {
		fail_status(shim, "cannot set up the guest", status);
		return;
	}
	trace_step("guest has its identity");
	if (shim->accel == VM_ACCEL_KVM && accel_record(shim->root->path, true, "", &err) < 0)
		log_warning("%s", err.msg);
	shim->agent_version = strdup(resp->info->agent_version);
	shim->runtime = strdup(resp->info->runtime);
	shim->kernel = strdup(resp->info->kernel);
	shim->api_generation = resp->info->api_generation;
	log_info("agent version=%s kernel=%s runtime=%s", resp->info->agent_version,
		resp->info->kernel, resp->info->runtime);
}

static void make_guest_own(struct shim *shim)
{
	Micropod__Agent__V1__ResumedRequest req = MICROPOD__AGENT__V1__RESUMED_REQUEST__INIT;
	struct sandbox_config *c = &shim->box.config;
	uint8_t entropy[64], machine_id[ID_LEN / 2];
	char hostname[ID_SHOWN_LEN + 1];
	struct guestnet net;

	random_bytes(entropy, sizeof(entropy));
	random_bytes(&req.generation, sizeof(req.generation));
	req.generation |= 1; /* not 0 */
	req.entropy.data = entropy;
	req.entropy.len = sizeof(entropy);
	if (hex_decode(c->id, machine_id, sizeof(machine_id)) == 0) {
		req.machine_id.data = machine_id;
		req.machine_id.len = sizeof(machine_id);
	}
	guestnet_init(&net, c);
	net.iface.new_mac.data = c->mac;
	net.iface.new_mac.len = sizeof(c->mac);
	snprintf(hostname, sizeof(hostname), "%.*s", ID_SHOWN_LEN, c->id);
	net.req.hostname = c->hostname ? c->hostname : hostname;
	net.req.realtime_ns = clock_realtime();
	req.network = &net.req;
	shim_agent_call(shim, "Resumed", &req.base,
		&micropod__agent__v1__resumed_response__descriptor, step_time(shim), on_resumed);
}

static void launch(struct shim *shim);

/* The network process goes with the VM that it was joined to. */
static void stop_net(struct shim *shim)
{
	if (shim->net_pid <= 0)
		return;
	loop_child_remove(&shim->net_child);
	kill(shim->net_pid, SIGKILL);
	waitpid(shim->net_pid, NULL, 0);
	shim->net_pid = 0;
}

static void on_fall_back(struct loop_timer *timer)
{
	struct shim *shim = container_of(timer, struct shim, timer);

	shim->driver->free(shim->vm);
	shim->vm = NULL;
	stop_net(shim);
	shim_stop_shares(shim);
	shim_stop_vsock(shim);
	shim_unpublish(shim);
	shim->falling_back = false;
	launch(shim);
}

static bool may_fall_back(const struct shim *shim)
{
	return shim->accel == VM_ACCEL_KVM && shim->box.config.accel == VM_ACCEL_AUTO &&
	       (shim->driver->kind->abilities & VM_CAN_EMULATE);
}

/*
 * A guest that does not go on from its template is booted. One that does not come up under KVM is
 * tried once more without: some hosts have the device and cannot run a guest.
 */
static bool fall_back(struct shim *shim, const struct err *why)
{
	struct err err = ERR_INIT;

	/* Somebody has killed it: neither is to blame. */
	if (why->code == EINTR)
		return false;
	if (shim->template.ram_fd >= 0) {
		shim_drop_template(shim, why->msg);
	} else if (may_fall_back(shim)) {
		log_warning("no guest starts under KVM (%s): going on without it", why->msg);
		if (accel_record(shim->root->path, false, why->msg, &err) < 0)
			log_warning("%s", err.msg);
		shim->accel = shim->machine.accel = VM_ACCEL_TCG;
		shim->template_key[0] = 0;
		shim_find_template(shim);
	} else {
		return false;
	}
	shim->falling_back = true;
	/* Not from inside the driver's own callback. */
	loop_timer_arm(shim->loop, &shim->timer, clock_monotonic(), on_fall_back);
	return true;
}

void shim_ask_for_container(struct shim *shim)
{
	create_container(shim);
	shim_attach(shim);
}

/* Together: the agent takes them in this order, and does the first at once. */
static void set_up_guest(struct shim *shim)
{
	make_guest_own(shim);
	shim_plug_shares(shim, shim_ask_for_container);
}

static void on_session(struct io_stream *stream, const struct err *err, void *arg)
{
	struct shim *shim = arg;
	struct err oom = ERR_INIT;

	if (shim->ending) {
		io_stream_free(stream);
		return;
	}
	if (!stream) {
		if (!fall_back(shim, err))
			shim_fail(shim, 125, err);
		return;
	}
	if (shim_make_channel(shim, stream) < 0) {
		err_errno(&oom, ENOMEM, "cannot talk to the agent");
		shim_fail(shim, 125, &oom);
		return;
	}
	trace_step("agent greeted");
	if (shim->vsock)
		shim_join_by_vsock(shim, set_up_guest);
	else
		set_up_guest(shim);
}

static void launch(struct shim *shim)
{
	struct err err = ERR_INIT;
	int64_t deadline = shim->start_deadline;
	struct net_wait net = { .ready_fd = -1 };
	int r = start_net(shim, &net, &err);

	trace_step("network process forked");
	if (r == 0)
		r = shim_start_shares(shim, &err);
	if (r == 0)
		r = shim_start_vsock(shim, &err);
	/* Both at once: QEMU takes longer. */
	if (r == 0)
		r = start_vm(shim, &err);
	trace_step("VMM forked");
	if (r == 0)
		r = await_net(shim, &net, &err);
	trace_step("network ready");
	net_wait_deinit(&net);
	if (r < 0) {
		shim_fail(shim, 125, &err);
		return;
	}
	shim_save_state(shim);
	if (shim->template.ram_fd >= 0)
		deadline = MIN(deadline, deadline_in(SHIM_TEMPLATE_TRIAL));
	else if (may_fall_back(shim))
		deadline = MIN(deadline, deadline_in(SHIM_KVM_TRIAL));
	shim->transport = shim->driver->kind->abilities & VM_CAN_SERIAL ? VM_TRANSPORT_SERIAL
									: VM_TRANSPORT_VSOCK;
	shim->driver->open_session(shim->vm, shim->transport, false, deadline, on_session, shim);
}

static const struct driver *find_driver(const char *kind)
{
	for (size_t i = 0; shim_drivers[i]; i++)
		if (strcmp(shim_drivers[i]->kind->word, kind ? kind : "qemu") == 0)
			return shim_drivers[i];
	return NULL;
}

static void boot(struct shim *shim)
{
	struct accel_verdict verdict;
	struct err err = ERR_INIT;
	int r;

	if (shim->box.config.is_pod)
		shim->join = shim_do_join;

	shim->driver = find_driver(shim->box.config.vmm_kind);
	if (!shim->driver) {
		err_set(&err, ENOTSUP, "this shim has no driver for '%.50s'",
			shim->box.config.vmm_kind);
		shim_fail(shim, 125, &err);
		return;
	}
	r = machine_choose(shim->root, shim->driver, &shim->box.config, &shim->guest,
		&shim->machine, &verdict, &err);

	if (r == 0 && verdict.notice[0])
		log_info("%s", verdict.notice);
	shim->accel = shim->machine.accel;
	trace_step("machine chosen");
	if (r == 0 && !shim->box.config.cold && (shim->driver->kind->abilities & VM_CAN_SNAPSHOT))
		shim_find_template(shim);
	trace_step("template looked for");
	/* A template says itself what made it. */
	if (r == 0 && shim->template.ram_fd >= 0)
		shim->vmm_version = strdup(shim->template.vmm);
	else if (r == 0)
		r = shim->driver->probe(shim->box.config.vmm, &shim->vmm_version, &err);
	if (r < 0)
		shim_fail(shim, 125, &err);
	else
		launch(shim);
}

/* The backend */

static bool runs(const struct shim *shim)
{
	return shim->vm && !shim->gone;
}

static void kill_vm(struct shim *shim)
{
	shim->driver->kill(shim->vm);
}

static void clean_up(struct shim *shim)
{
	if (shim->net_pid > 0)
		kill(shim->net_pid, SIGKILL);
	shim_stop_shares(shim);
	shim_stop_vsock(shim);
	shim_unpublish(shim);
}

static void on_reconnected(struct io_stream *stream, const struct err *err, void *arg)
{
	struct shim *shim = arg;
	char why[LIMIT_ERR_MESSAGE];

	if (!stream) {
		snprintf(why, sizeof(why), "the agent does not answer: %.400s", err->msg);
		shim_lost(shim, why);
		return;
	}
	if (shim_vsock_session(shim, stream) < 0) {
		shim_lost(shim, "out of memory");
		return;
	}
	log_warning("the session with the agent is up again");
	shim_attach(shim);
}

static void reconnect(struct shim *shim)
{
	shim->driver->open_session(shim->vm, shim->transport, true,
		deadline_in(SHIM_RECONNECT_TIME), on_reconnected, shim);
}

static void fill_status(struct shim *shim, Micropod__Sandbox__V1__StatusResponse *resp)
{
	const struct sandbox_state *st = &shim->box.state;

	resp->transport =
		(char *)(shim->transport == VM_TRANSPORT_VSOCK ? "vsock" : "virtio-serial");
	resp->vsock_path = (char *)shim_vsock_path(shim);
	resp->vmm_pid = (uint32_t)st->vmm_pid;
	resp->net_pid = (uint32_t)st->net_pid;
	resp->accel = (char *)accel_name(shim->accel);
	resp->vmm = shim->vmm_version ? shim->vmm_version : (char *)shim->driver->kind->word;
}

/* Changes */

static void on_changed(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct err err = ERR_INIT;

	if (status->code != RPC_OK)
		err_set(&err, EIO, "%s", status->message);
	shim_changed(arg, status->code == RPC_OK ? NULL : &err);
}

static void ignore_answer(struct rpc_call *call, const ProtobufCMessage *msg, const uint8_t *raw,
	size_t len, void *arg)
{
}

static const struct rpc_call_ops change_ops = { .message = ignore_answer, .done = on_changed };

static void ask_to_change(struct shim_change *change, const char *path,
	const ProtobufCMessageDescriptor *out, const ProtobufCMessage *req)
{
	struct rpc_call_opts opts = { .deadline = deadline_in(SHIM_CALL_DEADLINE),
		.retry = RPC_RETRY_NEVER };
	struct err err = ERR_INIT;
	struct rpc_call *call;

	if (!change->shim->agent || rpc_channel_call(change->shim->agent, path, out, &opts,
					    &change_ops, change, &call) < 0) {
		err_set(&err, EAGAIN, "the agent is not connected");
		shim_changed(change, &err);
		return;
	}
	rpc_call_send(call, req);
	rpc_call_half_close(call);
	rpc_call_start(call);
}

void shim_change_container(struct shim *shim, struct shim_change *change)
{
	Micropod__Agent__V1__PauseContainerRequest pause =
		MICROPOD__AGENT__V1__PAUSE_CONTAINER_REQUEST__INIT;
	Micropod__Agent__V1__ResumeContainerRequest resume =
		MICROPOD__AGENT__V1__RESUME_CONTAINER_REQUEST__INIT;
	Micropod__Agent__V1__UpdateContainerRequest update =
		MICROPOD__AGENT__V1__UPDATE_CONTAINER_REQUEST__INIT;
	Micropod__Agent__V1__Resources limits = MICROPOD__AGENT__V1__RESOURCES__INIT;
	char cpuset[CPUSET_TEXT];

	pause.container_id = resume.container_id = update.container_id =
		(char *)sandbox_container_id(&shim->box.config);
	switch (change->kind) {
	case SHIM_PAUSE:
		ask_to_change(change, "/micropod.agent.v1.Agent/PauseContainer",
			&micropod__agent__v1__pause_container_response__descriptor, &pause.base);
		break;
	case SHIM_UNPAUSE:
		ask_to_change(change, "/micropod.agent.v1.Agent/ResumeContainer",
			&micropod__agent__v1__resume_container_response__descriptor, &resume.base);
		break;
	default:
		/* All of them: what had no limit so far may get one. */
		container_request_limits(shim, true, &limits, cpuset);
		update.resources = &limits;
		ask_to_change(change, "/micropod.agent.v1.Agent/UpdateContainer",
			&micropod__agent__v1__update_container_response__descriptor, &update.base);
	}
}

/* The machine stays as large as it was started. */
static int check_limits(const struct shim *shim, struct err *err)
{
	const struct sandbox_config *c = &shim->box.config;
	unsigned cpus = (unsigned)((c->cpu_milli + 999) / 1000);

	if (c->memory > shim->machine.memory)
		return err_set(err, ENOSPC,
			"the VM of sandbox '%s' runs with %llu MiB: stop it first to give it more",
			c->name, (unsigned long long)(shim->machine.memory / MIB));
	if (cpus > shim->machine.cpus)
		return err_set(err, ENOSPC,
			"the VM of sandbox '%s' runs with %u CPUs: stop it first to give it more",
			c->name, shim->machine.cpus);
	return 0;
}

const struct shim_backend shim_vm = {
	.in_pod = &shim_member,
	.boot = boot,
	.runs = runs,
	.kill = kill_vm,
	.clean_up = clean_up,
	.reconnect = reconnect,
	.fill_status = fill_status,
	.change = shim_change_container,
	.check_limits = check_limits,
};
