/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

int api_add_bytes(struct strv *sv, const ProtobufCBinaryData *bytes)
{
	if (bytes->len && memchr(bytes->data, 0, bytes->len))
		return -EINVAL;
	return strv_addn(sv, bytes->len ? (const char *)bytes->data : "", bytes->len);
}

int api_dup_bytes(const ProtobufCBinaryData *bytes, char **ret)
{
	char *copy;

	if (bytes->len && memchr(bytes->data, 0, bytes->len))
		return -EINVAL;
	copy = strndup(bytes->len ? (const char *)bytes->data : "", bytes->len);
	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool api_id_valid(const char *id)
{
	size_t n = strlen(id);

	if (n == 0 || n > LIMIT_ID || !is_alnum(id[0]))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_alnum(id[i]) && !strchr("_.-", id[i]))
			return false;
	return true;
}

static void hash_append(ProtobufCBuffer *buffer, size_t len, const uint8_t *data)
{
	struct {
		ProtobufCBuffer base;
		uint64_t hash;
	} *b = (void *)buffer;

	for (size_t i = 0; i < len; i++)
		b->hash = (b->hash ^ data[i]) * 0x100000001b3;
}

uint64_t api_fingerprint(const ProtobufCMessage *msg)
{
	struct {
		ProtobufCBuffer base;
		uint64_t hash;
	} b = { { hash_append }, 0xcbf29ce484222325 };

	protobuf_c_message_pack_to_buffer(msg, &b.base);
	return b.hash;
}
