/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock(7) listener. AF_VSOCK has no owner on the host: any user there may connect, so only the
 * host's CID is taken and a key, told over the serial port, must come with the first call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/loop.h"

#define VSOCK_PORT	   1024
#define VSOCK_KEY_SIZE	   32
#define VSOCK_KEY_METADATA "micropod-key-bin"

struct vsock;

/*
 * Listens on port for any CID; each connection from the host is handed to accepted (which takes
 * over fd), others are closed. 0 or -errno with err (-EAFNOSUPPORT: no vsock in this kernel).
 */
int vsock_new(struct loop *loop, unsigned port, void (*accepted)(void *arg, int fd), void *arg,
	struct vsock **ret_vsock, struct err *err);
struct vsock *vsock_free(struct vsock *vsock);

/* Whether both keys are equal, in a time that does not depend on where they differ; false unless
 * both are VSOCK_KEY_SIZE long. */
bool vsock_key_equal(const void *a, size_t a_len, const void *b, size_t b_len);
