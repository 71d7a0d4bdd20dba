/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-serial port to the shim: one byte stream for ever, over which sessions follow each
 * other. Each begins with the greeting of io/greeting.h; what came before it is dropped.
 */
#pragma once

#include "base/err.h"
#include "io/stream.h"

#define SERIAL_PORT_NAME "micropod.agent"

struct serial;

struct serial_ops {
	/* A session begins. stream is the callee's (rpc_server_add_stream()); freeing it ends the
	 * session and the port waits for a greeting again. 0 or -errno: the session is given up. */
	int (*begin)(void *arg, struct io_stream *stream);
	/* The peer has gone or greets anew while a session is open: end it now, free its stream. */
	void (*end)(void *arg);
	void *arg;
};

/* Finds the port by name below class_dir ("/sys/class/virtio-ports"), waiting for a kernel event
 * until deadline, and opens it. The fd, CLOEXEC and non-blocking, or -errno with err. */
int serial_open_port(const char *class_dir, const char *name, int64_t deadline, struct err *err);

/* Serves sessions on fd, which it takes over (also on failure): a character device, or a socket in
 * tests. ops is copied. 0 or -errno. */
int serial_new(struct loop *loop, int fd, const struct serial_ops *ops, struct serial **ret_serial);

/* Ends the session if there is one (end is called). Returns NULL. */
struct serial *serial_free(struct serial *serial);
