/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMM that is told over HTTP on a unix socket what to do: its process, confined; its requests,
 * one after the other; the guest's console, which is its output; the agent behind its vsock. What
 * the drivers of such VMMs have in common: each is a list of requests and a few words.
 */
#pragma once

#include <jansson.h>

#include "base/strv.h"
#include "driver/confine.h"
#include "driver/driver.h"

/* What a driver says of its VMM. */
struct rest_vmm {
	const struct vmm_kind *kind;
	const char *base; /* URL that requests begin with: "http://localhost" */
	/* The key of an answer's JSON that says what went wrong; NULL: the answer is text. */
	const char *fault;
	/* Its guests have no end of their own after a panic: it is ended then. */
	bool ends_panics;
};

/* Paths in the VM's run folder, the same inside and outside of the confinement. */
struct rest_paths {
	char api[108], vsock[108];
};

struct rest;

/* Refuses what no VMM of these can, or needs what this host has not. 0 or -ENOTSUP with err. */
int rest_check(const struct vmm_kind *kind, const struct vm_config *config, struct err *err);
/* As driver.h's identity, of a VMM whose VMs cannot be saved: -ENOTSUP with err. */
int rest_no_identity(const struct vmm_kind *kind, struct err *err);

/* Makes the VM's part of run_dir, empty, and its paths. 0 or -errno with err. */
int rest_make_paths(const char *run_dir, struct rest_paths *ret_paths, struct err *err);

/* What every VMM needs: its libraries, its disks, kernel, initramfs, /dev/kvm and the folder of its
 * sockets, all under the names that they have outside. 0 or -ENOSPC. */
int rest_confine(
	struct confine_spec *spec, const struct vm_config *config, const struct rest_paths *paths);

/*
 * Starts the VMM: spec says how (program, argv and binds), and is borrowed until return. vm is what
 * events are told for. 0 or -errno with err.
 */
int rest_start(struct loop *loop, struct vm *vm, const struct rest_vmm *vmm,
	const struct confine_spec *spec, const struct rest_paths *paths,
	const struct vm_events *events, struct rest **ret_rest, struct err *err);

/*
 * Queues a request: sent when the API's socket is there and those before have been answered well.
 * body is consumed, NULL for none. done (may be NULL) hears of a success; a failure ends the VM,
 * with what the VMM said of it as the reason, unless failed is given, which hears of it instead. 0
 * or -ENOMEM.
 */
int rest_request(struct rest *rest, const char *method, const char *path, json_t *body,
	void (*done)(void *arg), void (*failed)(void *arg, const struct err *err), void *arg);

/* driver.h's */
void rest_open_session(struct rest *rest, enum vm_transport transport, int64_t deadline,
	void (*cb)(struct io_stream *stream, const struct err *err, void *arg), void *arg);
void rest_kill(struct rest *rest);
pid_t rest_pid(const struct rest *rest);
/* Ends it, waits, frees. Returns NULL. */
struct rest *rest_free(struct rest *rest);
