/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of the gRPC wire format (gRPC PROTOCOL-HTTP2.md) that stand in header values. Internal to
 * rpc. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "rpc/status.h"

#define WIRE_TIMEOUT_MAX 24 /* bytes for wire_timeout_format(), NUL included */

/* Appends text with all but printable ASCII, and '%', as %XX. */
void wire_percent_encode(struct strbuf *out, const char *text);
/*
 * Decodes into out (size bytes, NUL included), cut at a character's end. A wrong escape stays as it
 * is; what is not UTF-8 then, and a NUL, become '?'.
 */
void wire_percent_decode(const uint8_t *in, size_t len, char *out, size_t size);

/* Standard alphabet, without padding, as gRPC asks senders. */
void wire_base64_encode(struct strbuf *out, const void *data, size_t len);
/* With or without padding. 0 (bytes appended to out) or -EINVAL; memory through strbuf_error(). */
int wire_base64_decode(struct strbuf *out, const uint8_t *in, size_t len);

/* grpc-timeout ("100m", at most 8 digits): nanoseconds, clamped to INT64_MAX. 0 or -EINVAL. */
int wire_timeout_parse(const uint8_t *in, size_t len, int64_t *ret_ns);
/* Rounded up, so that a server never gives up before the client; at least "1n". */
void wire_timeout_format(int64_t ns, char out[static WIRE_TIMEOUT_MAX]);

/* application/grpc, alone or with +proto or parameters. */
bool wire_content_type_ok(const uint8_t *in, size_t len);
/* Whether a comma separated list has the word. */
bool wire_list_has(const uint8_t *in, size_t len, const char *word);

/* How a call ended that an HTTP proxy answered, or HTTP/2 reset (PROTOCOL-HTTP2.md,
 * http-grpc-status-mapping.md). */
enum rpc_code wire_code_from_http(unsigned status);
enum rpc_code wire_code_from_h2(uint32_t error_code);
