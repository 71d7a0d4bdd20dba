/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/strbuf.h"

#define TYPE_URL "type.googleapis.com/micropod.agent.v1.Failure"

/* Protobuf's wire format (protobuf.dev/programming-guides/encoding): three fields are not worth a
 * generated type. */
#define FIELD_VARINT(n) ((n) << 3 | 0)
#define FIELD_BYTES(n)	((n) << 3 | 2)

static void put_varint(struct strbuf *sb, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		strbuf_addc(sb, (char)(value | 0x80));
	strbuf_addc(sb, (char)value);
}

static void put_bytes(struct strbuf *sb, unsigned field, const void *data, size_t len)
{
	put_varint(sb, FIELD_BYTES(field));
	put_varint(sb, len);
	strbuf_add(sb, data, len);
}

enum rpc_code reply_code(const struct failure *f)
{
	switch (f->kind) {
	case FAILURE_INVALID:
		return RPC_INVALID_ARGUMENT;
	case FAILURE_NOT_FOUND:
		return RPC_NOT_FOUND;
	case FAILURE_CONFLICT:
		return f->err.code == EEXIST ? RPC_ALREADY_EXISTS : RPC_FAILED_PRECONDITION;
	case FAILURE_LIMIT:
		return RPC_RESOURCE_EXHAUSTED;
	case FAILURE_TIMEOUT:
		return RPC_DEADLINE_EXCEEDED;
	case FAILURE_SPAWN:
		return RPC_FAILED_PRECONDITION;
	default:
		return rpc_code_from_errno(f->err.code);
	}
}

/* Messages quote paths and words of strangers: what is not UTF-8 in them may not go into a string
 * field. */
static void make_utf8(char *s)
{
	if (utf8_valid(s, strlen(s)))
		return;
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			*s = '?';
}

void reply_fill_failure(API(Failure) * out, const struct failure *f)
{
	*out = (API(Failure))MICROPOD__AGENT__V1__FAILURE__INIT;
	out->kind = (API(Failure__Kind))f->kind;
	out->errno_value = f->err.code;
	out->step = (char *)f->step;
	out->object = (char *)f->object;
	out->message = (char *)f->err.msg;
}

void reply_failure(struct rpc_call *call, const struct failure *failure)
{
	struct failure f = *failure;
	struct rpc_status status = { 0 };
	auto_strbuf struct strbuf any = STRBUF_INIT, out = STRBUF_INIT;
	auto_free uint8_t *packed = NULL;
	API(Failure) msg;
	size_t len;

	make_utf8(f.step);
	make_utf8(f.object);
	make_utf8(f.err.msg);
	reply_fill_failure(&msg, &f);
	status.code = reply_code(&f);
	memcpy(status.message, f.err.msg, sizeof(status.message));
	len = protobuf_c_message_get_packed_size(&msg.base);
	packed = malloc(len + 1);
	if (packed) {
		protobuf_c_message_pack(&msg.base, packed);
		put_bytes(&any, 1, TYPE_URL, strlen(TYPE_URL));
		put_bytes(&any, 2, packed, len);
		put_varint(&out, FIELD_VARINT(1));
		put_varint(&out, status.code);
		put_bytes(&out, 2, status.message, strlen(status.message));
		put_bytes(&out, 3, any.data, any.len);
	}
	/* Without memory the status goes without details. */
	if (packed && strbuf_error(&any) == 0 && strbuf_error(&out) == 0) {
		status.details_len = out.len;
		status.details = (uint8_t *)strbuf_finish(&out);
	}
	rpc_call_finish(call, &status);
	rpc_status_deinit(&status);
}

void reply_error(struct rpc_call *call, enum failure_kind kind, int code, const char *step,
	const char *object, const char *fmt, ...)
{
	char text[LIMIT_ERR_MESSAGE];
	struct failure f = FAILURE_INIT;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	failure_set(&f, kind, code, step, object, "%s", text);
	reply_failure(call, &f);
}

void reply_fill_exit(API(Exit) * out, const struct process_exit *exit)
{
	*out = (API(Exit))MICROPOD__AGENT__V1__EXIT__INIT;
	out->code = exit->code;
	out->signal = exit->signal;
	out->oom_killed = exit->oom_killed;
	out->core_dumped = exit->core_dumped;
	out->timed_out = exit->timed_out;
	out->started_ns = exit->started;
	out->exited_ns = exit->ended;
}
