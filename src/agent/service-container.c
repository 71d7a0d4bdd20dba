/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/container.h"
#include "agent/service.h"
#include "oci/signal.h"

static struct container *find(struct rpc_call *call, struct agent *agent, const char *id)
{
	struct container *c = container_find(agent, id);

	if (!c)
		reply_error(call, FAILURE_NOT_FOUND, ENOENT, "container_id", id,
			"no container '%s'", id);
	return c;
}

/*
 * An operation goes on when its call is cancelled, so its callback holds a reference to the call,
 * and answering one that is over does nothing.
 */

struct creation {
	struct rpc_call *call;
	int64_t asked; /* 0: no steps are wanted */
	char id[LIMIT_ID + 1];
};

static void fill_steps(
	const struct creation *x, const struct enter_times *times, API(CreationSteps) * out)
{
	out->now = clock_monotonic();
	out->asked = x->asked;
	out->taken = times->taken;
	out->disks_mounted = times->disks;
	out->root_entered = times->root;
	out->user_found = times->user;
	out->rights_dropped = times->rights;
}

static void on_created(void *arg, struct container *c, const struct failure *f)
{
	struct creation *x = arg;
	API(CreateContainerResponse) out = MICROPOD__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;
	API(CreationSteps) steps = MICROPOD__AGENT__V1__CREATION_STEPS__INIT;
	API(Failure) failure;

	out.container_id = x->id;
	if (f && f->kind != FAILURE_SPAWN) {
		reply_failure(x->call, f);
	} else {
		out.status = f ? "FAILED" : c->create_only ? "CREATED" : "RUNNING";
		if (f) {
			reply_fill_failure(&failure, f);
			out.failure = &failure;
			out.error_message = failure.message;
		} else {
			out.pid = (uint32_t)c->pid;
		}
		if (!f && x->asked && c->times.taken) {
			fill_steps(x, &c->times, &steps);
			out.steps = &steps;
		}
		rpc_call_reply(x->call, &out.base);
	}
	rpc_call_unref(x->call);
	free(x);
}

void service_create_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(CreateContainerRequest) *req = (const void *)msg;
	struct creation *x = calloc(1, sizeof(*x));
	struct failure f = FAILURE_INIT;
	int r;

	if (!x) {
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
		return;
	}
	snprintf(x->id, sizeof(x->id), "%s", req->container_id);
	if (req->steps)
		x->asked = clock_monotonic();
	r = container_create(agent, req, (struct container_done){ on_created, x }, &f);
	if (r < 0) {
		reply_failure(call, &f);
		free(x);
		return;
	}
	x->call = rpc_call_ref(call);
}

static void on_started(void *arg, struct container *c, const struct failure *f)
{
	struct rpc_call *call = arg;
	API(StartContainerResponse) out = MICROPOD__AGENT__V1__START_CONTAINER_RESPONSE__INIT;

	if (f) {
		reply_failure(call, f);
	} else {
		out.pid = (uint32_t)c->pid;
		rpc_call_reply(call, &out.base);
	}
	rpc_call_unref(call);
}

void service_start_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(StartContainerRequest) *req = (const void *)msg;
	struct container *c = find(call, agent, req->container_id);
	struct failure f = FAILURE_INIT;

	if (!c)
		return;
	if (container_start(c, (struct container_done){ on_started, call }, &f) < 0)
		reply_failure(call, &f);
	else
		rpc_call_ref(call);
}

static void on_deleted(void *arg, struct container *c, const struct failure *f)
{
	struct rpc_call *call = arg;
	API(DeleteContainerResponse) out = MICROPOD__AGENT__V1__DELETE_CONTAINER_RESPONSE__INIT;

	if (f)
		reply_failure(call, f);
	else
		rpc_call_reply(call, &out.base);
	rpc_call_unref(call);
}

void service_delete_container(struct rpc_call *call, const ProtobufCMessage *msg, void *agent)
{
	const API(DeleteContainerRequest) *req = (const void *)msg;
	struct container *c = find(call, agent, req->container_id);
	struct failure f = FAILURE_INIT;

	if (!c)
		return;
	rpc_call_ref(call);
	if (container_delete(c, req->force, (struct container_done){ on_deleted, call }, &f) < 0) {
		reply_failure(call, &f);
		rpc_call_unref(call);
	}
}

/* Stopping goes on without its caller: what was asked for is done, and the kill comes. */

struct stopping {
	struct rpc_call *call;
	struct process_watch watch;
	struct loop_timer grace;
	struct agent *agent;
	char id[LIMIT_ID + 1];
};

static void tell(struct stopping *s, const char *stage, const struct process_exit *how)
{
	API(StopContainerEvent) event = MICROPOD__AGENT__V1__STOP_CONTAINER_EVENT__INIT;
	API(Exit) out;

	event.stage = (char *)stage;
	if (how) {
		reply_fill_exit(&out, how);
		event.exit = &out;
	}
	rpc_call_send(s->call, &event.base);
}

static void on_stop_change(struct process_watch *watch)
{
	struct stopping *s = container_of(watch, struct stopping, watch);
	struct process *p = watch->process;

	if (!process_exit_known(p))
		return;
	tell(s, "stopped", &p->exit);
	rpc_call_finish_code(s->call, RPC_OK, "%s", "");
	loop_timer_disarm(&s->grace);
	process_unwatch(&s->watch);
	rpc_call_unref(s->call);
	free(s);
}

static void on_grace(struct loop_timer *timer)
{
	struct stopping *s = container_of(timer, struct stopping, grace);
	struct container *c = container_find(s->agent, s->id);

	if (c && container_init(c) == s->watch.process &&
		s->watch.process->state != PROCESS_EXITED) {
		container_kill(c);
		tell(s, "killed", NULL);
	}
}

void service_stop_container(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	const API(StopContainerRequest) *req = (const void *)msg;
	struct agent *agent = arg;
	struct container *c = find(call, agent, req->container_id);
	struct stopping *s;
	int signal;

	if (!c)
		return;
	signal = c->stop_signal;
	if (*req->signal && oci_signal_parse(req->signal, &signal) < 0) {
		reply_error(call, FAILURE_INVALID, EINVAL, "signal", "", "signal: '%s' is none",
			req->signal);
		return;
	}
	s = container_init(c)->pid ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		reply_error(call, FAILURE_CONFLICT, EBUSY, "state", c->id,
			"container '%s' is being created", c->id);
		return;
	}
	s->call = rpc_call_ref(call);
	s->agent = agent;
	snprintf(s->id, sizeof(s->id), "%s", c->id);
	process_watch(container_init(c), &s->watch, on_stop_change);
	/* One that stands still could not act on the signal. It may have no group of its own. */
	(void)cgroup_freeze(&c->cgroup, false);
	if (container_init(c)->state != PROCESS_EXITED && req->grace_ns != 0 &&
		container_signal(c, signal) == 0) {
		tell(s, "signalled", NULL);
		if (req->grace_ns > 0)
			loop_timer_arm(
				agent->loop, &s->grace, deadline_in(req->grace_ns), on_grace);
	} else if (container_init(c)->state != PROCESS_EXITED) {
		container_kill(c);
		tell(s, "killed", NULL);
	}
	process_notify(container_init(c));
}

/* Listing */

static int add_labels(API(Container) * out, const struct strv *labels)
{
	size_t n = labels->n / 2;

	out->labels = calloc(n + 1, sizeof(*out->labels));
	for (size_t i = 0; out->labels && i < n; i++) {
		API(Container__LabelsEntry) *e = malloc(sizeof(*e));

		if (!e)
			return -ENOMEM;
		*e = (API(
			Container__LabelsEntry))MICROPOD__AGENT__V1__CONTAINER__LABELS_ENTRY__INIT;
		e->key = strdup(labels->v[2 * i]);
		e->value = strdup(labels->v[2 * i + 1]);
		out->labels[out->n_labels++] = e;
		if (!e->key || !e->value)
			return -ENOMEM;
	}
	return out->labels ? 0 : -ENOMEM;
}

/* All of it is malloc'd, as protobuf_c_message_free_unpacked() wants it. */
static API(Container) * describe(const struct container *c)
{
	API(Container) *out = malloc(sizeof(*out));

	if (!out)
		return NULL;
	*out = (API(Container))MICROPOD__AGENT__V1__CONTAINER__INIT;
	out->container_id = strdup(c->id);
	out->state = strdup(container_state_name(c));
	out->pid = container_init(c)->state == PROCESS_EXITED ? 0 : (uint32_t)c->pid;
	out->created_ns = c->created;
	if (container_init(c)->state == PROCESS_EXITED && (out->exit = malloc(sizeof(*out->exit))))
		reply_fill_exit(out->exit, &container_init(c)->exit);
	if (!out->container_id || !out->state || add_labels(out, &c->labels) < 0) {
		protobuf_c_message_free_unpacked(&out->base, NULL);
		return NULL;
	}
	return out;
}

void service_list_containers(struct rpc_call *call, const ProtobufCMessage *msg, void *arg)
{
	struct agent *agent = arg;
	API(ListContainersResponse) *out = malloc(sizeof(*out));
	struct container *c;

	if (out) {
		*out = (API(
			ListContainersResponse))MICROPOD__AGENT__V1__LIST_CONTAINERS_RESPONSE__INIT;
		out->containers = calloc(agent->n_containers + 1, sizeof(*out->containers));
	}
	list_foreach (c, &agent->containers, link) {
		API(Container) *one = out && out->containers ? describe(c) : NULL;

		if (one)
			out->containers[out->n_containers++] = one;
	}
	if (out && out->n_containers == agent->n_containers)
		rpc_call_reply(call, &out->base);
	else
		reply_error(call, FAILURE_UNKNOWN, ENOMEM, "", "", "out of memory");
	if (out)
		protobuf_c_message_free_unpacked(&out->base, NULL);
}
