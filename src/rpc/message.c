/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding. protobuf-c unpacks whatever is well-formed: it checks no UTF-8, ends strings at their
 * first NUL, recurses as deep as the bytes say, and allocates for two bytes of an empty submessage
 * a whole struct. So the bytes are walked once before, along the message's descriptor, and unpacked
 * into an arena with a budget that depends on the message's length.
 */
#include "rpc/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/limits.h"
#include "base/parse.h"

struct rpc_arena_chunk {
	struct rpc_arena_chunk *next;
	size_t cap; /* of all of it */
	_Alignas(16) uint8_t data[];
};

static void *arena_alloc(void *arg, size_t size)
{
	struct rpc_arena *arena = arg;
	struct rpc_arena_chunk *chunk;
	size_t need = (size + 15) & ~(size_t)15, room, cap;
	uint8_t *p = arena->at;

	if (size > arena->budget)
		return NULL;
	if (need <= (size_t)(arena->end - p)) {
		arena->at = p + need;
		arena->budget -= MIN(need, arena->budget);
		return p;
	}
	room = MAX(need, MIN(arena->budget, 32 * KIB));
	chunk = rpc_mem_take(sizeof(*chunk) + room, &cap);
	if (!chunk)
		return NULL;
	chunk->cap = cap;
	arena->budget -= MIN(need, arena->budget);
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	if (room - need > (size_t)(arena->end - arena->at)) {
		arena->at = chunk->data + need;
		arena->end = chunk->data + room;
	}
	return chunk->data;
}

static void arena_free(void *arg, void *p)
{
}

void rpc_arena_init(struct rpc_arena *arena, size_t message_len)
{
	size_t budget;

	if (__builtin_mul_overflow(message_len, LIMIT_RPC_DECODED_RATIO, &budget))
		budget = LIMIT_RPC_DECODED;
	arena->allocator = (ProtobufCAllocator){ arena_alloc, arena_free, arena };
	arena->budget = MIN(budget + MIB, LIMIT_RPC_DECODED);
	arena->chunks = NULL;
	arena->at = arena->first;
	arena->end = arena->first + sizeof(arena->first);
}

void rpc_arena_deinit(struct rpc_arena *arena)
{
	while (arena->chunks) {
		struct rpc_arena_chunk *next = arena->chunks->next;

		rpc_mem_give(arena->chunks, arena->chunks->cap);
		arena->chunks = next;
	}
}

static int read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t c;

		if (*p == end)
			return -EBADMSG;
		c = *(*p)++;
		if (shift < 64)
			value |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*ret_value = value;
			return 0;
		}
	}
	return -EBADMSG;
}

/* Moves *p behind a value that is no length-prefixed one. */
static int skip_value(const uint8_t **p, const uint8_t *end, unsigned wire_type)
{
	uint64_t ignored;
	size_t n;

	switch (wire_type) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		return read_varint(p, end, &ignored);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		n = 8;
		break;
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		n = 4;
		break;
	default: /* groups are of proto2 */
		return -EBADMSG;
	}
	if ((size_t)(end - *p) < n)
		return -EBADMSG;
	*p += n;
	return 0;
}

static int check(
	const ProtobufCMessageDescriptor *type, const uint8_t *p, size_t len, unsigned depth)
{
	const uint8_t *end = p + len;

	if (depth > LIMIT_RPC_NESTING)
		return -E2BIG;
	while (p < end) {
		const ProtobufCFieldDescriptor *field;
		uint64_t tag, n;
		int r = read_varint(&p, end, &tag);

		if (r < 0 || !(tag >> 3) || tag >> 3 > UINT32_MAX >> 3)
			return -EBADMSG;
		if ((tag & 7) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
			r = skip_value(&p, end, tag & 7);
			if (r < 0)
				return r;
			continue;
		}
		r = read_varint(&p, end, &n);
		if (r < 0 || n > (size_t)(end - p))
			return -EBADMSG;
		field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
		if (field && field->type == PROTOBUF_C_TYPE_STRING) {
			if (!utf8_valid(p, n) || memchr(p, '\0', n))
				return -EILSEQ;
		} else if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
			r = check(field->descriptor, p, n, depth + 1);
			if (r < 0)
				return r;
		}
		p += n;
	}
	return 0;
}

int rpc_message_decode(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
	struct rpc_arena *arena, ProtobufCMessage **ret_msg)
{
	int r = check(type, data, len, 0);

	if (r < 0)
		return r;
	*ret_msg = protobuf_c_message_unpack(type, &arena->allocator, len, data);
	if (*ret_msg)
		return 0;
	/* protobuf-c does not say why. What fits its wire format and was refused has used the
	 * budget up. */
	return arena->budget < 4 * KIB || arena->budget < len ? -E2BIG : -EBADMSG;
}

int rpc_gzip(const void *data, size_t len, struct rpc_buf *out)
{
	z_stream z = { .next_in = (void *)(uintptr_t)data, .avail_in = (uInt)len };
	size_t bound;
	int r;

	if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	bound = deflateBound(&z, (uLong)len);
	z.next_out = rpc_buf_reserve(out, bound);
	z.avail_out = (uInt)bound;
	r = z.next_out ? deflate(&z, Z_FINISH) : Z_MEM_ERROR;
	if (r == Z_STREAM_END)
		rpc_buf_grow(out, z.total_out);
	deflateEnd(&z);
	return r == Z_STREAM_END ? 0 : -ENOMEM;
}

int rpc_gunzip(const uint8_t *data, size_t len, size_t max, struct rpc_buf *out)
{
	z_stream z = { .next_in = (void *)(uintptr_t)data, .avail_in = (uInt)len };
	int r = Z_OK, result = 0;

	if (inflateInit2(&z, 15 + 32) != Z_OK)
		return -ENOMEM;
	while (r == Z_OK && result == 0) {
		/* One byte beyond max shows that there is more. */
		size_t room = MIN(MAX(len, 4 * KIB), max + 1 - out->len);

		z.next_out = rpc_buf_reserve(out, room);
		z.avail_out = (uInt)room;
		if (!z.next_out) {
			result = -ENOMEM;
			break;
		}
		r = inflate(&z, Z_NO_FLUSH);
		rpc_buf_grow(out, room - z.avail_out);
		if (out->len > max)
			result = -E2BIG;
		else if (r == Z_OK && z.avail_out)
			r = Z_BUF_ERROR; /* the input ended before the stream did */
	}
	inflateEnd(&z);
	if (result == 0 && (r != Z_STREAM_END || z.avail_in))
		result = r == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
	return result;
}
