/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/packet.h"

#include <endian.h>
#include <linux/virtio_vsock.h>
#include <string.h>

#include "base/macro.h"

static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HEADER, "as on the wire");

void vsock_packet_read(const uint8_t in[static VSOCK_HEADER], struct vsock_packet *p)
{
	struct virtio_vsock_hdr h;

	memcpy(&h, in, sizeof(h));
	*p = (struct vsock_packet){
		.src_cid = le64toh(h.src_cid),
		.dst_cid = le64toh(h.dst_cid),
		.src_port = le32toh(h.src_port),
		.dst_port = le32toh(h.dst_port),
		.len = le32toh(h.len),
		.type = le16toh(h.type),
		.op = le16toh(h.op),
		.flags = le32toh(h.flags),
		.buf_alloc = le32toh(h.buf_alloc),
		.fwd_cnt = le32toh(h.fwd_cnt),
	};
}

void vsock_packet_write(const struct vsock_packet *p, uint8_t out[static VSOCK_HEADER])
{
	struct virtio_vsock_hdr h = {
		.src_cid = htole64(p->src_cid),
		.dst_cid = htole64(p->dst_cid),
		.src_port = htole32(p->src_port),
		.dst_port = htole32(p->dst_port),
		.len = htole32(p->len),
		.type = htole16(p->type),
		.op = htole16(p->op),
		.flags = htole32(p->flags),
		.buf_alloc = htole32(p->buf_alloc),
		.fwd_cnt = htole32(p->fwd_cnt),
	};

	memcpy(out, &h, sizeof(h));
}
