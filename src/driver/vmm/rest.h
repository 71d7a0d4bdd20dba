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

/* Paths in the VM's run folder, the same inside and outside of the confinement. */
struct rest_paths {
	char api[108], vsock[108];
};

struct vm;

/* What a driver says of its VMM. */
struct rest_vmm {
	const struct vmm_kind *kind;
	const char *base; /* URL that requests begin with: "http://localhost" */
	/* The key of an answer's JSON that says what went wrong; NULL: the answer is text. */
	const char *fault;
	/* Its guests have no end of their own after a panic: it is ended then. */
	bool ends_panics;
	/* Appends its arguments behind the program's name. 0 or -ENOMEM. */
	int (*arguments)(const struct rest_paths *paths, struct strv *argv);
	/* Queues the requests that make and boot the VM. 0 or -ENOMEM. */
	int (*ask)(struct vm *vm, const struct rest_paths *paths, const struct vm_config *config);
};

/* As driver.h's identity, of a VMM whose VMs cannot be saved: -ENOTSUP with err. */
int rest_no_identity(const struct vmm_kind *kind, struct err *err);

/*
 * As driver.h's start: checks what the VMM can, makes its part of run_dir, starts it confined, with
 * its disks, kernel, initramfs, /dev/kvm and the folder of its sockets under the names that they
 * have outside, and queues what `ask` requests.
 */
int rest_start(const struct rest_vmm *vmm, struct loop *loop, const struct vm_config *config,
	const struct vm_events *events, struct vm **ret_vm, struct err *err);

/*
 * Queues a request: sent when the API's socket is there and those before have been answered well.
 * body is consumed, NULL for none. done (may be NULL) hears of a success; a failure ends the VM,
 * with what the VMM said of it as the reason, unless failed is given, which hears of it instead. 0
 * or -ENOMEM.
 */
int rest_request(struct vm *rest, const char *method, const char *path, json_t *body,
	void (*done)(void *arg), void (*failed)(void *arg, const struct err *err), void *arg);

/* driver.h's */
void rest_open_session(struct vm *rest, enum vm_transport transport, bool reconnect,
	int64_t deadline, void (*cb)(struct io_stream *stream, const struct err *err, void *arg),
	void *arg);
void rest_kill(struct vm *rest);
pid_t rest_pid(const struct vm *rest);
void rest_free(struct vm *rest);
