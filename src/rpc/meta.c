/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "rpc/wire.h"

void rpc_meta_deinit(struct rpc_meta *m)
{
	strbuf_deinit(&m->data);
	free(m->items);
	*m = (struct rpc_meta){ 0 };
}

bool rpc_meta_key_binary(const char *key, size_t len)
{
	return len > 4 && memcmp(key + len - 4, "-bin", 4) == 0;
}

static int add_item(struct rpc_meta *m, size_t key, size_t value)
{
	if (strbuf_error(&m->data) < 0)
		return -ENOMEM;
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 4;
		struct rpc_meta_item *items = reallocarray(m->items, cap, sizeof(*items));

		if (!items)
			return -ENOMEM;
		m->items = items;
		m->cap = cap;
	}
	/* The last byte added is the NUL behind the value. */
	m->items[m->n++] = (struct rpc_meta_item){ key, value, m->data.len - value - 1 };
	return 0;
}

static int check_room(const struct rpc_meta *m, size_t more)
{
	if (m->n >= LIMIT_RPC_HEADER_COUNT || more > LIMIT_RPC_HEADER_LIST ||
		m->data.len + more > LIMIT_RPC_HEADER_LIST)
		return -ENOBUFS;
	return 0;
}

/* Names that HTTP/2 or gRPC give a meaning of their own. */
static bool reserved(const char *key)
{
	static const char *const words[] = { "te", "content-type", "content-length", "user-agent",
		"host", "connection", "keep-alive", "proxy-connection", "transfer-encoding",
		"upgrade" };

	if (strncmp(key, "grpc-", 5) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(key, words[i]) == 0)
			return true;
	return false;
}

static bool key_ok(const char *key)
{
	if (!*key || reserved(key))
		return false;
	for (const char *p = key; *p; p++)
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9') && *p != '-' &&
			*p != '_' && *p != '.')
			return false;
	return true;
}

static bool text_ok(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			return false;
	/* HTTP takes spaces at the ends for none of the value's (RFC 9110, 5.5). */
	return !len || (value[0] != ' ' && value[len - 1] != ' ');
}

int rpc_meta_add(struct rpc_meta *m, const char *key, const void *value, size_t len)
{
	size_t key_len = strlen(key), at = m->data.len;
	bool binary = rpc_meta_key_binary(key, key_len);
	int r;

	if (!key_ok(key) || (!binary && !text_ok(value, len)))
		return -EINVAL;
	r = check_room(
		m, key_len + 2 + (binary && len < LIMIT_RPC_HEADER_LIST ? len * 4 / 3 + 1 : len));
	if (r < 0)
		return r;
	strbuf_add(&m->data, key, key_len + 1);
	if (binary)
		wire_base64_encode(&m->data, value, len);
	else
		strbuf_add(&m->data, value, len);
	strbuf_addc(&m->data, '\0');
	return add_item(m, at, at + key_len + 1);
}

static int add_binary(
	struct rpc_meta *m, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	for (size_t i = 0;;) {
		const uint8_t *comma = len > i ? memchr(value + i, ',', len - i) : NULL;
		size_t end = comma ? (size_t)(comma - value) : len, from = i, at = m->data.len;
		int r;

		while (from < end && value[from] == ' ')
			from++;
		strbuf_add(&m->data, key, key_len);
		strbuf_addc(&m->data, '\0');
		r = wire_base64_decode(&m->data, value + from, end - from);
		strbuf_addc(&m->data, '\0');
		if (r == 0)
			r = check_room(m, 0);
		if (r == 0)
			r = add_item(m, at, at + key_len + 1);
		if (r < 0 || !comma)
			return r;
		i = end + 1;
	}
}

int rpc_meta_add_wire(
	struct rpc_meta *m, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	size_t at = m->data.len;
	int r = check_room(m, key_len + len + 2);

	if (r < 0)
		return r;
	if (rpc_meta_key_binary((const char *)key, key_len))
		return add_binary(m, key, key_len, value, len);
	strbuf_add(&m->data, key, key_len);
	strbuf_addc(&m->data, '\0');
	strbuf_add(&m->data, value, len);
	strbuf_addc(&m->data, '\0');
	return add_item(m, at, at + key_len + 1);
}

const char *rpc_meta_key(const struct rpc_meta *m, size_t i)
{
	return m->data.data + m->items[i].key;
}

const void *rpc_meta_value(const struct rpc_meta *m, size_t i)
{
	return m->data.data + m->items[i].value;
}

const void *rpc_meta_find(const struct rpc_meta *m, const char *key, size_t n, size_t *ret_len)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(rpc_meta_key(m, i), key) == 0 && n-- == 0) {
			if (ret_len)
				*ret_len = m->items[i].len;
			return rpc_meta_value(m, i);
		}
	return NULL;
}
