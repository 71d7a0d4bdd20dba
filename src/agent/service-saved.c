/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that is saved and goes on, perhaps many times at once. Quiesce leaves nothing open that
 * would be in the saved state and wrong later: no session, no disk's old contents. Resumed is one
 * call, so that it costs one round trip, and is done again without harm.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/launch.h"
#include "agent/mounts.h"
#include "agent/resume.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fs.h"

/* Going on, the disks are others: not one block of these may be remembered. */
static int forget_disks(struct err *err)
{
	auto_closedir DIR *dir = opendir("/sys/class/block");
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		char path[300];
		auto_close int fd = -1;

		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, BLKFLSBUF, 0) < 0)
			return err_errno(err, errno, "cannot flush the buffers of '%s'", path);
	}
	return 0;
}

/* The peer has the answer: it is told nothing more, and the next greeting finds no session. */
static void on_leave(struct loop_defer *defer)
{
	struct agent *agent = container_of(defer, struct agent, leave_session);

	if (agent->session)
		rpc_conn_close(agent->session);
	agent->session = NULL;
}

static void on_quiesced(struct rpc_call *call, const struct rpc_status *status, void *arg)
{
	struct agent *agent = arg;

	if (agent->quiesce == call)
		agent->quiesce = rpc_call_unref(call);
	if (status->code == RPC_OK)
		loop_defer_queue(agent->loop, &agent->leave_session, on_leave);
}

static const struct rpc_call_ops quiesce_ops = { .done = on_quiesced };

static void answer(struct rpc_call *call)
{
	API(QuiesceResponse) out = MICROPOD__AGENT__V1__QUIESCE_RESPONSE__INIT;

	sync();
	rpc_call_reply(call, &out.base);
}

static void on_rehearsal_staged(void *arg, const struct failure *f)
{
	struct agent *agent = arg;

	if (!agent->quiesce)
		return;
	if (f)
		reply_failure(agent->quiesce, f);
	else
		answer(agent->quiesce);
}

static void on_staged(void *arg, const struct failure *failure)
{
	struct agent *agent = arg;
	const struct launch_stage_spec rehearsal = {
		.id = "rehearsal", .bundle = LAUNCH_REHEARSAL_BUNDLE, .cgroups_path = "/rehearsal"
	};
	struct failure f = failure ? *failure : FAILURE_INIT;
	int r = failure ? -failure->err.code : fs_make_dirs(LAUNCH_REHEARSAL_ROOT, 0700);

	if (r == 0)
		r = launch_stage_new(
			agent->loop, &rehearsal, on_rehearsal_staged, agent, &agent->rehearsal, &f);
	else if (!failure)
		failure_set(&f, FAILURE_UNKNOWN, -r, "bundle", "rehearsal", "cannot make '%s': %s",
			LAUNCH_REHEARSAL_ROOT, strerror(-r));
	if (r < 0 && agent->quiesce)
		reply_failure(agent->quiesce, &f);
}

/* The container that every start from this machine will ask for. */
static int stage(struct agent *agent, const API(QuiesceRequest) * req, struct failure *f)
{
	auto_free char *bundle = NULL, *cgroups_path = NULL;
	struct launch_stage_spec spec = { .id = req->container_id, .disks = req->disks };
	int r;

	if (!api_id_valid(req->container_id) || !req->disks)
		return failure_set(f, FAILURE_INVALID, EINVAL,
			req->disks ? "container_id" : "disks", "",
			"a container to prepare needs a valid id and disks");
	if (asprintf(&bundle, "%s/%s", agent->containers_dir, req->container_id) < 0 ||
		asprintf(&cgroups_path, "%s/%s", agent->cgroup_parent, req->container_id) < 0)
		return failure_set(f, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	r = fs_make_dirs(bundle, 0700);
	if (r < 0)
		return failure_set(f, FAILURE_UNKNOWN, -r, "bundle", req->container_id,
			"cannot make '%s': %s", bundle, strerror(-r));
	spec.bundle = bundle;
	spec.cgroups_path = cgroups_path;
	agent->stage = launch_stage_free(agent->stage);
	agent->rehearsal = launch_stage_free(agent->rehearsal);
	return launch_stage_new(agent->loop, &spec, on_staged, agent, &agent->stage, f);
}

void service_quiesce(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(QuiesceRequest) *req = (const void *)msg;
	struct agent *agent = arg;
	struct failure f = FAILURE_INIT;
	struct err err = ERR_INIT;
	char byte;

	if (!agent->pid1) {
		reply_error(call, FAILURE_CONFLICT, EPERM, "quiesce", "",
			"this machine is not the agent's");
		return;
	}
	if (!list_empty(&agent->containers) || agent->quiesce) {
		reply_error(call, FAILURE_CONFLICT, EBUSY, "quiesce", "",
			"there are containers: only a machine without is saved");
		return;
	}
	/* A generator that is not ready yet cannot be made anew later. */
	if (getrandom(&byte, 1, GRND_NONBLOCK) != 1) {
		reply_error(call, FAILURE_UNKNOWN, EAGAIN, "quiesce", "",
			"the machine has no random numbers yet");
		return;
	}
	if (forget_disks(&err) < 0) {
		reply_error(call, FAILURE_UNKNOWN, err.code, "quiesce", "", "%s", err.msg);
		return;
	}
	mounts_remember_disks();
	/* A runtime makes its containers itself. */
	if (!*req->container_id || !agent->builtin) {
		rpc_call_set_ops(call, &quiesce_ops, agent);
		answer(call);
		return;
	}
	if (stage(agent, req, &f) < 0) {
		reply_failure(call, &f);
		return;
	}
	agent->quiesce = rpc_call_ref(call);
	rpc_call_set_ops(call, &quiesce_ops, agent);
}

static int become(struct agent *agent, const API(ResumedRequest) * req, struct err *err)
{
	int r = 0;

	if (req->entropy.len < ENTROPY_SIZE_MIN || req->entropy.len > ENTROPY_SIZE_MAX)
		return err_set(err, EINVAL, "entropy: must be %d to %d bytes", ENTROPY_SIZE_MIN,
			ENTROPY_SIZE_MAX);
	if (req->machine_id.len != 0 && req->machine_id.len != MACHINE_ID_SIZE)
		return err_set(err, EINVAL, "machine_id: must be %d bytes", MACHINE_ID_SIZE);
	/* First: what follows may use random numbers. */
	r = resume_entropy(req->entropy.data, req->entropy.len, err);
	if (r == 0 && req->machine_id.len)
		r = resume_machine_id(req->machine_id.data, err);
	if (r == 0 && req->network)
		r = service_set_network(agent, req->network, err);
	return r;
}

void service_resumed(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(ResumedRequest) *req = (const void *)msg;
	API(ResumedResponse) out = MICROPOD__AGENT__V1__RESUMED_RESPONSE__INIT;
	API(InfoResponse) info = MICROPOD__AGENT__V1__INFO_RESPONSE__INIT;
	struct agent *agent = arg;
	struct err err = ERR_INIT;
	struct utsname uts;

	if (!agent->pid1) {
		reply_error(call, FAILURE_CONFLICT, EPERM, "resumed", "",
			"this machine is not the agent's");
		return;
	}
	if (!req->generation) {
		reply_error(call, FAILURE_INVALID, EINVAL, "generation", "",
			"generation: must not be 0");
		return;
	}
	if (req->generation != agent->generation && become(agent, req, &err) < 0) {
		reply_error(call, err.code == EINVAL ? FAILURE_INVALID : FAILURE_UNKNOWN, err.code,
			"resumed", "", "%s", err.msg);
		return;
	}
	agent->generation = req->generation;
	service_fill_info(agent, &uts, &info);
	out.info = &info;
	rpc_call_reply(call, &out.base);
}
