/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a vsock packet (virtio 1.2, 5.10.6). No I/O. */
#pragma once

#include <stdint.h>

#define VSOCK_HEADER   44
#define VSOCK_CID_HOST 2

enum vsock_op {
	VSOCK_INVALID,
	VSOCK_REQUEST,
	VSOCK_RESPONSE,
	VSOCK_RST,
	VSOCK_SHUTDOWN,
	VSOCK_RW,
	VSOCK_CREDIT_UPDATE,
	VSOCK_CREDIT_REQUEST,
	VSOCK_OP_MAX
};

#define VSOCK_TYPE_STREAM 1

/* Flags of VSOCK_SHUTDOWN: what its sender will not do any more. */
#define VSOCK_NO_RECEIVE (1u << 0)
#define VSOCK_NO_SEND	 (1u << 1)

struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* of what follows the header */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc; /* the sender's room for the stream ... */
	uint32_t fwd_cnt;   /* ... and bytes of it taken out of there so far */
};

void vsock_packet_read(const uint8_t in[static VSOCK_HEADER], struct vsock_packet *ret_packet);
void vsock_packet_write(const struct vsock_packet *packet, uint8_t out[static VSOCK_HEADER]);
