/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding: the first byte says what. */
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "rpc/message.h"
#include "rpc/meta.h"
#include "rpc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size)
{
	ProtobufCMessage *msg = NULL;
	struct rpc_arena arena;

	rpc_arena_init(&arena, size);
	rpc_message_decode(&grpc__reflection__v1__server_reflection_response__descriptor, data,
		size, &arena, &msg);
	rpc_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rpc_buf plain = { 0 };
	struct rpc_meta meta = { 0 };
	char text[100];
	int64_t ns;

	if (!size)
		return 0;
	switch (data[0] % 4) {
	case 0:
		decode(data + 1, size - 1);
		break;
	case 1:
		rpc_gunzip(data + 1, size - 1, MIB, &plain);
		break;
	case 2:
		rpc_meta_add_wire(&meta, (const uint8_t *)"x-bin", 5, data + 1, size - 1);
		break;
	default:
		wire_percent_decode(data + 1, size - 1, text, sizeof(text));
		wire_timeout_parse(data + 1, size - 1, &ns);
		wire_content_type_ok(data + 1, size - 1);
		wire_list_has(data + 1, size - 1, "gzip");
	}
	rpc_buf_deinit(&plain);
	rpc_meta_deinit(&meta);
	return 0;
}
