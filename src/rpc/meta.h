/* SPDX-License-Identifier: Apache-2.0 */
/* Custom metadata of a call. Internal to rpc. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

struct rpc_meta_item {
	size_t key, value,
		len; /* offsets into data; the key ends with NUL, and so does the value */
};

struct rpc_meta {
	struct strbuf data;
	struct rpc_meta_item *items;
	size_t n, cap;
};

void rpc_meta_deinit(struct rpc_meta *m);

/* Whether key ends in -bin. */
bool rpc_meta_key_binary(const char *key, size_t len);

/* For sending: checks key and value as call.h says and keeps them as they go on the wire. 0,
 * -EINVAL, -ENOBUFS, -ENOMEM. */
int rpc_meta_add(struct rpc_meta *m, const char *key, const void *value, size_t len);
/* As received, kept as the application sees it: decodes -bin values, which may be several with
 * commas between. 0, -EINVAL, -ENOBUFS, -ENOMEM. */
int rpc_meta_add_wire(
	struct rpc_meta *m, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len);

const char *rpc_meta_key(const struct rpc_meta *m, size_t i);
const void *rpc_meta_value(const struct rpc_meta *m, size_t i);
/* The nth value under key or NULL; *ret_len may be NULL. */
const void *rpc_meta_find(const struct rpc_meta *m, const char *key, size_t n, size_t *ret_len);
